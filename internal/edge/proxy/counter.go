package proxy

import (
	"sync"
	"sync/atomic"
	"time"

	"longshore.dev/longshore/internal/edge/balance"
)

// Bounds are the upper bounds, in seconds, of the buckets of Times, but for the last
// bucket, which has none.
var Bounds = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60}

// Times is a histogram of seconds, with the statistics that CloudWatch keeps.
type Times struct {
	Count         int64
	Sum, Min, Max float64
	// Buckets count what is in each bound and not in the one before.
	Buckets []int64
}

// Codes counts responses by the hundreds of their codes.
type Codes struct {
	Code2XX, Code3XX, Code4XX, Code5XX int64
}

// BalancerCounters are what a load balancer has counted since it is there; names are
// CloudWatch's.
type BalancerCounters struct {
	// RequestCount has requests for which a target was chosen.
	RequestCount int64
	// ELB are the answers of the load balancer's own, of which ELB500 to ELB504 by code;
	// Target are those of targets.
	ELB, Target                            Codes
	ELB500, ELB502, ELB503, ELB504         int64
	RedirectCount, FixedResponseCount      int64
	TargetConnectionErrorCount             int64
	DesyncMitigationModeNonCompliantCount  int64
	ActiveConnectionCount                  int64
	NewConnectionCount, RejectedConnection int64
	// ProcessedBytes are bodies' and, of TCP, all bytes, in both directions.
	ProcessedBytes     int64
	TargetResponseTime Times
}

// GroupCounters are what a target group has counted since it is there.
type GroupCounters struct {
	RequestCount               int64
	Target                     Codes
	TargetConnectionErrorCount int64
	TargetResponseTime         Times
	// HealthyHostCount and UnHealthyHostCount are those of now.
	HealthyHostCount, UnHealthyHostCount int
}

// Counters are by the ids of load balancers and target groups.
type Counters struct {
	LoadBalancers map[string]BalancerCounters
	TargetGroups  map[string]GroupCounters
}

type codes [4]atomic.Int64

func (c *codes) add(status int) {
	if class := status/100 - 2; class >= 0 && class < len(c) {
		c[class].Add(1)
	}
}

func (c *codes) snapshot() Codes {
	return Codes{c[0].Load(), c[1].Load(), c[2].Load(), c[3].Load()}
}

// balancerCounters count without a lock but for times.
type balancerCounters struct {
	requests, elb500, elb502, elb503, elb504   atomic.Int64
	redirects, fixed, dialErrors, nonCompliant atomic.Int64
	active, newConnections, rejected, bytes    atomic.Int64
	elb, target                                codes
	times                                      times
}

type groupCounters struct {
	requests, dialErrors atomic.Int64
	target               codes
	times                times
}

type times struct {
	mu      sync.Mutex
	n       int64
	sum     time.Duration
	min     time.Duration
	max     time.Duration
	buckets [16]int64
}

func (t *times) add(d time.Duration) {
	bucket, s := 0, d.Seconds()
	for bucket < len(Bounds) && s > Bounds[bucket] {
		bucket++
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n == 0 || d < t.min {
		t.min = d
	}
	t.max = max(t.max, d)
	t.n++
	t.sum += d
	t.buckets[bucket]++
}

func (t *times) snapshot() Times {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Times{Count: t.n, Sum: t.sum.Seconds(), Min: t.min.Seconds(), Max: t.max.Seconds(), Buckets: append([]int64(nil), t.buckets[:]...)}
}

// own counts an answer of the load balancer's own.
func (c *balancerCounters) own(status int) {
	c.elb.add(status)
	switch status {
	case 500:
		c.elb500.Add(1)
	case 502:
		c.elb502.Add(1)
	case 503:
		c.elb503.Add(1)
	case 504:
		c.elb504.Add(1)
	}
}

func (c *balancerCounters) snapshot() BalancerCounters {
	return BalancerCounters{
		RequestCount: c.requests.Load(), ELB: c.elb.snapshot(), Target: c.target.snapshot(),
		ELB500: c.elb500.Load(), ELB502: c.elb502.Load(), ELB503: c.elb503.Load(), ELB504: c.elb504.Load(),
		RedirectCount: c.redirects.Load(), FixedResponseCount: c.fixed.Load(), TargetConnectionErrorCount: c.dialErrors.Load(),
		DesyncMitigationModeNonCompliantCount: c.nonCompliant.Load(), ActiveConnectionCount: c.active.Load(),
		NewConnectionCount: c.newConnections.Load(), RejectedConnection: c.rejected.Load(), ProcessedBytes: c.bytes.Load(),
		TargetResponseTime: c.times.snapshot(),
	}
}

// Counters is a snapshot: all but the connections and hosts of now only grow, until their
// load balancer or target group leaves the table.
func (s *Server) Counters() Counters {
	s.mu.Lock()
	balancers, groups := s.counters, s.groups
	s.mu.Unlock()
	all := Counters{make(map[string]BalancerCounters, len(balancers)), make(map[string]GroupCounters, len(groups))}
	for id, c := range balancers {
		all.LoadBalancers[id] = c.snapshot()
	}
	for id, g := range groups {
		c := &g.counters
		all.TargetGroups[id] = GroupCounters{RequestCount: c.requests.Load(), Target: c.target.snapshot(),
			TargetConnectionErrorCount: c.dialErrors.Load(), TargetResponseTime: c.times.snapshot()}
	}
	for _, h := range s.Health() {
		c := all.TargetGroups[h.GroupID]
		switch h.State {
		case balance.Healthy:
			c.HealthyHostCount++
		case balance.Unhealthy:
			c.UnHealthyHostCount++
		}
		all.TargetGroups[h.GroupID] = c
	}
	return all
}
