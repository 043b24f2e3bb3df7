package control

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	iamapi "github.com/aws/aws-sdk-go-v2/service/iam"

	"longshore.dev/longshore/internal/seal"
	"longshore.dev/longshore/internal/service/iam"
)

// over is a configuration of a server over a data directory.
func over(data string, key RootKey) func(*Config) {
	return func(c *Config) { c.DataDir, c.RootKey = data, key }
}

// iamAs is IAM's API with a key.
func (r *running) iamAs(id, secret string) *iamapi.Client {
	return iamapi.New(iamapi.Options{
		Region: testRegion, BaseEndpoint: aws.String(r.Endpoint()), Retryer: aws.NopRetryer{},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: id, SecretAccessKey: secret}, nil
		}),
	})
}

func (r *running) iamAsRoot() *iamapi.Client {
	return r.iamAs(r.Access().AccessKeyID, r.Access().SecretAccessKey)
}

// user makes a user with a key.
func (r *running) user(name string) iam.AccessKey {
	r.t.Helper()
	if _, err := r.iamAsRoot().CreateUser(context.Background(), &iamapi.CreateUserInput{UserName: &name}); err != nil {
		r.t.Fatal(err)
	}
	out, err := r.iamAsRoot().CreateAccessKey(context.Background(), &iamapi.CreateAccessKeyInput{UserName: &name})
	if err != nil {
		r.t.Fatal(err)
	}
	return iam.AccessKey{ID: *out.AccessKey.AccessKeyId, Secret: *out.AccessKey.SecretAccessKey}
}

// signsIn tells whether a user's key is good.
func (r *running) signsIn(k iam.AccessKey) error {
	_, err := r.iamAs(k.ID, k.Secret).GetUser(context.Background(), &iamapi.GetUserInput{})
	if err != nil && strings.Contains(err.Error(), "AccessDenied") {
		return nil // it is known, and has no policy
	}
	return err
}

func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func TestRootKeyFromEverySource(t *testing.T) {
	raw := bytes.Repeat([]byte{3}, seal.KeySize)
	dir := t.TempDir()
	passphrase := filepath.Join(dir, "passphrase")
	if err := os.WriteFile(passphrase, []byte("correct horse\nand a line that is none of it"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		first, again RootKey
		file         string // in the data directory
	}{
		"a file of its own":           {file: "root.key"},
		"another file":                {first: RootKey{File: filepath.Join(dir, "elsewhere")}, again: RootKey{File: filepath.Join(dir, "elsewhere")}},
		"the environment":             {first: RootKey{Value: base64.StdEncoding.EncodeToString(raw)}, again: RootKey{Value: hex.EncodeToString(raw)}},
		"a passphrase":                {first: RootKey{Passphrase: "correct horse"}, again: RootKey{PassphraseFile: passphrase}, file: "root.key"},
		"a passphrase that was added": {again: RootKey{Passphrase: "correct horse"}, file: "root.key"},
	} {
		t.Run(name, func(t *testing.T) {
			r := serve(t, "off", func(c2 *Config) { c2.RootKey = c.first })
			user := r.user("kept")
			r.stop()
			r2 := serve(t, "off", over(r.data, c.again))
			if err := r2.signsIn(user); err != nil {
				t.Errorf("after a restart the user's key is no good: %v", err)
			}
			if _, err := ReadAccess(r.data, c.again); err != nil {
				t.Errorf("the owner can't get in: %v", err)
			}
			_, err := os.Stat(filepath.Join(r.data, "root.key"))
			if has := err == nil; has != (c.file != "") {
				t.Errorf("there is a root.key: %v", has)
			}
			if c.again.Passphrase+c.again.PassphraseFile == "" {
				return
			}
			if is, err := (seal.File{Path: filepath.Join(r.data, "root.key")}).Protected(); err != nil || !is {
				t.Errorf("the key is under its passphrase: %v, %v", is, err)
			}
		})
	}
}

func TestBadRootKeySettingsAreRefused(t *testing.T) {
	for want, key := range map[string]RootKey{
		"32 random bytes in base64 or hex": {Value: "short"},
		"leave out its file":               {Value: strings.Repeat("00", 32), File: "f"},
		"either in":                        {Passphrase: "a", PassphraseFile: "b"},
		"more than 1024 bytes":             {Passphrase: strings.Repeat("x", 2000)},
	} {
		c := Config{DataDir: t.TempDir(), Region: testRegion, Account: testAccount, RootKey: key}
		if err := c.check(); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "000000") {
			t.Errorf("%v, want one that says %q", err, want)
		}
	}
	if shown := fmt.Sprintf("%v %+v %#v", RootKey{Value: "hidden"}, RootKey{Passphrase: "hidden"}, RootKey{Value: "hidden"}); strings.Contains(shown, "hidden") {
		t.Errorf("shown as %s", shown)
	}
}

