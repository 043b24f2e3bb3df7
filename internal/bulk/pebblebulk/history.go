package pebblebulk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"longshore.dev/longshore/internal/bulk"
)

// History implements bulk.History. Records are found by id; an index by time
// serves Trim. Replacing a record leaves its earlier index entry behind, which
// Trim recognises by the record's own time.
type History struct{ db *DB }

var _ bulk.History = (*History)(nil)

// trimRecords bounds one trimming request.
const trimRecords = 5_000

func historyPrefix(space byte, account, region, kind string) []byte {
	b := []byte{space}
	for _, s := range []string{account, region, kind} {
		b = append(append(b, s...), 0)
	}
	return b
}

// Put implements bulk.History.
func (h *History) Put(ctx context.Context, records []bulk.HistoryRecord) error {
	r := &request{}
	for _, rec := range records {
		if err := rec.Validate(); err != nil {
			return err
		}
		r.size += len(rec.Data)
	}
	if len(records) == 0 {
		return nil
	}
	release, err := h.db.use()
	if err != nil {
		return err
	}
	defer release()
	r.apply = func(b *pebble.Batch) error {
		for _, rec := range records {
			at := binary.BigEndian.AppendUint64(nil, orderedInt(rec.At.UnixNano()))
			key := append(historyPrefix(spaceHistory, rec.Account, rec.Region, rec.Kind), rec.ID...)
			index := append(historyPrefix(spaceHistoryTime, rec.Account, rec.Region, rec.Kind), at...)
			if err := errors.Join(b.Set(key, append(at, rec.Data...), nil), b.Set(append(index, rec.ID...), nil, nil)); err != nil {
				return err
			}
		}
		return nil
	}
	if err := h.db.writer.do(ctx, r); err != nil {
		return fmt.Errorf("put %d history records: %w", len(records), err)
	}
	return nil
}

// Get implements bulk.History.
func (h *History) Get(_ context.Context, account, region, kind, id string) (bulk.HistoryRecord, error) {
	release, err := h.db.use()
	if err != nil {
		return bulk.HistoryRecord{}, err
	}
	defer release()
	value, closer, err := h.db.db.Get(append(historyPrefix(spaceHistory, account, region, kind), id...))
	if errors.Is(err, pebble.ErrNotFound) {
		return bulk.HistoryRecord{}, fmt.Errorf("history of %s %q: %w", kind, id, bulk.ErrNotFound)
	}
	if err != nil {
		return bulk.HistoryRecord{}, fmt.Errorf("history of %s %q: %w", kind, id, readError(err))
	}
	defer closer.Close()
	if len(value) < 8 {
		return bulk.HistoryRecord{}, fmt.Errorf("history of %s %q: %w", kind, id, bulk.ErrDamaged)
	}
	at := time.Unix(0, fromOrderedInt(binary.BigEndian.Uint64(value))).UTC()
	return bulk.HistoryRecord{Account: account, Region: region, Kind: kind, ID: id, At: at, Data: bytes.Clone(value[8:])}, nil
}

// Trim implements bulk.History.
func (h *History) Trim(ctx context.Context, account, region, kind string, before time.Time) error {
	release, err := h.db.use()
	if err != nil {
		return err
	}
	defer release()
	end := orderedInt(before.UnixNano())
	for more := true; more; {
		err := h.db.writer.do(ctx, &request{exclusive: true, apply: func(b *pebble.Batch) (err error) {
			more, err = h.trim(b, historyPrefix(spaceHistoryTime, account, region, kind), end)
			return err
		}})
		if err != nil {
			return fmt.Errorf("trim history of %s: %w", kind, readError(err))
		}
	}
	return nil
}

// trim removes index entries before end, and the records that are as old.
func (h *History) trim(b *pebble.Batch, prefix []byte, end uint64) (more bool, err error) {
	upper := binary.BigEndian.AppendUint64(bytes.Clone(prefix), end)
	it, err := h.db.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: upper})
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		if n++; n > trimRecords {
			return true, nil
		}
		// The record's key has the same form without the time.
		key := append([]byte{spaceHistory}, prefix[1:]...)
		key = append(key, it.Key()[len(prefix)+8:]...)
		value, closer, err := h.db.db.Get(key)
		switch {
		case errors.Is(err, pebble.ErrNotFound):
		case err != nil:
			return false, err
		default:
			old := len(value) < 8 || binary.BigEndian.Uint64(value) < end
			err = closer.Close()
			if old {
				err = errors.Join(err, b.Delete(key, nil))
			}
		}
		if err := errors.Join(ignoreNotFound(err), b.Delete(it.Key(), nil)); err != nil {
			return false, err
		}
	}
	return false, it.Error()
}

func ignoreNotFound(err error) error {
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	return err
}
