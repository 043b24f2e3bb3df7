package pebblebulk

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"longshore.dev/longshore/internal/bulk"
)

const crashDir = "LONGSHORE_BULK_CRASH_DIR"

// TestMain runs the process that TestKillLosesNothing kills, when asked to.
func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		appendForever(dir)
	}
	os.Exit(m.Run())
}

// appendForever appends from several goroutines and prints what was acknowledged.
func appendForever(dir string) {
	db, err := Open(dir, Options{MemTableBytes: 256 << 10})
	if err != nil {
		fmt.Println("open:", err)
		os.Exit(1)
	}
	var mu sync.Mutex
	for w := range 4 {
		go func() {
			id := bulk.StreamID{Group: "g", Stream: fmt.Sprint(w)}
			for n := 0; ; n++ {
				message := fmt.Sprintf("%d-%d %s", w, n, strings.Repeat("x", n%300))
				_, err := db.Logs().Append(context.Background(), id, []bulk.LogEvent{event(int64(n), message)})
				mu.Lock()
				if err != nil {
					fmt.Println("append:", err)
				} else {
					fmt.Printf("%d %d\n", w, n)
				}
				mu.Unlock()
			}
		}()
	}
	select {}
}

func TestKillLosesNothing(t *testing.T) {
	dir := t.TempDir()
	acknowledged := [4]int{-1, -1, -1, -1}
	for round := range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), crashDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for count := 0; lines.Scan(); count++ {
			var w, n int
			if _, err := fmt.Sscan(lines.Text(), &w, &n); err != nil {
				t.Errorf("round %d: the process said %q", round, lines.Text())
				break
			}
			acknowledged[w] = max(acknowledged[w], n)
			if count == 1500 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // killed: what it printed until then has been read
		checkAcknowledged(t, dir, acknowledged)
	}
}

