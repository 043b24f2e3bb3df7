package logs

import (
	"cmp"
	"iter"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"longshore.dev/longshore/internal/bulk"
	"longshore.dev/longshore/internal/store"
)

// group is a stored log group; its id is its name. Written by the operations on
// log groups only.
type group struct {
	Name string `json:"name"`
	// Generation is never used again; streams and events are kept under it.
	Generation         string              `json:"generation"`
	CreatedAt          int64               `json:"createdAt"` // ms
	RetentionDays      int32               `json:"retentionDays,omitempty"`
	Class              types.LogGroupClass `json:"class"`
	Tags               map[string]string   `json:"tags,omitempty"`
	DeletionProtection bool                `json:"deletionProtection,omitempty"`
}

// stream is a stored log stream; its id is its group's generation, "/", its name.
// Written once, by CreateLogStream.
type stream struct {
	Name       string `json:"name"`
	Generation string `json:"generation"`
	CreatedAt  int64  `json:"createdAt"` // ms
}

// deletion is the intent to remove what belonged to a deleted stream, or to a
// deleted group when Stream is empty. Written by the deleting operation, removed
// by the sweep.
type deletion struct {
	Group  string `json:"group"` // generations
	Stream string `json:"stream,omitempty"`
}

type tables struct {
	groups    *store.Table[group]
	streams   *store.Table[stream]
	deletions *store.Table[deletion]
}

func declareTables(db *store.DB) tables {
	return tables{
		groups:    store.NewTable[group](db, "logs.groups"),
		streams:   store.NewTable[stream](db, "logs.streams"),
		deletions: store.NewTable[deletion](db, "logs.deletions"),
	}
}

func streamKey(g *group, name string) string { return g.Generation + "/" + name }

func eventsOf(g *group, st *stream) bulk.StreamID {
	return bulk.StreamID{Group: g.Generation, Stream: st.Generation}
}

// group returns a log group, or ResourceNotFoundException.
func (t tables) group(r store.Reader, sc store.Scope, name string) (*group, error) {
	if g, ok := t.groups.Get(r, sc, name); ok {
		return g, nil
	}
	return nil, errNoGroup()
}

// stream returns a log stream, or ResourceNotFoundException.
func (t tables) stream(r store.Reader, sc store.Scope, g *group, name string) (*stream, error) {
	if st, ok := t.streams.Get(r, sc, streamKey(g, name)); ok {
		return st, nil
	}
	return nil, errNoStream()
}

// streamsOf returns a group's streams whose names begin with prefix, by name.
func (t tables) streamsOf(r store.Reader, sc store.Scope, g *group, prefix string) iter.Seq[*stream] {
	return func(yield func(*stream) bool) {
		for _, st := range t.streams.ListPrefix(r, sc, streamKey(g, prefix)) {
			if !yield(st) {
				return
			}
		}
	}
}

// cutoff returns the time in ms before which a group's events have expired.
func (g *group) cutoff(now int64) int64 {
	if g.RetentionDays == 0 {
		return 0
	}
	return now - int64(g.RetentionDays)*int64(24*time.Hour/time.Millisecond)
}

func (g *group) class() types.LogGroupClass { return cmp.Or(g.Class, types.LogGroupClassStandard) }
