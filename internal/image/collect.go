package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
)

const (
	// collectDelay gathers several removals into one collection.
	collectDelay = time.Second
	// collectEvery also collects what merely expired.
	collectEvery = time.Hour
)

// kick asks the janitor to collect soon.
func (s *Local) kick() {
	select {
	case s.kicked <- struct{}{}:
	default:
	}
}

// janitor collects garbage in the background until the store closes.
func (s *Local) janitor() {
	tick := time.NewTicker(collectEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.base.Done():
			return
		case <-tick.C:
		case <-s.kicked:
			select {
			case <-s.base.Done():
				return
			case <-time.After(collectDelay):
			}
		}
		if err := s.Collect(s.base); err != nil && s.base.Err() == nil {
			s.opts.Log.Warn("image garbage collection failed; it is tried again later", "error", err)
		}
	}
}

// Collect removes released root file systems, and layers and content that no
// image, no root file system and no work in progress needs. The store does so by
// itself a second after something was removed. When it returns, it is done: also
// what a collection that ran meanwhile had begun to remove.
func (s *Local) Collect(ctx context.Context) error {
	ctx, done := s.context(ctx)
	defer done()
	unlock, err := s.works.lock(ctx, "collect")
	if err != nil {
		return err
	}
	defer unlock()
	err = errors.Join(s.rootfs.sweep(), s.endLeases(ctx), s.dropPins(ctx))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if _, e := s.db.GarbageCollect(ctx); e != nil {
		err = errors.Join(err, fmt.Errorf("collect images: %w", e))
	}
	return errors.Join(err, s.dropLinks())
}

// dropPins removes the pins over which neither an image nor a root file system lies.
func (s *Local) dropPins(ctx context.Context) error {
	r := s.rootfs
	r.mu.Lock()
	defer r.mu.Unlock()
	used := map[string]bool{}
	for _, chain := range r.keys {
		used[chain] = true
	}
	all, err := s.images.List(ctx)
	if err != nil {
		return fmt.Errorf("collect images: %w", err)
	}
	for _, img := range all {
		used[img.Labels[labelChain]] = true
	}
	stored, err := s.storedPins(ctx)
	if err != nil {
		return err
	}
	for _, chain := range stored {
		if used[chain] {
			continue
		}
		if err := s.layers.Remove(ctx, pinPrefix+chain); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("collect images: %w", err)
		}
		delete(s.pins, chain)
	}
	return nil
}

// dropLinks removes the short names of layers that are gone.
func (s *Local) dropLinks() error {
	entries, err := os.ReadDir(s.path("l"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		link := s.path("l", e.Name())
		if _, statErr := os.Stat(link); errors.Is(statErr, os.ErrNotExist) {
			err = errors.Join(err, os.Remove(link))
		}
	}
	return err
}

// storedPins returns the chain ids of all pins, also those of earlier processes.
func (s *Local) storedPins(ctx context.Context) ([]string, error) {
	var chains []string
	err := s.layers.Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		if chain, ok := strings.CutPrefix(info.Name, pinPrefix); ok {
			chains = append(chains, chain)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("collect images: %w", err)
	}
	return chains, nil
}
