package agent

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"longshore.dev/longshore/internal/removetree"
)

// sweep removes containers, networks, file systems and volumes of tasks that have
// no record: the records were lost, or a crash came between their making and
// their end. What cannot be removed is tried again by the next sweep.
func (e *engine) sweep(ctx context.Context) {
	if err := e.sweepOnce(ctx); err != nil && !errors.Is(err, context.Canceled) {
		e.log.Error("what earlier tasks left behind could not all be removed; trying again later", "error", err)
	}
}

func (e *engine) sweepOnce(ctx context.Context) error {
	// First what there is, then who is known: a task is known before it makes anything.
	containers, err := e.runtime.List(ctx)
	errs := []error{err}
	sandboxes, err := e.networks.Sandboxes(ctx)
	errs = append(errs, err)
	snapshots, err := e.images.Snapshots(ctx)
	errs = append(errs, err)
	volumes, err := os.ReadDir(e.volumes)
	if !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	known := e.knownTasks()
	for _, c := range containers {
		if !known[c.Group] {
			errs = append(errs, e.runtime.Delete(ctx, c.ID), e.runtime.RemoveSpool(ctx, c.ID))
		}
	}
	for _, s := range sandboxes {
		if !known[s.ID] && !known[ownerOf(s.ID)] {
			errs = append(errs, e.networks.Teardown(ctx, s.ID))
		}
	}
	for _, key := range snapshots {
		if !known[ownerOf(key)] {
			errs = append(errs, e.images.Release(ctx, key))
		}
	}
	for _, v := range volumes {
		if id, ok := strings.CutPrefix(v.Name(), taskVolumes); ok && !known[id] {
			errs = append(errs, removetree.All(filepath.Join(e.volumes, v.Name())))
		}
	}
	return errors.Join(errs...)
}

// knownTasks are the ids of the tasks that are not finished.
func (e *engine) knownTasks() map[string]bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	known := make(map[string]bool, len(e.workers))
	for id := range e.workers {
		known[id] = true
	}
	return known
}

// ownerOf is the task of what is named after one of its containers. A task's id
// may contain dashes itself.
func ownerOf(name string) string {
	if i := strings.LastIndexByte(name, '-'); i >= 0 {
		return name[:i]
	}
	return name
}
