package acs

import "sync"

// maxPending bounds the changes that wait for a session; beyond it the session
// looks at everything.
const maxPending = 1024

// pending gathers which tasks' assignments may have changed until the session
// looks. It only says where to look: what holds is read from the source then.
type pending struct {
	wake chan struct{} // has an element while there is something to take

	mu    sync.Mutex
	tasks map[string]struct{}
	all   bool
}

// newPending returns one that wants everything looked at: a session knows nothing
// when it begins.
func newPending() *pending {
	p := &pending{wake: make(chan struct{}, 1)}
	p.add("")
	return p
}

// add notes a task's ARN, or with an empty one that any may have changed.
func (p *pending) add(task string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.all:
		return
	case task == "" || len(p.tasks) >= maxPending:
		p.all, p.tasks = true, nil
	case p.tasks == nil:
		p.tasks = map[string]struct{}{task: {}}
	default:
		p.tasks[task] = struct{}{}
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// take returns what was added since the last take, each task once.
func (p *pending) take() (tasks map[string]struct{}, all bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	tasks, all = p.tasks, p.all
	p.tasks, p.all = nil, false
	return tasks, all
}
