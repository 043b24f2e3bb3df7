package wire

import (
	"context"
	"sync"
	"time"
)

// Rate is what a token bucket gives: Burst calls at once, PerSecond on average.
type Rate struct {
	PerSecond float64
	Burst     float64
}

// Group is operations that share one bucket, as in AWS ("all cluster reads").
type Group struct {
	// Service is the ServiceInfo.Name.
	Service    string
	Operations []string
	Rate       Rate
}

// DefaultRate returns the rate of operations that have none of their own. It is
// generous: it stops runaways, and is no quota.
func DefaultRate() Rate { return Rate{PerSecond: 500, Burst: 2000} }

// TokenBuckets is a Throttler with one bucket per account, region and group of
// operations. Services and nodes of our own are not throttled.
type TokenBuckets struct {
	rate   Rate
	groups []Group
	// group maps service and operation to an index of groups.
	group map[[2]string]int

	mu      sync.Mutex
	buckets map[bucketKey]*bucket
	// forgetAt is how many buckets there may be before full ones are forgotten.
	forgetAt int
}

// minBuckets is how many buckets are kept without a look at which are full.
const minBuckets = 4096

type bucketKey struct{ account, region, service, operation string }

type bucket struct {
	tokens float64
	filled time.Time
	rate   Rate
}

// fill adds what has come since.
func (b *bucket) fill(now time.Time) {
	if passed := now.Sub(b.filled); passed > 0 {
		b.tokens = min(b.rate.Burst, b.tokens+passed.Seconds()*b.rate.PerSecond)
		b.filled = now
	}
}

// NewTokenBuckets returns a throttler that admits the operations of each group at
// its rate, and each other operation at rate.
func NewTokenBuckets(rate Rate, groups []Group) *TokenBuckets {
	t := &TokenBuckets{rate: rate, groups: groups, group: map[[2]string]int{}, buckets: map[bucketKey]*bucket{}, forgetAt: minBuckets}
	for i, g := range groups {
		for _, operation := range g.Operations {
			t.group[[2]string{g.Service, operation}] = i
		}
	}
	return t
}

// Admit implements Throttler. The call's own time is the clock.
func (t *TokenBuckets) Admit(_ context.Context, c *Call) error {
	if c.Principal.Kind == PrincipalService || c.Principal.Kind == PrincipalNode {
		return nil
	}
	rate, key := t.rate, bucketKey{c.Account, c.Region, c.Service, c.Operation}
	if i, ok := t.group[[2]string{c.Service, c.Operation}]; ok {
		// The first operation of a group names its bucket.
		rate, key.operation = t.groups[i].Rate, t.groups[i].Operations[0]
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.buckets[key]
	if b == nil {
		if len(t.buckets) >= t.forgetAt {
			t.forget(c.Time)
		}
		b = &bucket{tokens: rate.Burst, filled: c.Time, rate: rate}
		t.buckets[key] = b
	}
	b.fill(c.Time)
	if b.tokens < 1 {
		return Errorf("ThrottlingException", "Rate exceeded")
	}
	b.tokens--
	return nil
}

// forget drops the buckets that are full: a new one would be the same. A caller can
// choose regions as it likes, but emptied buckets cost it calls, and fill again.
func (t *TokenBuckets) forget(now time.Time) {
	for key, b := range t.buckets {
		if b.fill(now); b.tokens >= b.rate.Burst {
			delete(t.buckets, key)
		}
	}
	t.forgetAt = max(minBuckets, 2*len(t.buckets))
}
