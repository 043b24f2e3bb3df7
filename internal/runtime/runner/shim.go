//go:build linux && cgo

package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"

	"longshore.dev/longshore/internal/runtime"
	"longshore.dev/longshore/internal/runtime/cgroup"
	"longshore.dev/longshore/internal/runtime/oci"
	"longshore.dev/longshore/internal/runtime/shimrpc"
)

// shim serves one group. A spare shim is told which by its first container.
type shim struct {
	cfg    shimrpc.Config
	layout cgroup.Layout
	now    func() time.Time
	host   machine

	createMu sync.Mutex // one container is made at a time
	startMu  sync.Mutex // one process is started at a time, under the name it is given
	settle   *time.Timer

	connected atomic.Int64

	mu         sync.Mutex
	group      string // "" until the first container tells it
	containers map[string]*container
	ending     bool
	end        chan struct{} // closed when the shim is to end
	endOnce    sync.Once
}

func newShim(cfg shimrpc.Config, now func() time.Time) (*shim, error) {
	layout, err := cgroup.Detect()
	if err != nil {
		return nil, err
	}
	return &shim{
		cfg: cfg, layout: layout, now: now, host: inspect(layout),
		group:      cfg.Group,
		settle:     time.AfterFunc(settleAfter, debug.FreeOSMemory),
		containers: map[string]*container{}, end: make(chan struct{}),
	}, nil
}

// serve answers until the shim is to end.
func (s *shim) serve(ctx context.Context, listener *net.UnixListener) error {
	ctx, cancel := context.WithCancel(ctx)
	var connections sync.WaitGroup
	defer connections.Wait()
	defer cancel()
	idle := time.AfterFunc(shimrpc.IdleExit, func() {
		if s.connected.Load() == 0 {
			s.endIfUnused()
		}
	})
	defer idle.Stop()
	go func() {
		<-s.end
		_ = listener.Close()
	}()
	// One connection after the other: what a killed caller had asked for is done, or
	// given up, before its successor is answered.
	former := make(chan struct{})
	close(former)
	for {
		conn, err := listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept a connection: %w", err)
		}
		s.connected.Add(1)
		before, done := former, make(chan struct{})
		former = done
		connections.Go(func() {
			<-before
			defer close(done)
			_ = shimrpc.Serve(ctx, conn, s.handle, s.answered)
			if s.connected.Add(-1) == 0 {
				s.endIfUnused()
			}
		})
	}
}

func (s *shim) handle(ctx context.Context, method string, body json.RawMessage) (any, error) {
	switch method {
	case shimrpc.MethodPing:
		return nil, nil
	case shimrpc.MethodCreate:
		req, err := decode[shimrpc.CreateRequest](body)
		if err != nil {
			return nil, err
		}
		return nil, s.create(req.Spec)
	case shimrpc.MethodSignal:
		req, err := decode[shimrpc.SignalRequest](body)
		if err != nil {
			return nil, err
		}
		return s.with(req.ID, func(c *container) (any, error) { return nil, c.signal(req.Signal, req.All) })
	case shimrpc.MethodExec:
		req, err := decode[shimrpc.ExecRequest](body)
		if err != nil {
			return nil, err
		}
		return s.with(req.ID, func(c *container) (any, error) { return c.exec(ctx, req.Spec) })
	case shimrpc.MethodShutdown:
		if !s.endIfEmpty() {
			return nil, errors.New("the shim still has containers")
		}
		return nil, s.removeGroup(ctx)
	case shimrpc.MethodRestore:
		return nil, s.restore()
	}
	req, err := decode[shimrpc.IDRequest](body)
	if err != nil {
		return nil, err
	}
	switch method {
	case shimrpc.MethodStart:
		return s.with(req.ID, func(c *container) (any, error) { return nil, c.start() })
	case shimrpc.MethodWait:
		return s.with(req.ID, func(c *container) (any, error) { return c.wait(ctx) })
	case shimrpc.MethodStatus:
		return s.with(req.ID, func(c *container) (any, error) { return c.status(), nil })
	case shimrpc.MethodStats:
		return s.with(req.ID, func(c *container) (any, error) { return s.layout.Stats(c.cgroup, s.now()) })
	case shimrpc.MethodDelete:
		return s.delete(ctx, req.ID)
	}
	return nil, fmt.Errorf("unknown method %q", method)
}

func decode[T any](body json.RawMessage) (T, error) {
	var v T
	if err := json.Unmarshal(body, &v); err != nil {
		return v, fmt.Errorf("decode the request: %w", err)
	}
	return v, nil
}

func (s *shim) with(id string, f func(*container) (any, error)) (any, error) {
	c := s.find(id)
	if c == nil {
		return nil, fmt.Errorf("container %s: %w", id, runtime.ErrNotFound)
	}
	return f(c)
}

// find returns a container, or nil. One that is being made is waited for: it has a
// record already, so that its caller may know of it.
func (s *shim) find(id string) *container {
	get := func() *container {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.containers[id]
	}
	if c := get(); c != nil {
		return c
	}
	s.createMu.Lock()
	defer s.createMu.Unlock()
	return get()
}

