package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// maxJoint is how many updates one joint commit holds, and how many more may wait
// before UpdateJointly does so outside.
const maxJoint = 64

// UpdateJointly is Update for functions that mostly write the same records, as
// placements do: those that come while a commit is under way are run one after the
// other, in their order, each seeing the writes of those before it, and committed
// as one transaction. None of them loses to another. One that fails leaves no
// writes; when the commit fails, all fail.
//
// fn runs on another goroutine, but never after UpdateJointly has returned.
func (db *DB) UpdateJointly(ctx context.Context, fn func(tx *Tx) error) error {
	if err := db.ready(ctx); err != nil {
		return err
	}
	m := &member{ctx: ctx, fn: fn, done: make(chan struct{})}
	select {
	case db.joint <- m:
	case <-ctx.Done():
		return fmt.Errorf("store: nothing was written: %w", ctx.Err())
	case <-db.stop:
		return db.Err()
	}
	select {
	case <-m.done:
	case <-ctx.Done():
		if m.leave() {
			return fmt.Errorf("store: the write may or may not be applied: %w", ctx.Err())
		}
		return fmt.Errorf("store: nothing was written: %w", ctx.Err())
	case <-db.stop:
		m.leave()
		return fmt.Errorf("store: the write may or may not be applied: %w", db.Err())
	}
	if m.panicked != nil {
		panic(m.panicked)
	}
	return m.err
}

// member is one update of a joint commit.
type member struct {
	ctx  context.Context
	fn   func(tx *Tx) error
	done chan struct{}

	mu       sync.Mutex // held while fn runs
	left     bool       // the caller waits no more
	began    bool
	err      error
	panicked any
}

// leave returns when fn does not run and will not any more, and tells whether it
// ever did.
func (m *member) leave() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left = true
	return m.began
}

// run runs fn within the joint transaction.
func (m *member) run(tx *Tx) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.ctx.Err(); err != nil || m.left {
		m.err = fmt.Errorf("store: nothing was written: %w", context.Cause(m.ctx))
		return
	}
	m.began = true
	m.err = tx.try(func(tx *Tx) (err error) {
		defer func() {
			if m.panicked = recover(); m.panicked != nil {
				err = errors.New("panic") // for the caller, on whose goroutine it goes on
			}
		}()
		return m.fn(tx)
	})
}

// jointLoop commits what has gathered while the previous commit was under way.
func (db *DB) jointLoop() {
	ctx, cancel := db.untilStop()
	defer cancel()
	var held []*member // did not fit into the previous commit
	for {
		group := held
		if len(group) == 0 {
			select {
			case m := <-db.joint:
				group = append(group, m)
			case <-db.stop:
				return
			}
		}
		for more := true; more && len(group) < maxJoint; {
			select {
			case m := <-db.joint:
				group = append(group, m)
			default:
				more = false
			}
		}
		held = db.commitJointly(ctx, group)
		if ctx.Err() != nil {
			return
		}
	}
}

// commitJointly runs a group and commits it; it returns those that did not fit.
func (db *DB) commitJointly(ctx context.Context, group []*member) (rest []*member) {
	fitted := len(group)
	err := db.Update(ctx, func(tx *Tx) error {
		for i, m := range group {
			if i > 0 && tx.full() {
				fitted = i
				return nil
			}
			m.run(tx)
		}
		fitted = len(group)
		return nil
	})
	group, rest = group[:fitted], group[fitted:]
	if errors.Is(err, ErrTooLarge) && len(group) > 1 {
		// One of them is; the others must not suffer for it.
		for _, m := range group {
			db.commitJointly(ctx, []*member{m})
		}
		return rest
	}
	for _, m := range group {
		if err != nil && m.panicked == nil && (m.began || m.err == nil) {
			m.err = err // its own answer may rest on what was not committed
		}
		close(m.done)
	}
	return rest
}
