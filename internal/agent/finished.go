package agent

import "time"

// keepFinished is how long a finished task is remembered, so that a late payload
// does not start it again; maxFinished how many are at most.
const (
	keepFinished = 3 * time.Hour
	maxFinished  = 16384
)

// finished remembers the tasks that have ended, oldest first.
type finished struct {
	at    map[string]time.Time // by task id
	order []string
}

func newFinished() *finished { return &finished{at: map[string]time.Time{}} }

func (f *finished) has(id string) bool {
	_, ok := f.at[id]
	return ok
}

func (f *finished) add(id string, at time.Time) {
	if !f.has(id) {
		f.order = append(f.order, id)
	}
	f.at[id] = at
}

// takeOld forgets what is too old or too many, and returns it.
func (f *finished) takeOld(now time.Time) []string {
	n := 0
	for n < len(f.order) && (len(f.order)-n > maxFinished || now.Sub(f.at[f.order[n]]) > keepFinished) {
		delete(f.at, f.order[n])
		n++
	}
	old := f.order[:n:n]
	f.order = f.order[n:]
	return old
}
