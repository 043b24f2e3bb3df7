package balance

import (
	"fmt"
	"testing"
)

// BenchmarkRoute is a request that the last of a hundred rules takes, AWS's limit.
func BenchmarkRoute(b *testing.B) {
	l := Listener{DefaultActions: fixed(404)}
	for i := range 100 {
		l.Rules = append(l.Rules, Rule{ID: fmt.Sprint(i), Priority: i, Actions: fixed(200), Conditions: []Condition{
			{Field: HostHeader, Values: []string{"*.example.com"}},
			{Field: PathPattern, Values: []string{fmt.Sprintf("/service-%d/*", i)}},
		}})
	}
	r, err := NewRouter(&l)
	if err != nil {
		b.Fatal(err)
	}
	q := ask(func(q *Request) { q.Path = "/service-99/a/b/c" })
	b.ReportAllocs()
	for b.Loop() {
		if _, rule := r.Route(q); rule != "99" {
			b.Fatal(rule)
		}
	}
}