// create makes one container at a time, and leaves nothing after an error.
func (s *shim) create(spec runtime.Spec) error {
	if !shimrpc.ValidID(spec.ID) {
		return fmt.Errorf("container id %q is not of the form [a-z0-9-]{1,64}", spec.ID)
	}
	s.createMu.Lock()
	defer s.createMu.Unlock()
	defer s.settle.Reset(settleAfter)
	s.mu.Lock()
	_, taken := s.containers[spec.ID]
	ending, first := s.ending, len(s.containers) == 0
	if s.group == "" && shimrpc.ValidID(spec.Group) {
		s.group = spec.Group
	}
	group := s.group
	s.mu.Unlock()
	if spec.Group != group {
		return fmt.Errorf("group %q is not this shim's, which is %q", spec.Group, group)
	}
	if ending {
		return errors.New("the shim is ending")
	}
	if taken {
		return fmt.Errorf("container %s: %w", spec.ID, runtime.ErrAlreadyExists)
	}
	if first {
		if err := s.limitGroup(spec.GroupResources); err != nil {
			return err
		}
	}
	c, err := s.newContainer(spec)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.containers[spec.ID] = c
	s.mu.Unlock()
	return nil
}

// restore writes again what was lost or replaced on disk behind the shim's back.
func (s *shim) restore() error {
	s.createMu.Lock()
	defer s.createMu.Unlock()
	s.mu.Lock()
	all := slices.Collect(maps.Values(s.containers))
	s.mu.Unlock()
	var errs []error
	for _, c := range all {
		errs = append(errs, c.restore())
	}
	return errors.Join(errs...)
}

// limitGroup creates the group's cgroup with its limits.
func (s *shim) limitGroup(r runtime.Resources) error {
	if r == (runtime.Resources{}) {
		return nil
	}
	limits := &cgroups.Resources{
		SkipDevices:       true,
		CpuShares:         r.CPUShares,
		CpuQuota:          r.CPUQuotaMicros,
		Memory:            r.MemoryBytes,
		MemoryReservation: r.ReservationBytes,
		MemorySwap:        oci.SwapLimit(r, s.host.swapAccounting),
	}
	if r.CPUQuotaMicros > 0 {
		limits.CpuPeriod = 100_000
	}
	if r.PIDs > 0 {
		limits.PidsLimit = &r.PIDs
	}
	if s.layout.V2 && r.CPUShares > 0 {
		limits.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(r.CPUShares)
	}
	m, err := manager.New(&cgroups.Cgroup{Path: shimrpc.GroupCgroup(s.cfg.Node, s.groupName()), Resources: limits})
	if err != nil {
		return fmt.Errorf("prepare the group's cgroup: %w", err)
	}
	if err := m.Apply(-1); err != nil {
		return fmt.Errorf("create the group's cgroup: %w", err)
	}
	if err := m.Set(limits); err != nil {
		return fmt.Errorf("set the group's limits: %w", err)
	}
	return nil
}

// delete removes a container, and ends the shim with its last one.
func (s *shim) delete(ctx context.Context, id string) (shimrpc.DeleteReply, error) {
	c := s.find(id)
	if c == nil {
		return shimrpc.DeleteReply{}, fmt.Errorf("container %s: %w", id, runtime.ErrNotFound)
	}
	if err := c.remove(ctx); err != nil {
		return shimrpc.DeleteReply{}, err
	}
	s.mu.Lock()
	delete(s.containers, id)
	last := len(s.containers) == 0
	s.mu.Unlock()
	if !last {
		return shimrpc.DeleteReply{}, nil
	}
	return shimrpc.DeleteReply{Last: s.endIfEmpty()}, s.removeGroup(ctx)
}

func (s *shim) groupName() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.group
}

// removeGroup removes the group's cgroup. Without a group there is none: the path
// would be the node's.
func (s *shim) removeGroup(ctx context.Context) error {
	group := s.groupName()
	if group == "" {
		return nil
	}
	return s.layout.Remove(ctx, shimrpc.GroupCgroup(s.cfg.Node, group))
}

// endIfEmpty ends the shim unless it has a container or is making one.
func (s *shim) endIfEmpty() bool {
	if !s.createMu.TryLock() {
		return false
	}
	defer s.createMu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.containers) > 0 {
		return false
	}
	s.ending = true
	return true
}

// endIfUnused ends a shim that nobody talks to and that has nothing: whoever
// started it is gone.
func (s *shim) endIfUnused() {
	if s.endIfEmpty() {
		s.finish()
	}
}

// answered ends an ending shim, not before the request that decided it has its
// answer: another's may be sent between the decision and that.
func (s *shim) answered(method string) {
	if method == shimrpc.MethodShutdown || method == shimrpc.MethodDelete {
		s.finish()
	}
}

func (s *shim) finish() {
	s.mu.Lock()
	ending := s.ending
	s.mu.Unlock()
	if ending {
		s.endOnce.Do(func() { close(s.end) })
	}
}
