package agent

import (
	"context"
	"sync"
	"time"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/network"
	"longshore.dev/longshore/internal/runtime"
)

// sampleEvery is how often the containers' use of resources is measured.
const sampleEvery = 10 * time.Second

// sampleAgain is how old a measurement must be to be made anew for somebody who asks:
// containers must not decide how often the node measures.
const sampleAgain = time.Second

// sample is one measurement of one container.
type sample struct {
	stats    runtime.Stats
	counters network.Counters
}

// usage holds a container's last two samples and, since the last publication,
// its statistic sets.
type usage struct {
	last, previous sample
	cpu, memory    acs.StatsSet
	rx, tx         acs.ULongStatsSet
	read, write    acs.ULongStatsSet
}

// sampler measures running containers.
type sampler struct {
	parts
	engine *engine

	mu  sync.Mutex
	use map[string]*usage // by runtime id
}

func newSampler(p parts, e *engine) *sampler {
	return &sampler{parts: p, engine: e, use: map[string]*usage{}}
}

func (s *sampler) run(ctx context.Context) error {
	ticker := time.NewTicker(sampleEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			s.sampleAll(ctx)
		}
	}
}

func (s *sampler) sampleAll(ctx context.Context) {
	alive := map[string]bool{}
	for _, r := range s.engine.records() {
		for i := range r.Containers {
			if r.Containers[i].Status == StatusRunning {
				id := r.runtimeID(i)
				alive[id] = true
				s.sampleOne(ctx, id, r.sandboxID(i))
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.use {
		if !alive[id] {
			delete(s.use, id)
		}
	}
}

// sampleOne measures one container now, and returns its last two samples.
func (s *sampler) sampleOne(ctx context.Context, id, sandbox string) (last, previous sample, ok bool) {
	s.mu.Lock()
	if u := s.use[id]; u != nil && s.now().Sub(u.last.stats.At) < sampleAgain {
		defer s.mu.Unlock()
		return u.last, u.previous, true
	}
	s.mu.Unlock()
	stats, err := s.runtime.Stats(ctx, id)
	if err != nil {
		return sample{}, sample{}, false
	}
	counters, err := s.networks.Counters(ctx, sandbox)
	if err != nil {
		counters = network.Counters{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.use[id]
	if u == nil {
		u = &usage{}
		s.use[id] = u
	}
	u.add(sample{stats, counters})
	return u.last, u.previous, true
}

// add takes a sample into the statistic sets; rates need two.
func (u *usage) add(n sample) {
	u.previous, u.last = u.last, n
	addTo(&u.memory, float64(n.stats.MemoryBytes-min(n.stats.MemoryBytes, n.stats.MemoryCacheBytes))/mib)
	p := u.previous
	seconds := n.stats.At.Sub(p.stats.At).Seconds()
	if p.stats.At.IsZero() || seconds <= 0 {
		return
	}
	addTo(&u.cpu, float64(n.stats.CPUNanos-min(n.stats.CPUNanos, p.stats.CPUNanos))/1e9/seconds*100)
	addLong(&u.rx, n.counters.RxBytes, p.counters.RxBytes)
	addLong(&u.tx, n.counters.TxBytes, p.counters.TxBytes)
	addLong(&u.read, n.stats.ReadBytes, p.stats.ReadBytes)
	addLong(&u.write, n.stats.WriteBytes, p.stats.WriteBytes)
}

func addTo(s *acs.StatsSet, v float64) {
	if s.SampleCount == 0 || v < s.Min {
		s.Min = v
	}
	s.Max = max(s.Max, v)
	s.Sum += v
	s.SampleCount++
}

// addLong adds the growth of a counter; one that shrank was reset.
func addLong(s *acs.ULongStatsSet, now, before uint64) {
	v := int64(now - min(now, before))
	if s.SampleCount == 0 || v < s.Min {
		s.Min = v
	}
	s.Max = max(s.Max, v)
	s.Sum += v
	s.SampleCount++
}

// take returns a container's statistic sets since the last take; nil when there
// is no rate yet.
func (s *sampler) take(name, id string) *acs.ContainerMetric {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.use[id]
	if u == nil || u.cpu.SampleCount == 0 {
		return nil
	}
	m := &acs.ContainerMetric{ContainerName: name}
	cpu, memory, rx, tx, read, write := u.cpu, u.memory, u.rx, u.tx, u.read, u.write
	m.CPU, m.Memory = &cpu, &memory
	m.Network = &acs.NetworkStatsSet{RxBytes: &rx, TxBytes: &tx}
	m.Storage = &acs.StorageStatsSet{ReadSizeBytes: &read, WriteSizeBytes: &write}
	*u = usage{last: u.last, previous: u.previous}
	return m
}
