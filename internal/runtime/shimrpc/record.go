package shimrpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"longshore.dev/longshore/internal/runtime"
)

// Record is what is kept on disk of a container until it is deleted. The shim
// writes it while it lives, native after it died.
type Record struct {
	ID        string        `json:"id"`
	Group     string        `json:"group"`
	Phase     runtime.Phase `json:"phase"`
	PID       int           `json:"pid,omitempty"`
	CreatedAt time.Time     `json:"createdAt"`
	StartedAt time.Time     `json:"startedAt,omitzero"`
	Exit      *runtime.Exit `json:"exit,omitempty"`
}

// Status is the record in the contract's form.
func (r Record) Status() runtime.Status {
	return runtime.Status{
		ID: r.ID, Group: r.Group, Phase: r.Phase, PID: r.PID,
		CreatedAt: r.CreatedAt, StartedAt: r.StartedAt, Exit: r.Exit,
	}
}

const recordSuffix = ".json"

// RecordsDir holds the records below a state directory.
func RecordsDir(stateDir string) string { return filepath.Join(stateDir, "containers") }

// SpoolDir holds a container's output.
func SpoolDir(stateDir, id string) string { return filepath.Join(stateDir, "spool", id) }

// GroupDir holds a group's socket and libcontainer's state.
func GroupDir(runDir, group string) string { return filepath.Join(runDir, group) }

// Names of the files in a group's directory.
const (
	SocketName = "shim.sock"
	LockName   = "lock" // locked as long as the shim lives
	LogName    = "shim.log"
)

// The cgroups of a node, a group, a container.
func NodeCgroup(node string) string         { return path.Join("/longshore", node) }
func GroupCgroup(node, group string) string { return path.Join("/longshore", node, group) }
func Cgroup(node, group, id string) string  { return path.Join("/longshore", node, group, id) }
func recordPath(stateDir, id string) string {
	return filepath.Join(RecordsDir(stateDir), id+recordSuffix)
}
func isTemporary(name string) bool             { return strings.HasPrefix(name, ".") }
func temporaryPath(stateDir, id string) string { return filepath.Join(RecordsDir(stateDir), "."+id) }

// ValidID tells whether s can be a container's or group's id: [a-z0-9-]{1,64}.
func ValidID(s string) bool {
	if len(s) == 0 || len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// WriteRecord replaces a container's record. An exit is forced to the disk; the
// earlier phases mean nothing after a power failure and are not. An error leaves
// the former record, and nothing beside it.
func WriteRecord(stateDir string, r Record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("record container %s: %w", r.ID, err)
	}
	err = writeRecord(stateDir, r, data)
	if err != nil {
		_ = os.Remove(temporaryPath(stateDir, r.ID)) // what was begun goes
	}
	if errors.Is(err, syscall.ENOSPC) && r.Exit != nil && len(data) <= block && overwriteRecord(stateDir, r.ID, data) == nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("record container %s: %w", r.ID, err)
	}
	return nil
}

// block is what a small file takes of a disk: so far it may grow on a full one.
const block = 4096

// overwriteRecord writes over the former record, which takes no space: a full disk
// must not hide that a container has ended. A power failure may damage it then. That
// counts as a container that nobody runs (see Records), which this one is.
func overwriteRecord(stateDir, id string, data []byte) error {
	f, err := os.OpenFile(recordPath(stateDir, id), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil { // in one write, with the old end blanked out
		rest := max(0, int(info.Size())-len(data))
		_, err = f.WriteAt(append(data, bytes.Repeat([]byte(" "), rest)...), 0)
	}
	return errors.Join(err, f.Sync(), f.Close())
}

func writeRecord(stateDir string, r Record, data []byte) error {
	temp := temporaryPath(stateDir, r.ID)
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && r.Exit != nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, recordPath(stateDir, r.ID)); err != nil {
		return err
	}
	if r.Exit == nil {
		return nil
	}
	return syncDir(RecordsDir(stateDir))
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// ReadRecord returns a container's record, or runtime.ErrNotFound.
func ReadRecord(stateDir, id string) (Record, error) {
	var r Record
	if !ValidID(id) {
		return r, fmt.Errorf("container id %q: %w", id, runtime.ErrNotFound)
	}
	data, err := os.ReadFile(recordPath(stateDir, id))
	if errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("container %s: %w", id, runtime.ErrNotFound)
	}
	if err != nil {
		return r, fmt.Errorf("read the record of container %s: %w", id, err)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("the record of container %s is damaged: %w", id, err)
	}
	return r, nil
}

// unknownGroup stands for the group that a damaged record does not tell.
const unknownGroup = "unknown"

// Records reads every container's record. A damaged one (its write was cut by a
// power failure) is returned as a created container that nobody runs.
func Records(stateDir string) ([]Record, error) {
	entries, err := os.ReadDir(RecordsDir(stateDir))
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	var records []Record
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), recordSuffix)
		if !ok || isTemporary(e.Name()) {
			continue
		}
		r, err := ReadRecord(stateDir, id)
		if errors.Is(err, runtime.ErrNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			r = Record{ID: id, Group: unknownGroup, Phase: runtime.PhaseCreated}
		}
		records = append(records, r)
	}
	return records, nil
}

// RemoveRecord forgets a container, and what a writer that was killed had begun.
func RemoveRecord(stateDir, id string) error {
	for _, path := range []string{temporaryPath(stateDir, id), recordPath(stateDir, id)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the record of container %s: %w", id, err)
		}
	}
	return nil
}
