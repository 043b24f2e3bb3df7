package ecs

import (
	"cmp"
	"sync"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/store"
)

// Subscribe implements acs.Source.
func (s *Service) Subscribe(x acs.Session, changed func(task string)) (cancel func()) {
	n, err := s.sessionNode(s.db.Snapshot(), x)
	if err != nil {
		return func() {}
	}
	return s.wakers.add(store.Ref{Scope: sessionScope(x), ID: n.ID}, changed)
}

// wakers are the sessions that wait for a node's assignments to change.
type wakers struct {
	mu   sync.Mutex
	next int
	by   map[store.Ref]map[int]func(task string)
}

func (w *wakers) add(node store.Ref, changed func(task string)) (cancel func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.by == nil {
		w.by = map[store.Ref]map[int]func(string){}
	}
	if w.by[node] == nil {
		w.by[node] = map[int]func(string){}
	}
	w.next++
	id := w.next
	w.by[node][id] = changed
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.by[node], id)
		if len(w.by[node]) == 0 {
			delete(w.by, node)
		}
	}
}

// wake tells a node's sessions which task may have changed, or, without an arn,
// that any may have.
func (w *wakers) wake(node store.Ref, arn func() string) {
	w.mu.Lock()
	var calls []func(string)
	for _, f := range w.by[node] {
		calls = append(calls, f)
	}
	w.mu.Unlock()
	if len(calls) == 0 {
		return
	}
	task := arn()
	for _, f := range calls {
		f(task)
	}
}

// watchAssignments tells a node's sessions of each task that appears, is to stop,
// or is over, and has them look at everything when an instance is deregistered.
func (s *Service) watchAssignments() {
	s.tasks.Subscribe(func(c store.Change[Task]) {
		t := cmp.Or(c.New, c.Old)
		if c.Old != nil && c.New != nil && c.Old.agentDesired() == c.New.agentDesired() && c.New.LastStatus != taskStopped {
			return
		}
		s.wakers.wake(store.Ref{Scope: c.Scope, ID: t.NodeID}, func() string { return taskARN(c.Scope, t.Cluster, t.ID) })
	})
	s.instances.Subscribe(func(c store.Change[ContainerInstance]) {
		if c.Old != nil && (c.New == nil || c.Old.Status != c.New.Status) {
			s.wakers.wake(store.Ref{Scope: c.Scope, ID: c.Old.NodeID}, func() string { return "" })
		}
	})
}
