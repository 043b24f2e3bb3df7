package nodestate

import (
	"bytes"
	"encoding/json"
	"maps"
)

// Entries are a kind's state: JSON by key.
type Entries map[string]json.RawMessage

// message is one line of the stream. One without a kind says that the server is there.
type message struct {
	Kind string `json:"kind,omitempty"`
	// Reset: what was before does not count.
	Reset  bool     `json:"reset,omitempty"`
	Put    Entries  `json:"put,omitempty"`
	Delete []string `json:"delete,omitempty"`
}

// diff is what takes one set of entries to another.
func diff(kind string, from, to Entries) message {
	m := message{Kind: kind, Put: Entries{}}
	for key, now := range to {
		if before, ok := from[key]; !ok || !bytes.Equal(before, now) {
			m.Put[key] = now
		}
	}
	for key := range from {
		if _, ok := to[key]; !ok {
			m.Delete = append(m.Delete, key)
		}
	}
	return m
}

func (m *message) empty() bool { return !m.Reset && len(m.Put) == 0 && len(m.Delete) == 0 }

// apply returns the entries after the message.
func (m *message) apply(entries Entries) Entries {
	next := Entries{}
	if !m.Reset {
		next = maps.Clone(entries)
	}
	if next == nil {
		next = Entries{}
	}
	maps.Copy(next, m.Put)
	for _, key := range m.Delete {
		delete(next, key)
	}
	return next
}
