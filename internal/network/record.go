package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

const recordVersion = 1

// phase is how far a sandbox has come; it moves forward only. Removing is not
// written down, but stands for a record that cannot be read.
type phase string

const (
	phaseMaking   phase = "making"
	phaseReady    phase = "ready"
	phaseRemoving phase = "removing"
)

// record is what is kept of a sandbox, written before each action it announces.
// It lies in RunDir and is not synced: it needs to outlive this process, not the
// kernel whose objects it describes.
type record struct {
	Version int     `json:"version"`
	Boot    string  `json:"boot"`
	Phase   phase   `json:"phase"`
	Request Request `json:"request"`
	Sandbox Sandbox `json:"sandbox"`
	// Link is the host's end of the veth pair, empty in host mode.
	Link string `json:"link,omitempty"`
	// Address is what the host routes to the link. It is Sandbox.Address's, but for
	// none, where only metadata's answers need it.
	Address netip.Addr `json:"address"`
}

func (r *record) id() string { return r.Request.ID }

// pooled tells whether the address is from the bridge's pool.
func (r *record) pooled() bool {
	return r.Request.Mode == ModeBridge || r.Request.Mode == ModeNone
}

// recordDir is the directory of all records of a node.
type recordDir string

func (d recordDir) path(id string) string { return filepath.Join(string(d), id+".json") }

func (d recordDir) write(r *record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("network: encode record of sandbox %s: %w", r.id(), err)
	}
	if err := writeAtomic(d.path(r.id()), b, 0o600, false); err != nil {
		return fmt.Errorf("network: write record of sandbox %s: %w", r.id(), err)
	}
	return nil
}

func (d recordDir) remove(id string) error {
	err := os.Remove(d.path(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// load returns every record. One that cannot be read comes back as a half-made
// sandbox of its id, so that it is removed with whatever exists by its names.
func (d recordDir) load() ([]*record, error) {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, fmt.Errorf("network: read the sandboxes' records: %w", err)
	}
	var out []*record
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || validID(id) != nil {
			_ = os.Remove(filepath.Join(string(d), e.Name()))
			continue
		}
		out = append(out, d.read(id))
	}
	return out, nil
}

func (d recordDir) read(id string) *record {
	r := new(record)
	b, err := os.ReadFile(d.path(id))
	if err == nil {
		err = json.Unmarshal(b, r)
	}
	if err != nil || r.Version != recordVersion || r.id() != id {
		return &record{Version: recordVersion, Phase: phaseRemoving, Request: Request{ID: id}}
	}
	return r
}

// nodeRecord is what a node keeps for good.
type nodeRecord struct {
	Version      int          `json:"version"`
	Node         string       `json:"node"`
	Bridge       netip.Prefix `json:"bridge"`
	MetadataPort uint16       `json:"metadataPort"`
}

func readNodeRecord(path, node string) (nodeRecord, error) {
	fresh := nodeRecord{Version: recordVersion, Node: node}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fresh, nil
	}
	if err != nil {
		return fresh, fmt.Errorf("network: read the node's record: %w", err)
	}
	var r nodeRecord
	if err := json.Unmarshal(b, &r); err != nil {
		return fresh, fmt.Errorf("network: %s is damaged (remove it when this node has no tasks): %w", path, err)
	}
	if r.Version != recordVersion {
		return fresh, fmt.Errorf("network: %s has version %d, this program knows %d", path, r.Version, recordVersion)
	}
	if r.Node != node {
		return fresh, fmt.Errorf("network: %s belongs to node %q, not to %q", path, r.Node, node)
	}
	return r, nil
}

func (r nodeRecord) write(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("network: encode the node's record: %w", err)
	}
	if err := writeAtomic(path, b, 0o600, true); err != nil {
		return fmt.Errorf("network: write the node's record: %w", err)
	}
	return nil
}
