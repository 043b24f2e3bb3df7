package agent

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"
)

// cleanedImages notes what its cleaner was told to keep.
type cleanedImages struct {
	*memoryImages
	mu   sync.Mutex
	kept []string
	n    int
}

func (s *cleanedImages) Clean(_ context.Context, inUse func() []string) ([]string, error) {
	kept := inUse()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = kept
	s.n++
	return nil, nil
}

func (s *cleanedImages) keeps(ref string) func() bool {
	return func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return slices.Contains(s.kept, ref)
	}
}

// TestImagesOfLiveTasksAreKept: an image is in use from the moment its task has
// arrived, and until its container has ended.
func TestImagesOfLiveTasksAreKept(t *testing.T) {
	m := newMachine(t)
	m.kill()
	images := &cleanedImages{memoryImages: m.images}
	m.store, m.cleanImages = images, time.Millisecond
	m.images.block = make(chan struct{})
	m.boot()
	task := taskOf("t1", "sleep", "100")
	m.accept(task)
	ref := task.Containers[0].Image
	m.until("the image of a task that pulls is kept", images.keeps(ref))
	close(m.images.block)
	m.await("t1", "RUNNING")
	m.until("the image of a task that runs is kept", images.keeps(ref))
	m.clean()
	m.until("the image of a task that ended is let go", func() bool { return !images.keeps(ref)() })
	if !images.keeps(holderImage)() {
		t.Error("the image of namespace holders is let go")
	}
}
