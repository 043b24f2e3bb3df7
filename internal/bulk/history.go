package bulk

import (
	"context"
	"time"
)

// HistoryRecord is one finished thing (a stopped task) kept after it left the store.
type HistoryRecord struct {
	Account, Region string
	// Kind is the noun ("task"), ID unique within account, region and kind.
	Kind, ID string
	At       time.Time
	Data     []byte
}

// History keeps finished records by time.
type History interface {
	// Put stores records; the same (account, region, kind, id) again replaces.
	Put(ctx context.Context, records []HistoryRecord) error
	// Get returns one record, or ErrNotFound.
	Get(ctx context.Context, account, region, kind, id string) (HistoryRecord, error)
	// Trim removes records of a kind older than before.
	Trim(ctx context.Context, account, region, kind string, before time.Time) error
}
