package etcdkv_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/store/etcdkv"
)

// relay forwards connections and can cut them all.
type relay struct {
	net.Listener
	to string

	mu    sync.Mutex
	conns []net.Conn
	down  bool
}

func startRelay(t *testing.T, to string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{Listener: l, to: to}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil || !r.add(in, out) {
				in.Close()
				continue
			}
			wg.Go(func() { io.Copy(out, in); out.Close() })
			wg.Go(func() { io.Copy(in, out); in.Close() })
		}
	})
	t.Cleanup(func() { l.Close(); r.cut(true); wg.Wait() })
	return r
}

func (r *relay) add(conns ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down {
		for _, c := range conns {
			c.Close()
		}
		return false
	}
	r.conns = append(r.conns, conns...)
	return true
}

// cut ends all connections; while down, new ones end at once.
func (r *relay) cut(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = down
	if down {
		for _, c := range r.conns {
			c.Close()
		}
		r.conns = nil
	}
}

type record struct {
	N int `json:"n"`
}

func startDB(t *testing.T, kv store.KV) (*store.DB, *store.Table[record]) {
	t.Helper()
	db := store.New(kv, store.Options{CommitTimeout: time.Second})
	table := store.NewTable[record](db, "records")
	if err := db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db, table
}

func put(t *testing.T, db *store.DB, table *store.Table[record], id string, n int) error {
	return db.Update(t.Context(), func(tx *store.Tx) error {
		table.Put(tx, store.Scope{}, id, &record{n})
		return nil
	})
}

// TestBrokenConnection: writes fail with a clear error while the cluster is out
// of reach; afterwards the view catches up on what others wrote meanwhile, also
// when that has been compacted.
func TestBrokenConnection(t *testing.T) {
	for _, compact := range []bool{false, true} {
		t.Run(fmt.Sprintf("compacted=%v", compact), func(t *testing.T) {
			t.Parallel()
			endpoint, _ := startCluster(t, nil)
			r := startRelay(t, endpoint)
			db, table := startDB(t, openRemote(t, etcdkv.Remote{Endpoints: []string{r.Addr().String()}}))
			direct := openRemote(t, etcdkv.Remote{Endpoints: []string{endpoint}})
			otherDB, otherTable := startDB(t, direct)
			if err := put(t, db, table, "before", 1); err != nil {
				t.Fatal(err)
			}
			heard := make(chan string, 10)
			table.Subscribe(func(c store.Change[record]) { heard <- c.ID })

			r.cut(true)
			for i := range 3 {
				if err := put(t, otherDB, otherTable, fmt.Sprintf("meanwhile/%d", i), i); err != nil {
					t.Fatal(err)
				}
			}
			if compact {
				if err := direct.Compact(t.Context(), otherDB.Snapshot().Revision()); err != nil {
					t.Fatal(err)
				}
			}
			if err := put(t, db, table, "lost", 1); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("a write without a connection: %v", err)
			}
			r.cut(false)
			for i := range 3 {
				select {
				case id := <-heard:
					if want := fmt.Sprintf("meanwhile/%d", i); id != want {
						t.Errorf("heard of %s, want %s", id, want)
					}
				case <-time.After(20 * time.Second):
					t.Fatal("the watch does not recover")
				}
			}
			if err := put(t, db, table, "after", 1); err != nil {
				t.Errorf("a write after the connection came back: %v", err)
			}
		})
	}
}

// TestSharedCluster: two installations with prefixes, and a third party that
// moves the revision on, do not disturb each other.
func TestSharedCluster(t *testing.T) {
	t.Parallel()
	endpoint, _ := startCluster(t, nil)
	one, oneTable := startDB(t, openRemote(t, etcdkv.Remote{Endpoints: []string{endpoint}, Prefix: "one/"}))
	two, twoTable := startDB(t, openRemote(t, etcdkv.Remote{Endpoints: []string{endpoint}, Prefix: "two/"}))
	noise := openRemote(t, etcdkv.Remote{Endpoints: []string{endpoint}})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				noise.Commit(t.Context(), []store.Txn{{Ops: []store.Op{{Key: "noise", Value: []byte(fmt.Sprint(i))}}}})
			}
		}
	})
	increment := func(db *store.DB, table *store.Table[record]) {
		if err := db.Update(t.Context(), func(tx *store.Tx) error {
			n := 0
			if cur, ok := table.Get(tx, store.Scope{}, "counter"); ok {
				n = cur.N
			}
			table.Put(tx, store.Scope{}, "counter", &record{n + 1})
			table.Delete(tx, store.Scope{}, "absent")
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for range 15 {
				increment(one, oneTable)
				increment(two, twoTable)
			}
		})
	}
	writers.Wait()
	close(stop)
	wg.Wait()
	for i, n := range []int{count(one, oneTable), count(two, twoTable)} {
		if n != 60 {
			t.Errorf("installation %d counted %d, want 60", i+1, n)
		}
	}
}

