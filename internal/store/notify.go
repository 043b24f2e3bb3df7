package store

import "slices"

// change is one record's change on its way to the table's subscribers.
type change struct {
	table    *table
	ref      Ref
	old, new *row
	revision int64
}

// notice is all changes of one step of the view.
type notice struct {
	revision int64
	changes  []change
}

// maxNotices bounds how far notifications may lag behind the view; then the
// view waits for them.
const maxNotices = 4096

func (t *table) subscribe(s *subscriber) (cancel func()) {
	s.since = t.db.Snapshot().revision
	t.mu.Lock()
	defer t.mu.Unlock()
	t.subscribers = append(slices.Clip(t.subscribers), s)
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if i := slices.Index(t.subscribers, s); i >= 0 {
			t.subscribers = slices.Delete(slices.Clone(t.subscribers), i, i+1)
		}
	}
}

func (t *table) notify(c change) {
	t.mu.Lock()
	subscribers := t.subscribers // replaced, never changed in place
	t.mu.Unlock()
	for _, s := range subscribers {
		if c.revision > s.since {
			s.notify(c)
		}
	}
}

// notifyLoop calls the subscribers, on a goroutine of its own and under no
// lock, so that a slow one delays neither Snapshot nor Update.
func (db *DB) notifyLoop() {
	for {
		select {
		case n := <-db.notices:
			for _, c := range n.changes {
				c.table.notify(c)
			}
			db.notified.advance(n.revision)
		case <-db.stop:
			return
		}
	}
}