// A server without its root key waits for it, says what it can't open, and makes no
// other key: that would be the end of every secret.
func TestServerWithoutItsRootKeyWaitsForIt(t *testing.T) {
	r := serve(t, "off")
	user := r.user("kept")
	id := r.ring.KeyIDs()[0]
	r.stop()
	path := filepath.Join(r.data, "root.key")
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other := bytes.Repeat([]byte{5}, seal.KeySize)
	for name, spoil := range map[string]func() error{
		"missing":  func() error { return os.Remove(path) },
		"another":  func() error { return os.WriteFile(path, other, 0o600) },
		"cut off":  func() error { return os.WriteFile(path, kept[:7], 0o600) },
		"for all":  func() error { return os.Chmod(path, 0o644) },
		"the file": func() error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := spoil(); err != nil {
				t.Fatal(err)
			}
			var log lockedBuffer
			address := freeAddress(t)
			opened := make(chan *Server, 1)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				s, err := Open(ctx, Config{
					DataDir: r.data, Listen: address, Region: testRegion, Account: testAccount, TLS: TLS{Mode: "off"}, Log: slog.New(slog.NewTextHandler(&log, nil)),
				})
				if err != nil {
					t.Error(err)
				}
				opened <- s
			}()
			status := 0
			soon(t, "the server says that it is locked", func() bool {
				answer, err := http.Get("http://" + address + "/")
				if err != nil {
					return false
				}
				defer answer.Body.Close()
				status = answer.StatusCode
				return strings.Contains(log.String(), "goes on by itself")
			})
			if status != http.StatusServiceUnavailable {
				t.Errorf("a locked server answers %d", status)
			}
			if said := log.String(); !strings.Contains(said, path) || name != "for all" && !strings.Contains(said, id) || !strings.Contains(said, "access keys' secrets") {
				t.Errorf("it does not say where %s has to be, and what it can't open:\n%s", id, said)
			}
			if now, err := os.ReadFile(path); name == "missing" && !errors.Is(err, fs.ErrNotExist) || name == "another" && !bytes.Equal(now, other) {
				t.Error("the server made or changed the root key")
			}
			if err := errors.Join(os.RemoveAll(path), os.WriteFile(path, kept, 0o600)); err != nil {
				t.Fatal(err)
			}
			s := <-opened
			done := make(chan error, 1)
			go func() { done <- s.Run(ctx) }()
			if err := (&running{Server: s, t: t}).signsIn(user); err != nil {
				t.Errorf("when the key is back, the user's is no good: %v", err)
			}
			cancel()
			<-done
		})
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// With TLS nobody could be shown that the locked server is the server.
func TestLockedServerWithTLSAnswersNobody(t *testing.T) {
	r := serve(t, "on")
	r.stop()
	if err := os.Remove(filepath.Join(r.data, "root.key")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := Open(ctx, Config{DataDir: r.data, Listen: "127.0.0.1:0", Region: testRegion, Account: testAccount, TLS: TLS{Mode: "on"}, Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "the key of the server's authority") {
		t.Errorf("error %v, want one that names the authority's key", err)
	}
}

// While calls come, the key is rotated; afterwards nothing needs the former.
func TestRootKeyIsRotatedWhileRunning(t *testing.T) {
	for name, passphrase := range map[string]string{"plain": "", "under a passphrase": "correct horse"} {
		t.Run(name, func(t *testing.T) {
			key := RootKey{Passphrase: passphrase}
			r := serve(t, "off", func(c *Config) { c.RootKey, c.keyGrace = key, 200*time.Millisecond })
			before := r.ring.KeyIDs()[0]
			users := []iam.AccessKey{r.user("first")}
			credentialsID, err := r.iam.CredentialsID(t.Context(), "task", "role") // makes the session key
			if err != nil {
				t.Fatal(err)
			}
			access, err := ReadAccess(r.data, key)
			if err != nil {
				t.Fatal(err)
			}
			owner, err := NewClient(access)
			if err != nil {
				t.Fatal(err)
			}
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
						users = append(users, r.user(fmt.Sprint("during-", i)))
					}
				}
			}()
			info, err := owner.RotateKey(t.Context())
			if err != nil || info.Resealed < 3 || info.Keys[0] == before {
				t.Fatalf("rotated to %+v, %v", info, err)
			}
			soon(t, "the former key is let go", func() bool { return len(r.ring.KeyIDs()) == 1 })
			close(stop)
			<-stopped
			if held := r.inventory(); len(held) != 1 || held[before] != nil {
				t.Errorf("sealed are %v; the former key is %s", held, before)
			}
			if _, err := ReadAccess(r.data, key); err != nil {
				t.Errorf("the owner can't get in: %v", err)
			}
			if again, err := r.iam.CredentialsID(t.Context(), "task", "role"); err != nil || again != credentialsID {
				t.Errorf("sessions did not survive: %v", err)
			}
			r.stop()
			r2 := serve(t, "off", over(r.data, key))
			if ids := r2.ring.KeyIDs(); !slices.Equal(ids, info.Keys[:1]) {
				t.Errorf("after a restart the keys are %v, want %v", ids, info.Keys[:1])
			}
			for _, u := range users {
				if err := r2.signsIn(u); err != nil {
					t.Errorf("the key %s is no good any more: %v", u.ID, err)
				}
			}
		})
	}
}