// checkAcknowledged reopens the database and looks for every acknowledged event.
func checkAcknowledged(t *testing.T, dir string, acknowledged [4]int) {
	t.Helper()
	db, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	seqs := map[uint64]bool{}
	for w, last := range acknowledged {
		id := bulk.StreamID{Group: "g", Stream: fmt.Sprint(w)}
		events, err := db.Logs().Scan(t.Context(), id, bulk.LogScan{From: bulk.MinPosition, To: bulk.MaxPosition, Limit: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]bool{}
		for _, e := range events {
			if seqs[e.Seq] {
				t.Fatalf("sequence number %d was used twice", e.Seq)
			}
			seqs[e.Seq] = true
			found[strings.Fields(e.Message)[0]] = true
		}
		for n := 0; n <= last; n++ {
			if !found[fmt.Sprintf("%d-%d", w, n)] {
				t.Fatalf("stream %d: acknowledged event %d of %d is lost", w, n, last)
			}
		}
		st, err := db.Logs().Stat(t.Context(), id)
		if err != nil || st.Events != int64(len(events)) {
			t.Fatalf("stream %d: total says %d events (%v), %d are there", w, st.Events, err, len(events))
		}
	}
}

func TestSecondOpenerIsToldItIsLocked(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	if _, err := Open(dir, Options{}); !errors.Is(err, bulk.ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("second Open in this process: %v", err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	out, err := cmd.Output()
	if err == nil || !strings.Contains(string(out), "in use by another process") {
		t.Errorf("second Open in another process: %v: %s", err, out)
	}
}

func TestDamageIsReported(t *testing.T) {
	dir := t.TempDir()
	db, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	id := bulk.StreamID{Group: "g", Stream: "s"}
	for i := range 50 {
		if _, err := db.Logs().Append(t.Context(), id, benchEvents(200)); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := db.db.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	tables, _ := filepath.Glob(filepath.Join(dir, "*.sst"))
	if len(tables) == 0 {
		t.Fatal("no table was written")
	}
	for _, name := range tables {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for i := 64; i < len(data)/2; i += 128 {
			data[i] ^= 0xff
		}
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	db, err = Open(dir, Options{})
	if err == nil {
		_, err = db.Logs().Scan(t.Context(), id, bulk.LogScan{From: bulk.MinPosition, To: bulk.MaxPosition, Limit: 1 << 20})
		defer db.Close()
	}
	if !errors.Is(err, bulk.ErrDamaged) {
		t.Errorf("reading damaged tables: %v", err)
	}
}

// fullFS pretends that the disk has a given number of bytes left.
type fullFS struct {
	vfs.FS
	free atomic.Uint64
}

func (f *fullFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: f.free.Load()}, nil
}

func TestFullDiskRefusesWritesUntilThereIsRoom(t *testing.T) {
	fs := &fullFS{FS: vfs.NewMem()}
	fs.free.Store(1 << 30)
	db, err := Open("data", Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	l, id := db.Logs(), bulk.StreamID{Group: "g", Stream: "s"}
	try := func() error {
		_, err := l.Append(t.Context(), id, []bulk.LogEvent{event(1, "x")})
		return err
	}
	if err := try(); err != nil {
		t.Fatal(err)
	}
	fs.free.Store(1 << 20)
	if err := try(); !errors.Is(err, bulk.ErrFull) {
		t.Errorf("Append to a full disk: %v", err)
	}
	if err := l.Delete(t.Context(), id); err != nil {
		t.Errorf("Delete must make room on a full disk: %v", err)
	}
	fs.free.Store(1 << 30)
	if err := try(); err != nil {
		t.Errorf("Append after room was made: %v", err)
	}
	if st, err := l.Stat(t.Context(), id); err != nil || st.Events != 1 {
		t.Errorf("%d events, want the last one only (%v)", st.Events, err)
	}
}

// brokenFS fails every sync and write of a log file once it is switched on.
type brokenFS struct {
	vfs.FS
	broken atomic.Bool
}

var errBroken = errors.New("input/output error")

func (f *brokenFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, c)
	return &brokenFile{file, f}, err
}

func (f *brokenFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.ReuseForWrite(old, name, c)
	return &brokenFile{file, f}, err
}

type brokenFile struct {
	vfs.File
	fs *brokenFS
}

func (f *brokenFile) Sync() error {
	if f.fs.broken.Load() {
		return errBroken
	}
	return f.File.Sync()
}

func (f *brokenFile) SyncData() error {
	if f.fs.broken.Load() {
		return errBroken
	}
	return f.File.SyncData()
}

func TestFailedSyncStopsWritesAndKeepsReads(t *testing.T) {
	fs := &brokenFS{FS: vfs.NewMem()}
	db, err := Open("data", Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	l, id := db.Logs(), bulk.StreamID{Group: "g", Stream: "s"}
	if _, err := l.Append(t.Context(), id, []bulk.LogEvent{event(1, "kept")}); err != nil {
		t.Fatal(err)
	}
	fs.broken.Store(true)
	for range 3 {
		if _, err := l.Append(t.Context(), id, []bulk.LogEvent{event(2, "lost")}); !errors.Is(err, bulk.ErrFailed) {
			t.Fatalf("Append to a broken disk: %v", err)
		}
	}
	events, err := l.Scan(t.Context(), id, bulk.LogScan{From: bulk.MinPosition, To: bulk.MaxPosition, Limit: 10})
	if err != nil || len(events) == 0 || events[0].Message != "kept" {
		t.Errorf("Scan after a failed write: %v, %v", events, err)
	}
	if err := db.Close(); !errors.Is(err, bulk.ErrFailed) {
		t.Errorf("Close after a failed write: %v", err)
	}
}

func TestUseAfterCloseIsRefused(t *testing.T) {
	db, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	id := bulk.StreamID{Group: "g", Stream: "s"}
	if _, err := db.Logs().Append(t.Context(), id, []bulk.LogEvent{event(1, "x")}); !errors.Is(err, bulk.ErrClosed) {
		t.Errorf("Append: %v", err)
	}
	if _, err := db.Logs().Stat(t.Context(), id); !errors.Is(err, bulk.ErrClosed) {
		t.Errorf("Stat: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func event(ts int64, message string) bulk.LogEvent {
	return bulk.LogEvent{Timestamp: ts, IngestionTime: ts, Message: message}
}
