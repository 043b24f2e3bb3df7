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

// DefaultRate returns the rate of operations that have none of their own. It is
// generous: it stops runaways, and is no quota.
func DefaultRate() Rate { return Rate{PerSecond: 500, Burst: 2000} }

// TokenBuckets is a Throttler with one bucket per account and operation. It
// forgets nothing: there are as many buckets as accounts times operations used.
// Services and nodes of our own are not throttled.
type TokenBuckets struct {
	rate  Rate
	rates map[string]Rate

	mu      sync.Mutex
	buckets map[bucketKey]*bucket
}

type bucketKey struct{ account, service, operation string }

type bucket struct {
	tokens float64
	filled time.Time
}

// NewTokenBuckets returns a throttler that admits each operation at the rate in
// rates under "service:Operation", or else at rate.
func NewTokenBuckets(rate Rate, rates map[string]Rate) *TokenBuckets {
	return &TokenBuckets{rate: rate, rates: rates, buckets: map[bucketKey]*bucket{}}
}

// Admit implements Throttler. The call's own time is the clock.
func (t *TokenBuckets) Admit(_ context.Context, c *Call) error {
	if c.Principal.Kind == PrincipalService || c.Principal.Kind == PrincipalNode {
		return nil
	}
	rate, ok := t.rates[c.Service+":"+c.Operation]
	if !ok {
		rate = t.rate
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	key := bucketKey{c.Account, c.Service, c.Operation}
	b := t.buckets[key]
	if b == nil {
		b = &bucket{tokens: rate.Burst, filled: c.Time}
		t.buckets[key] = b
	}
	if passed := c.Time.Sub(b.filled); passed > 0 {
		b.tokens = min(rate.Burst, b.tokens+passed.Seconds()*rate.PerSecond)
		b.filled = c.Time
	}
	if b.tokens < 1 {
		return Errorf("ThrottlingException", "Rate exceeded")
	}
	b.tokens--
	return nil
}
