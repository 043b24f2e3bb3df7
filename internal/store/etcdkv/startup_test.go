package etcdkv_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"longshore.dev/longshore/internal/disktest"
	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/store/etcdkv"
)

// filled makes a data directory that holds a few keys.
func filled(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	kv := openEmbedded(t, etcdkv.Embedded{Dir: dir})
	for i := range 200 {
		if _, err := kv.Commit(t.Context(), []store.Txn{{Ops: []store.Op{{Key: fmt.Sprintf("k/%03d", i), Value: []byte(strings.Repeat("v", 1000))}}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// wantRefused opens the directory and wants an error that is kind and says each
// of the words.
func wantRefused(t *testing.T, dir string, kind error, words ...string) {
	t.Helper()
	kv, err := etcdkv.OpenEmbedded(t.Context(), etcdkv.Embedded{Dir: dir})
	if err == nil {
		kv.Close()
		t.Fatal("the store started")
	}
	if kind != nil && !errors.Is(err, kind) {
		t.Errorf("error %v, want one that is %v", err, kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %v does not say %q", err, w)
		}
	}
}

func TestReopenFindsEverything(t *testing.T) {
	dir := filled(t)
	kv := openEmbedded(t, etcdkv.Embedded{Dir: dir})
	entries, _, err := kv.Range(t.Context(), "k/")
	if err != nil || len(entries) != 200 {
		t.Errorf("%d entries, %v; want 200", len(entries), err)
	}
}

func TestLockedDirectory(t *testing.T) {
	dir := t.TempDir()
	kv := openEmbedded(t, etcdkv.Embedded{Dir: dir})
	wantRefused(t, dir, store.ErrLocked, dir, fmt.Sprintf("process %d", os.Getpid()), "stop it")
	kv.Close()
	openEmbedded(t, etcdkv.Embedded{Dir: dir})
}

func TestNewerFormat(t *testing.T) {
	dir := filled(t)
	format := filepath.Join(dir, "FORMAT")
	if err := os.WriteFile(format, []byte("longshore-store 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, dir, store.ErrNewerFormat, "format 2", "format 1")
	if err := os.WriteFile(format, []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, dir, store.ErrDamaged, "something else")
	if err := os.Remove(format); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, dir, store.ErrDamaged, "FORMAT", "backup")
}

func TestDamagedFiles(t *testing.T) {
	overwrite := func(at int64, what []byte) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt(what, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	truncate := func(size int64) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			if err := os.Truncate(path, size); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(t *testing.T, path string) {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	garbage := []byte(strings.Repeat("\xde\xad\xbe\xef", 16<<10))
	tests := []struct {
		name, glob string
		damage     func(t *testing.T, path string)
	}{
		{"database overwritten", "etcd/member/snap/db", overwrite(0, garbage)},
		{"database cut off", "etcd/member/snap/db", truncate(5000)},
		{"database empty but for its head", "etcd/member/snap/db", truncate(16 << 10)},
		{"database overwritten in the middle", "etcd/member/snap/db", overwrite(12<<10, garbage)},
		{"log overwritten at its start", "etcd/member/wal/*.wal", overwrite(0, garbage)},
		{"log overwritten in the middle", "etcd/member/wal/*.wal", overwrite(60000, garbage)},
		{"log is gone", "etcd/member/wal/*.wal", remove},
		{"log directory is gone", "etcd/member/wal", remove},
		{"database is gone", "etcd/member/snap/db", remove},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filled(t)
			files, err := filepath.Glob(filepath.Join(dir, tt.glob))
			if err != nil || len(files) == 0 {
				t.Fatalf("no file %s: %v", tt.glob, err)
			}
			tt.damage(t, files[0])
			wantRefused(t, dir, store.ErrDamaged, dir, "backup")
		})
	}
}

// logOf returns the path and contents of the only log file, and where they end.
func logOf(t *testing.T, dir string) (path string, log []byte, end int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "etcd/member/wal/*.wal"))
	if err != nil || len(files) != 1 {
		t.Fatalf("log files: %v, %v", files, err)
	}
	log, err = os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	end = len(strings.TrimRight(string(log), "\x00"))
	return files[0], log, (end + 7) / 8 * 8
}

// TestTornLog: what a power loss leaves, a log with a last record of which only
// some sectors were written, is no damage.
func TestTornLog(t *testing.T) {
	dir := filled(t)
	path, log, end := logOf(t, dir)
	binary.LittleEndian.PutUint64(log[end:], 4000) // the record's length
	sector := (end/512 + 1) * 512
	for i := end + 8; i < sector; i++ {
		log[i] = 0xaa
	}
	if err := os.WriteFile(path, log, 0o600); err != nil {
		t.Fatal(err)
	}
	kv := openEmbedded(t, etcdkv.Embedded{Dir: dir})
	if entries, _, err := kv.Range(t.Context(), "k/"); err != nil || len(entries) != 200 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
}

// TestLogThatLostItsEnd: a log that lacks what the database has looks like a
// torn one to etcd, but acknowledged writes may be gone.
func TestLogThatLostItsEnd(t *testing.T) {
	dir := filled(t)
	path, log, end := logOf(t, dir)
	clear(log[(end-3000)/512*512 : end])
	if err := os.WriteFile(path, log, 0o600); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, dir, store.ErrDamaged, "ends at entry", "backup")
}

// smallDisk mounts a file system of its own.
func smallDisk(t *testing.T, options string, flags uintptr) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a small file system")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", flags, options); err != nil {
		t.Skipf("cannot mount a tmpfs here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func TestFullDiskAtStart(t *testing.T) {
	dir := smallDisk(t, "size=32m", 0)
	wantRefused(t, filepath.Join(dir, "data"), store.ErrNoSpace, "MB free", "160 MB")
}

// TestFullDiskIsWaitedFor: writes are refused with the reason, reads go on, and with
// space again so do writes, without a new start.
func TestFullDiskIsWaitedFor(t *testing.T) {
	dir := smallDisk(t, "size=320m", 0)
	kv := openEmbedded(t, etcdkv.Embedded{Dir: filepath.Join(dir, "data")})
	put := func(key string) error {
		_, err := kv.Commit(t.Context(), []store.Txn{{Ops: []store.Op{{Key: key, Value: []byte("v")}}}})
		return err
	}
	for round := range 3 {
		if err := put(fmt.Sprint("before/", round)); err != nil {
			t.Fatal(err)
		}
		ballast := filepath.Join(dir, "ballast")
		fill(t, ballast)
		for range 20 {
			if err := put("refused"); !errors.Is(err, store.ErrNoSpace) || !strings.Contains(err.Error(), "MB free") {
				t.Fatalf("a write to a full disk: %v", err)
			}
		}
		if entries, _, err := kv.Range(t.Context(), ""); err != nil || len(entries) != round+1 {
			t.Fatalf("reading while the disk is full: %d entries, %v", len(entries), err)
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	}
	if err := kv.Err(); err != nil {
		t.Fatalf("the store has stopped: %v", err)
	}
}

// TestDiskFullBeforeTheCommit: etcd commits to its database a while after it has said
// yes, perhaps on a disk that others have filled in between; it must not end then.
func TestDiskFullBeforeTheCommit(t *testing.T) {
	dir := disktest.Ext4(t, 400, 1000)
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	kv := openEmbedded(t, etcdkv.Embedded{Dir: filepath.Join(dir, "data")})
	ballast := filepath.Join(dir, "ballast")
	for round := range 10 {
		for n := range 8 {
			txn := store.Txn{Ops: []store.Op{{Key: fmt.Sprint(round, "/", n), Value: make([]byte, 100<<10)}}}
			if _, err := kv.Commit(t.Context(), []store.Txn{txn}); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		filled := time.Now()
		fillAtOnce(t, ballast)
		for committed := filled; !committed.After(filled) && kv.Err() == nil; time.Sleep(time.Millisecond) {
			info, err := os.Stat(filepath.Join(dir, "data", "etcd", "member", "snap", "db"))
			if err != nil || time.Since(filled) > 10*time.Second {
				t.Fatalf("round %d: etcd has not committed: %v", round, err)
			}
			committed = info.ModTime()
		}
		if err := kv.Err(); err != nil {
			t.Fatalf("round %d: the store has stopped: %v", round, err)
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDiskFillsUp: the writers stop with a clear error in place of a stack
// trace, and with space again everything acknowledged is there.
func TestDiskFillsUp(t *testing.T) {
	dir := smallDisk(t, "size=320m", 0)
	data, ballast := filepath.Join(dir, "data"), filepath.Join(dir, "ballast")
	var acked [crashWriters]int
	t.Setenv(crashPadEnv, "65536")
	run := crashRun(t, data, &acked, crashOptions{stopAfter: -1, acking: func() { fill(t, ballast) }})
	if run.acks == 0 || !strings.Contains(run.stderr, "the disk of "+data+" has ") || strings.Contains(run.stderr, "goroutine") {
		t.Errorf("after %d acknowledged writes the process said %q", run.acks, run.stderr)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	crashRun(t, data, &acked, crashOptions{})
}

// fillAtOnce takes what the disk has left in less time than etcd waits with a commit.
func fillAtOnce(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size, at := int64(64<<20), int64(0); size >= 4096; {
		if err := syscall.Fallocate(int(f.Fd()), 0, at, size); err != nil {
			size /= 2
			continue
		}
		at += size
	}
}

// fill writes a file until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	chunk := make([]byte, 64<<10)
	for err == nil {
		_, err = f.Write(chunk)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

func TestForbiddenDirectory(t *testing.T) {
	if os.Geteuid() == 0 {
		// root may write anywhere but into a read-only file system.
		dir := smallDisk(t, "size=1m", syscall.MS_RDONLY)
		wantRefused(t, filepath.Join(dir, "data"), nil, "may not write", dir, "owner or mode")
		return
	}
	dir := filepath.Join(t.TempDir(), "closed")
	if err := os.Mkdir(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, filepath.Join(dir, "data"), nil, "may not write", dir, "owner or mode")
}
