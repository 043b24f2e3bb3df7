package events

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// Event is one event, as EventBridge writes it.
type Event struct {
	Version    string    `json:"version"` // "0"
	ID         string    `json:"id"`
	DetailType string    `json:"detail-type"`
	Source     string    `json:"source"` // aws.ecs
	Account    string    `json:"account"`
	Time       time.Time `json:"time"`
	Region     string    `json:"region"`
	Resources  []string  `json:"resources"` // ARNs
	Detail     any       `json:"detail"`
}

// Bounds of a bus.
const (
	maxSubscriptions = 64
	// buffered is how many events a subscriber may be behind.
	buffered = 1024
)

// ErrClosed ends a subscription at the bus's end, ErrSlow one that was too far behind.
var (
	ErrClosed = errors.New("the server stops")
	ErrSlow   = fmt.Errorf("events came faster than they were taken: more than %d waited, and what followed is missed", buffered)
)

// Bus hands events on. The zero value is not usable: New.
type Bus struct {
	mu     sync.Mutex
	closed bool
	all    map[*Subscription]bool
}

// New returns a bus without subscribers.
func New() *Bus { return &Bus{all: map[*Subscription]bool{}} }

// Subscription is one subscriber's.
type Subscription struct {
	bus             *Bus
	account, region string
	events          chan Event
	why             error
}

// Subscribe begins to take the events of an account and region.
func (b *Bus) Subscribe(account, region string) (*Subscription, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return nil, ErrClosed
	case len(b.all) >= maxSubscriptions:
		return nil, fmt.Errorf("there are %d subscribers of events already: end one", maxSubscriptions)
	}
	s := &Subscription{bus: b, account: account, region: region, events: make(chan Event, buffered)}
	b.all[s] = true
	return s, nil
}

// Events is closed at the subscription's end; Err says why then.
func (s *Subscription) Events() <-chan Event { return s.events }

// Err is ErrSlow or ErrClosed once Events was closed by the bus.
func (s *Subscription) Err() error {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	return s.why
}

// Close ends the subscription.
func (s *Subscription) Close() {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	s.bus.end(s, nil)
}

// end closes a subscription; with the lock held.
func (b *Bus) end(s *Subscription, why error) {
	if b.all[s] {
		delete(b.all, s)
		s.why = why
		close(s.events)
	}
}

// Wanted tells whether anybody takes the events of an account and region: who would publish
// asks before making them.
func (b *Bus) Wanted(account, region string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.all {
		if s.account == account && s.region == region {
			return true
		}
	}
	return false
}

// Publish hands an event to the subscribers of its account and region. It does not wait.
func (b *Bus) Publish(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.all {
		if s.account != e.Account || s.region != e.Region {
			continue
		}
		select {
		case s.events <- e:
		default:
			b.end(s, ErrSlow)
		}
	}
}

// Close ends all subscriptions.
func (b *Bus) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for s := range b.all {
		b.end(s, ErrClosed)
	}
}