func count(db *store.DB, table *store.Table[record]) int {
	cur, ok := table.Get(db.Snapshot(), store.Scope{}, "counter")
	if !ok {
		return 0
	}
	return cur.N
}

func TestUnreachableCluster(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	_, err = etcdkv.OpenRemote(t.Context(), etcdkv.Remote{Endpoints: []string{addr}, DialTimeout: 300 * time.Millisecond})
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "check the endpoints") {
		t.Errorf("error %v", err)
	}
	if _, err := etcdkv.OpenRemote(t.Context(), etcdkv.Remote{}); err == nil {
		t.Error("no endpoint, and no error")
	}
	missing := filepath.Join(t.TempDir(), "ca.pem")
	if _, err := etcdkv.OpenRemote(t.Context(), etcdkv.Remote{Endpoints: []string{addr}, CAFile: missing}); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("a CA file that is not there: %v", err)
	}
}

// TestRemoteWithTLSAndPassword uses a member that wants client certificates and
// a user.
func TestRemoteWithTLSAndPassword(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	server, client := ca.issue(t, "server"), ca.issue(t, "client")
	endpoint, member := startCluster(t, func(cfg *embed.Config) {
		cfg.ListenClientUrls[0].Scheme, cfg.AdvertiseClientUrls[0].Scheme = "https", "https"
		cfg.ClientTLSInfo.CertFile, cfg.ClientTLSInfo.KeyFile = server.cert, server.key
		cfg.ClientTLSInfo.TrustedCAFile, cfg.ClientTLSInfo.ClientCertAuth = ca.cert, true
	})
	enableAuth(t, member, "longshore", "correct horse")
	good := etcdkv.Remote{
		Endpoints: []string{"https://" + endpoint}, CAFile: ca.cert, CertFile: client.cert, KeyFile: client.key,
		Username: "longshore", Password: "correct horse",
	}
	kv := openRemote(t, good)
	if _, err := kv.Commit(t.Context(), []store.Txn{{Ops: []store.Op{{Key: "a", Value: []byte("1")}}}}); err != nil {
		t.Errorf("a write over TLS: %v", err)
	}
	stranger := newAuthority(t)
	strangers := stranger.issue(t, "client")
	for name, change := range map[string]func(*etcdkv.Remote){
		"wrong password":          func(r *etcdkv.Remote) { r.Password = "wrong" },
		"no user":                 func(r *etcdkv.Remote) { r.Username, r.Password = "", "" },
		"no client certificate":   func(r *etcdkv.Remote) { r.CertFile, r.KeyFile = "", "" },
		"another's certificate":   func(r *etcdkv.Remote) { r.CertFile, r.KeyFile = strangers.cert, strangers.key },
		"server of another's CA":  func(r *etcdkv.Remote) { r.CAFile = stranger.cert },
		"no TLS where it is used": func(r *etcdkv.Remote) { *r = etcdkv.Remote{Endpoints: []string{"http://" + endpoint}} },
	} {
		opts := good
		change(&opts)
		opts.DialTimeout = 500 * time.Millisecond
		kv, err := etcdkv.OpenRemote(t.Context(), opts)
		if err == nil {
			kv.Close()
			t.Errorf("%s: no error", name)
		} else if opts.Password != "" && strings.Contains(err.Error(), opts.Password) {
			t.Errorf("%s: the error shows the password", name)
		}
	}
}

func TestTooLargeForTheCluster(t *testing.T) {
	endpoint, _ := startCluster(t, nil)
	kv := openRemote(t, etcdkv.Remote{Endpoints: []string{endpoint}})
	many := store.Txn{}
	for i := range 129 {
		many.Ops = append(many.Ops, store.Op{Key: fmt.Sprint(i)})
	}
	large := store.Txn{Ops: []store.Op{{Key: "large", Value: make([]byte, store.MaxValueBytes)}}}
	for setting, txn := range map[string]store.Txn{"--max-txn-ops": many, "--max-request-bytes": large} {
		_, err := kv.Commit(t.Context(), []store.Txn{{Ops: []store.Op{{Key: "good"}}}, txn})
		if !errors.Is(err, store.ErrTooLarge) || !strings.Contains(err.Error(), setting) {
			t.Errorf("error %v, want one that says %s", err, setting)
		}
	}
	if _, err := kv.Get(t.Context(), "good"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("ErrTooLarge, and yet something was applied: %v", err)
	}
}

func writeFile(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
