package shimrpc

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"longshore.dev/longshore/internal/runtime"
)

// TestRecordOnAFullDisk: a record that the disk has no room for leaves the former
// one as it was and nothing beside it; nor does a writer that was killed.
func TestRecordOnAFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a file system of its own needs root")
	}
	state := t.TempDir()
	if err := syscall.Mount("tmpfs", state, "tmpfs", 0, "size=8k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(state, 0); err != nil {
			t.Error(err)
		}
	})
	if err := os.Mkdir(RecordsDir(state), 0o700); err != nil {
		t.Fatal(err)
	}
	r := Record{ID: "task-0", Group: "task", Phase: runtime.PhaseCreated}
	if err := WriteRecord(state, r); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(state, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	r.Phase = runtime.PhaseRunning
	if err := WriteRecord(state, r); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("on a full disk: %v", err)
	}
	holds(t, state, "task-0.json")
	if on, err := ReadRecord(state, "task-0"); err != nil || on.Phase != runtime.PhaseCreated {
		t.Errorf("on record is %+v (%v)", on, err)
	}
	ended := r
	ended.Phase, ended.Exit = runtime.PhaseExited, &runtime.Exit{Code: 137, Lost: true}
	if err := WriteRecord(state, ended); err != nil {
		t.Errorf("the end of a container is not recorded on a full disk: %v", err)
	}
	holds(t, state, "task-0.json")
	if on, err := ReadRecord(state, "task-0"); err != nil || on.Exit == nil || on.Exit.Code != 137 {
		t.Errorf("on record is %+v (%v)", on, err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := WriteRecord(state, r); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(temporaryPath(state, "task-0"), []byte("half a rec"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := RemoveRecord(state, "task-0"); err != nil {
		t.Fatal(err)
	}
	holds(t, state)
}

// holds compares the names of the files among the records.
func holds(t *testing.T, state string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(RecordsDir(state))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(want) || len(want) == 1 && entries[0].Name() != want[0] {
		t.Errorf("the directory holds %v, want %q", entries, want)
	}
}
