package control

import (
	"sync"
	"time"
)

// Failed attempts to join that one address has at once, and how soon it gets each
// back; and of how many addresses that is kept.
const (
	failedBurst   = 10
	failedRefill  = 10 * time.Second
	failedSources = 4096
)

// attempts slows down addresses whose attempts to join fail. Those that succeed
// cost nothing, so that a whole fleet can join from behind one address. A token
// cannot be guessed in any case; this bounds what guessing costs the server.
type attempts struct {
	mu sync.Mutex
	// spent maps an address to when it will have all its attempts back.
	spent map[string]time.Time
}

// admit tells whether an address may try, or how long it has to wait.
func (a *attempts) admit(source string, now time.Time) (wait time.Duration, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	whole, known := a.spent[source]
	if !known {
		return 0, true
	}
	wait = whole.Sub(now) - (failedBurst-1)*failedRefill
	return wait, wait <= 0
}

// failed counts a failed attempt.
func (a *attempts) failed(source string, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.spent == nil {
		a.spent = map[string]time.Time{}
	}
	at := a.spent[source]
	if at.Before(now) {
		at = now
	}
	if _, known := a.spent[source]; !known && len(a.spent) >= failedSources {
		a.forget(now)
	}
	a.spent[source] = at.Add(failedRefill)
}

// forget drops the addresses that have all attempts back, and if there are none,
// the one that is nearest to it.
func (a *attempts) forget(now time.Time) {
	nearest := ""
	for source, at := range a.spent {
		if !at.After(now) {
			delete(a.spent, source)
		} else if nearest == "" || at.Before(a.spent[nearest]) {
			nearest = source
		}
	}
	if len(a.spent) >= failedSources {
		delete(a.spent, nearest)
	}
}
