package agent

import (
	"cmp"
	"context"
	"time"
)

// cleanEvery is how often the image store looks for what it may remove, unless
// the node says otherwise.
const cleanEvery = 5 * time.Minute

// cleanLoop lets the image store remove what no task needs.
func (e *engine) cleanLoop(ctx context.Context) {
	ticker := time.NewTicker(cmp.Or(max(e.cleanImages, 0), cleanEvery))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if _, err := e.images.Clean(ctx, e.imagesInUse); err != nil && ctx.Err() == nil {
			e.log.Error("unused images could not be removed; trying again later", "error", err)
		}
	}
}

// imagesInUse are the images of the containers that have not ended: those that
// run, and those that wait for others before they are made.
func (e *engine) imagesInUse() []string {
	refs := []string{holderImage}
	for _, r := range e.records() {
		for i := range r.Task.Containers {
			if i >= len(r.Containers) || r.Containers[i].Status != StatusStopped {
				refs = append(refs, r.Task.Containers[i].Image)
			}
		}
	}
	return refs
}
