package membulk

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"longshore.dev/longshore/internal/bulk"
)

// Logs implements bulk.Logs.
type Logs struct {
	mu      sync.Mutex
	seq     uint64
	streams map[bulk.StreamID]*stream
}

type stream struct {
	events        []bulk.LogEvent // in order of position
	lastIngestion int64
}

// History implements bulk.History.
type History struct {
	mu      sync.Mutex
	records map[historyKey]bulk.HistoryRecord
}

type historyKey struct{ account, region, kind, id string }

var (
	_ bulk.Logs    = (*Logs)(nil)
	_ bulk.History = (*History)(nil)
)

// NewLogs returns an empty log store.
func NewLogs() *Logs { return &Logs{streams: map[bulk.StreamID]*stream{}} }

// NewHistory returns an empty history.
func NewHistory() *History { return &History{records: map[historyKey]bulk.HistoryRecord{}} }

// Append implements bulk.Logs.
func (l *Logs) Append(ctx context.Context, id bulk.StreamID, events []bulk.LogEvent) (uint64, error) {
	if err := id.Validate(); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if len(events) == 0 {
		return 0, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	added := slices.Clone(events)
	slices.SortStableFunc(added, func(a, b bulk.LogEvent) int {
		return bulk.LogPosition{Timestamp: a.Timestamp}.Compare(bulk.LogPosition{Timestamp: b.Timestamp})
	})
	for i := range added {
		l.seq++
		added[i].Seq = l.seq
	}
	s := l.streams[id]
	if s == nil {
		s = &stream{}
		l.streams[id] = s
	}
	for _, e := range added {
		s.lastIngestion = max(s.lastIngestion, e.IngestionTime)
	}
	s.events = append(s.events, added...)
	slices.SortFunc(s.events, func(a, b bulk.LogEvent) int { return a.Position().Compare(b.Position()) })
	return l.seq, nil
}

// Scan implements bulk.Logs.
func (l *Logs) Scan(ctx context.Context, id bulk.StreamID, scan bulk.LogScan) ([]bulk.LogEvent, error) {
	if err := id.Validate(); err != nil {
		return nil, err
	}
	if scan.Limit <= 0 {
		return nil, fmt.Errorf("scan with limit %d: %w", scan.Limit, bulk.ErrInvalid)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var inRange []bulk.LogEvent
	for _, e := range l.events(id) {
		if e.Position().Compare(scan.From) >= 0 && e.Position().Compare(scan.To) < 0 {
			inRange = append(inRange, e)
		}
	}
	if scan.Reverse {
		slices.Reverse(inRange)
	}
	var bytes int64
	for i, e := range inRange {
		bytes += e.Size()
		if i == scan.Limit || i > 0 && scan.MaxBytes > 0 && bytes > scan.MaxBytes {
			return inRange[:i], nil
		}
	}
	return inRange, nil
}

// Trim implements bulk.Logs.
func (l *Logs) Trim(_ context.Context, id bulk.StreamID, before int64) error {
	if err := id.Validate(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.streams[id]
	if s == nil {
		return nil
	}
	s.events = slices.DeleteFunc(s.events, func(e bulk.LogEvent) bool { return e.Timestamp < before })
	if len(s.events) == 0 {
		delete(l.streams, id)
	}
	return nil
}

// Delete implements bulk.Logs.
func (l *Logs) Delete(_ context.Context, id bulk.StreamID) error {
	if err := id.ValidateGroup(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for have := range l.streams {
		if matches(id, have) {
			delete(l.streams, have)
		}
	}
	return nil
}

// Stat implements bulk.Logs.
func (l *Logs) Stat(_ context.Context, id bulk.StreamID) (bulk.LogStat, error) {
	if err := id.ValidateGroup(); err != nil {
		return bulk.LogStat{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var st bulk.LogStat
	for have, s := range l.streams {
		if !matches(id, have) {
			continue
		}
		for _, e := range s.events {
			st.Bytes += e.Size()
			st.Events++
		}
		if id.Stream != "" {
			st.First, st.Last = s.events[0].Timestamp, s.events[len(s.events)-1].Timestamp
			st.LastIngestion = s.lastIngestion
		}
	}
	return st, nil
}

func (l *Logs) events(id bulk.StreamID) []bulk.LogEvent {
	if s := l.streams[id]; s != nil {
		return s.events
	}
	return nil
}

// matches tells whether want, which may name a whole group, covers have.
func matches(want, have bulk.StreamID) bool {
	return want.Group == have.Group && (want.Stream == "" || want.Stream == have.Stream)
}

// Put implements bulk.History.
func (h *History) Put(ctx context.Context, records []bulk.HistoryRecord) error {
	for _, r := range records {
		if err := r.Validate(); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range records {
		r.Data = slices.Clone(r.Data)
		r.At = r.At.UTC()
		h.records[historyKey{r.Account, r.Region, r.Kind, r.ID}] = r
	}
	return nil
}

// Get implements bulk.History.
func (h *History) Get(_ context.Context, account, region, kind, id string) (bulk.HistoryRecord, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, ok := h.records[historyKey{account, region, kind, id}]
	if !ok {
		return bulk.HistoryRecord{}, fmt.Errorf("history of %s %q: %w", kind, id, bulk.ErrNotFound)
	}
	r.Data = slices.Clone(r.Data)
	return r, nil
}

// Trim implements bulk.History.
func (h *History) Trim(_ context.Context, account, region, kind string, before time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for k, r := range h.records {
		if k.account == account && k.region == region && k.kind == kind && r.At.Before(before) {
			delete(h.records, k)
		}
	}
	return nil
}
