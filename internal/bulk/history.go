package bulk

import (
	"context"
	"fmt"
	"strings"
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

// Validate refuses records that cannot be stored.
func (r HistoryRecord) Validate() error {
	for _, s := range []string{r.Account, r.Region, r.Kind, r.ID} {
		if s == "" || len(s) > 1024 || strings.IndexByte(s, 0) >= 0 {
			return fmt.Errorf("history record %s/%s/%s/%q: want 1 to 1,024 bytes in each part, none of them NUL: %w",
				r.Account, r.Region, r.Kind, r.ID, ErrInvalid)
		}
	}
	return nil
}

// History keeps finished records by time. At is kept to the nanosecond, in UTC.
type History interface {
	// Put stores records, all or none; the same (account, region, kind, id) again
	// replaces. It answers when they are on disk.
	Put(ctx context.Context, records []HistoryRecord) error
	// Get returns one record, or ErrNotFound.
	Get(ctx context.Context, account, region, kind, id string) (HistoryRecord, error)
	// Trim removes records of a kind older than before.
	Trim(ctx context.Context, account, region, kind string, before time.Time) error
}
