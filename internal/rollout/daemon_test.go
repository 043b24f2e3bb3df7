package rollout

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// fleet makes a daemon's nodes and tasks of words, one for each node: "+" wanted, "~"
// tolerated, "-" unwanted, then the tasks: of the new version as in tasks(), of the old
// one as capitals.
func fleet(words string) (nodes []Node, all []Task) {
	for i, word := range strings.Fields(words) {
		n := Node{ID: fmt.Sprint("n", i), Want: map[byte]Want{'+': Wanted, '~': Tolerated, '-': Unwanted}[word[0]]}
		nodes = append(nodes, n)
		for j, c := range word[1:] {
			deployment := "new"
			if strings.ToUpper(string(c)) == string(c) {
				deployment = "old"
			}
			k := tasks(deployment, strings.ToLower(string(c)))[0]
			k.ID, k.Node, k.CreatedAt = fmt.Sprint(n.ID, string(rune('a'+j))), n.ID, epoch.Add(time.Duration(j)*time.Second)
			all = append(all, k)
		}
	}
	return nodes, all
}

func TestNextDaemon(t *testing.T) {
	type want struct {
		start, stop string
		complete    bool
		failed      bool
		hold        Hold
	}
	for name, c := range map[string]struct {
		least  int
		fleet  string
		change func(*State)
		want   want
	}{
		"each node gets one":                     {0, "+ + +", nil, want{start: "n0 n1 n2"}},
		"but for those that are not wanted":      {0, "+ ~ -", nil, want{start: "n0"}},
		"it waits for its tasks":                 {0, "+p +w +h", nil, want{hold: Health}},
		"it is there":                            {0, "+h +h", nil, want{complete: true}},
		"without nodes too":                      {0, "", nil, want{complete: true}},
		"a new node gets one":                    {0, "+h +", nil, want{start: "n1"}},
		"one that is not wanted any more is rid": {100, "+h -h", nil, want{stop: "n1a"}},
		"one that is away keeps it":              {0, "+h ~h", nil, want{complete: true}},
		"a sick one is replaced at once":         {100, "+h +u", nil, want{stop: "n1a"}},
		"when it is gone":                        {100, "+h +s", nil, want{hold: Ends}},
		"of two the healthy one stays":           {100, "+ph", nil, want{stop: "n0a"}},
		"of two like ones the first stays":       {100, "+pp", nil, want{stop: "n0b"}},
		"a new version replaces all":             {0, "+H +H +H", nil, want{stop: "n0a n1a n2a"}},
		"or half of them":                        {50, "+H +H +H +H", nil, want{stop: "n0a n1a"}},
		"then waits for what started":            {50, "+w +h +H +H", nil, want{stop: "n2a"}},
		"or what ends":                           {50, "+S +S +H +H", nil, want{hold: Ends}},
		"none may go":                            {100, "+H", nil, want{hold: MaximumNoRoom}},
		"but what does not serve":                {100, "+H +P", nil, want{stop: "n1a"}},
		"and what has one in its place":          {100, "+Hh", nil, want{stop: "n0a"}},
		"after failures it waits":                {0, "+ +H", func(s *State) { s.Deployments[0].NotBefore = epoch.Add(time.Second) }, want{hold: Backoff}},
		"the breaker opens":                      {0, "+ +H", func(s *State) { s.Service.Threshold, s.Deployments[0].Failed = 3, 3 }, want{failed: true}},
		"what was given up gets no tasks":        {0, "+ +H", func(s *State) { s.Deployments[0].GivenUp = true }, want{hold: GivenUp}},
		"a protected one stays":                  {0, "+H", func(s *State) { s.Tasks[0].Protected = true }, want{hold: Protection}},
	} {
		t.Run(name, func(t *testing.T) {
			nodes, all := fleet(c.fleet)
			s := State{Service: Service{MinimumPercent: c.least, MaximumPercent: 100}, Now: epoch, Deployments: []Deployment{{ID: "new"}, {ID: "old", Done: true}}, Tasks: all}
			if c.change != nil {
				c.change(&s)
			}
			p := NextDaemon(s, nodes)
			var stop []string
			for _, k := range p.Stop {
				stop = append(stop, k.ID)
			}
			if got := (want{strings.Join(p.StartOn, " "), strings.Join(stop, " "), p.Complete, p.Failed, p.Hold}); got != c.want {
				t.Errorf("plan %+v, want %+v", got, c.want)
			}
		})
	}
}

// Whatever happens, no node gets a second task, and the minimum is kept; and once nothing
// fails any more, each wanted node has its task of the wanted version, and no other has one.
func TestDaemonLaws(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, seed))
		w := &world{r: r, faulty: true}
		w.Now, w.Service, w.Deployments = epoch, Service{MinimumPercent: r.IntN(4) * 25, MaximumPercent: 100}, []Deployment{{ID: "d0"}}
		var nodes []Node
		for i := range r.IntN(8) {
			nodes = append(nodes, Node{fmt.Sprint("n", i), Want(r.IntN(3))})
		}
		step := func() Plan {
			p := NextDaemon(w.State, nodes)
			w.Service.Desired = 0
			for _, n := range nodes {
				if n.Want == Wanted {
					w.Service.Desired++
				}
			}
			for _, id := range p.StartOn {
				if slices.ContainsFunc(w.Tasks, func(k Task) bool { return k.Node == id }) {
					t.Fatalf("seed %d: a second task on %s", seed, id)
				}
			}
			starts := p.StartOn
			superseded := slices.DeleteFunc(slices.Clone(p.Stop), func(s Stop) bool { return s.Why != Superseded })
			before := w.serving()
			for _, s := range p.Stop {
				w.Tasks[slices.IndexFunc(w.Tasks, func(k Task) bool { return k.ID == s.ID })].Phase = Stopping
			}
			if len(superseded) == len(p.Stop) && w.serving() < min(before, w.Service.least()) {
				t.Fatalf("seed %d: of %d tasks that serve %d are left, at least %d must be", seed, before, w.serving(), w.Service.least())
			}
			for _, id := range starts {
				w.add(w.Deployments[0].ID, Pending)
				w.Tasks[len(w.Tasks)-1].Node = id
			}
			if p.Complete {
				w.Deployments[0].Done = true
			}
			w.Deployments = slices.DeleteFunc(w.Deployments, func(d Deployment) bool { return slices.Contains(p.Drop, d.ID) })
			return p
		}
		for range 50 {
			step()
			w.happen()
			if len(nodes) > 0 && r.IntN(8) == 0 {
				nodes[r.IntN(len(nodes))].Want = Want(r.IntN(3))
			}
			if r.IntN(20) == 0 {
				w.next++
				w.Deployments = append([]Deployment{{ID: fmt.Sprint("later", w.next)}}, w.Deployments...)
			}
		}
		w.faulty = false
		for i := range nodes {
			nodes[i].Want = []Want{Wanted, Unwanted}[r.IntN(2)]
		}
		rests := false
		for range 300 {
			w.happen()
			if p := step(); len(p.StartOn)+len(p.Stop) == 0 && p.Hold == Nothing && !p.Complete {
				rests = true
				break
			}
		}
		wanted := 0
		for _, n := range nodes {
			if n.Want == Wanted {
				wanted++
			}
		}
		if !rests || len(w.Tasks) != wanted || w.healthy() != wanted || len(w.Deployments) != 1 {
			if w.Service.least() < wanted { // else none may go to make room
				t.Fatalf("seed %d: rests %v with %d tasks, %d healthy, on %d nodes, %d deployments", seed, rests, len(w.Tasks), w.healthy(), wanted, len(w.Deployments))
			}
		}
	}
}
