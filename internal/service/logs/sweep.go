package logs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"longshore.dev/longshore/internal/bulk"
	"longshore.dev/longshore/internal/store"
)

const (
	// sweepEvery is how often intents of deletion are looked for without being told.
	sweepEvery = time.Minute
	// trimEvery is how often expired events are removed.
	trimEvery = time.Hour
	// sweepStreams bounds the streams that one transaction removes.
	sweepStreams = 100
)

// wake has the sweep look at once.
func (s *Service) wake() {
	select {
	case s.kick <- struct{}{}:
	default: // it is about to
	}
}

// Run completes deletions and removes expired events until ctx ends. What fails
// is logged and tried again.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	var trimmed time.Time
	for {
		err := s.Sweep(ctx)
		if s.now().Sub(trimmed) >= trimEvery {
			err = errors.Join(err, s.Trim(ctx))
			trimmed = s.now()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			s.log.Error("logs: sweep", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.kick:
		case <-tick.C:
		}
	}
}

// Sweep completes the deletions that are recorded.
func (s *Service) Sweep(ctx context.Context) error {
	var errs []error
	for ref, d := range s.deletions.ListAll(s.db.Snapshot()) {
		if err := s.complete(ctx, ref, d); err != nil {
			errs = append(errs, fmt.Errorf("delete what belonged to log group generation %s: %w", d.Group, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// complete removes what a deletion names, then the deletion. Each step may be repeated.
func (s *Service) complete(ctx context.Context, ref store.Ref, d *deletion) error {
	lock := s.writingTo(d.Group)
	lock.Lock()
	//lint:ignore SA2001 a barrier: appends that began before the deletion have ended, and later ones see it
	lock.Unlock()
	if d.Stream == "" {
		if err := s.removeStreams(ctx, ref.Scope, d.Group); err != nil {
			return err
		}
	}
	if err := s.events.Delete(ctx, bulk.StreamID{Group: d.Group, Stream: d.Stream}); err != nil {
		return err
	}
	return s.db.Update(ctx, func(tx *store.Tx) error {
		s.deletions.Delete(tx, ref.Scope, ref.ID)
		return nil
	})
}

// removeStreams removes the stream records of a deleted group.
func (s *Service) removeStreams(ctx context.Context, sc store.Scope, generation string) error {
	for {
		var ids []string
		for id := range s.streams.ListPrefix(s.db.Snapshot(), sc, generation+"/") {
			if ids = append(ids, id); len(ids) == sweepStreams {
				break
			}
		}
		if len(ids) == 0 {
			return nil
		}
		err := s.db.Update(ctx, func(tx *store.Tx) error {
			for _, id := range ids {
				s.streams.Delete(tx, sc, id)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}

// Trim removes the events that have outlived their group's retention.
func (s *Service) Trim(ctx context.Context) error {
	snap := s.db.Snapshot()
	var errs []error
	for ref, g := range s.groups.ListAll(snap) {
		if g.RetentionDays == 0 {
			continue
		}
		cutoff := g.cutoff(s.nowMillis())
		for st := range s.streamsOf(snap, ref.Scope, g, "") {
			if err := s.trimStream(ctx, eventsOf(g, st), cutoff); err != nil {
				errs = append(errs, fmt.Errorf("trim log stream %s of %s: %w", st.Name, g.Name, err))
			}
			if ctx.Err() != nil {
				return errors.Join(errs...)
			}
		}
	}
	return errors.Join(errs...)
}

func (s *Service) trimStream(ctx context.Context, id bulk.StreamID, cutoff int64) error {
	stat, err := s.events.Stat(ctx, id)
	if err != nil || stat.Events == 0 || stat.First >= cutoff {
		return err
	}
	return s.events.Trim(ctx, id, cutoff)
}
