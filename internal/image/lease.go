package image

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
)

const (
	// labelWork tells what a lease's work is, so that the next attempt at the same
	// finds what the last has left.
	labelWork = "longshore.dev/work"
	// keepPartial is how long the partial content of work that failed, or whose
	// process died, is kept for the next attempt.
	keepPartial = 24 * time.Hour
)

// lease begins work that must not be collected before it is done: everything made
// with the returned context is held. It takes over what earlier attempts at the
// same work left; the same work does not run twice at a time. done ends it; with
// keep, what was made stays for a day.
func (s *Local) lease(ctx context.Context, work string) (_ context.Context, done func(keep bool), err error) {
	unlock, err := s.works.lock(ctx, work)
	if err != nil {
		return nil, nil, err
	}
	former, err := s.leases.List(ctx, fmt.Sprintf("labels.%q==%q", labelWork, work))
	if err != nil {
		unlock()
		return nil, nil, fmt.Errorf("begin work on images: %w", err)
	}
	lease, err := s.leases.Create(ctx, leases.WithID("work-"+s.opts.NewID()), leases.WithLabels(map[string]string{
		labelWork:                 work,
		"containerd.io/gc.expire": s.opts.Now().Add(keepPartial).UTC().Format(time.RFC3339),
	}))
	if err != nil {
		unlock()
		return nil, nil, fmt.Errorf("begin work on images: %w", err)
	}
	done = func(keep bool) {
		defer unlock()
		if keep {
			return
		}
		ctx := context.WithoutCancel(ctx)
		if err := s.leases.Delete(ctx, lease); err != nil && !errdefs.IsNotFound(err) {
			s.opts.Log.Warn("what an image was made of cannot be let go yet; trying again with the next garbage collection", "error", err)
			s.deadMu.Lock()
			s.dead = append(s.dead, lease)
			s.deadMu.Unlock()
		}
		s.kick()
	}
	for _, f := range former {
		if err := s.takeOver(ctx, f, lease); err != nil {
			done(true)
			return nil, nil, fmt.Errorf("begin work on images: %w", err)
		}
	}
	return leases.WithLease(ctx, lease.ID), done, nil
}

// endLeases deletes the leases that could not be deleted in time.
func (s *Local) endLeases(ctx context.Context) error {
	s.deadMu.Lock()
	defer s.deadMu.Unlock()
	for len(s.dead) > 0 {
		if err := s.leases.Delete(ctx, s.dead[0]); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("collect images: %w", err)
		}
		s.dead = s.dead[1:]
	}
	return nil
}

func (s *Local) takeOver(ctx context.Context, from, to leases.Lease) error {
	held, err := s.leases.ListResources(ctx, from)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, r := range held {
		if err := s.leases.AddResource(ctx, to, r); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	if err := s.leases.Delete(ctx, from); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}