// A rotation that was cut off goes on at the next start.
func TestRotationThatWasCutOffGoesOn(t *testing.T) {
	r := serve(t, "off")
	user := r.user("kept")
	old, err := RootKey{}.load(r.data)
	if err != nil {
		t.Fatal(err)
	}
	r.stop()
	fresh := bytes.Repeat([]byte{8}, seal.KeySize)
	if err := (seal.File{Path: filepath.Join(r.data, "root.key")}).Save([][]byte{fresh, old[0]}); err != nil {
		t.Fatal(err)
	}
	r2 := serve(t, "off", over(r.data, RootKey{}))
	soon(t, "all is sealed by the new key", func() bool { return len(r2.inventory()) == 1 && r2.inventory()[r2.ring.KeyIDs()[0]] != nil })
	if err := r2.signsIn(user); err != nil {
		t.Error(err)
	}
}

// Who keeps the key in the environment rotates it by giving both.
func TestRootKeyInTheEnvironmentIsRotatedByGivingBoth(t *testing.T) {
	one, two := strings.Repeat("01", seal.KeySize), strings.Repeat("02", seal.KeySize)
	r := serve(t, "off", func(c *Config) { c.RootKey = RootKey{Value: one} })
	user := r.user("kept")
	owner, err := NewClient(r.Access())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := owner.RotateKey(t.Context()); err == nil || !strings.Contains(err.Error(), "a comma before the one that is there") {
		t.Errorf("a rotation by command: %v", err)
	}
	r.stop()
	r2 := serve(t, "off", over(r.data, RootKey{Value: two + "," + one}))
	soon(t, "all is sealed by the new key", func() bool { return len(r2.inventory()) == 1 && r2.inventory()[r2.ring.KeyIDs()[0]] != nil })
	r2.stop()
	r3 := serve(t, "off", over(r.data, RootKey{Value: two}))
	if err := r3.signsIn(user); err != nil {
		t.Error(err)
	}
}

func TestFilesAreClosedToOthers(t *testing.T) {
	r := serve(t, "on")
	r.stop()
	open := []string{".", "etcd", "bulk", "access.sealed", "audit.log", "ca.pem"}
	for _, name := range open {
		if err := os.Chmod(filepath.Join(r.data, name), 0o777); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	r2 := serve(t, "on", over(r.data, RootKey{}))
	for _, name := range open {
		info, err := os.Stat(filepath.Join(r.data, name))
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has the mode %v", name, info.Mode())
		}
	}
	if !strings.Contains(r2.log.String(), "was open to other users") {
		t.Error("nothing is said of it")
	}
	if os.Geteuid() != 0 {
		return
	}
	strange := t.TempDir()
	if err := os.Chown(strange, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if err := prepareDir(strange, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "belongs to user 12345") {
		t.Errorf("a directory of somebody else: %v", err)
	}
}
