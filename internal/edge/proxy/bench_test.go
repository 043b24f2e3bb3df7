package proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"longshore.dev/longshore/internal/edge/balance"
)

// BenchmarkRequests is a small response over kept connections: straight from the target,
// through net/http's ReverseProxy, and through the load balancer. All of them, the
// clients and the target share the processors.
func BenchmarkRequests(b *testing.B) {
	body := make([]byte, 1024)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(body) }))
	defer web.Close()
	to, _ := url.Parse(web.URL)
	reverse := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to); r.SetXForwarded() },
		Transport: &http.Transport{MaxIdleConnsPerHost: 512, DisableCompression: true},
	})
	defer reverse.Close()
	s := New(Options{})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	table := simple(targetAt(web.Listener.Addr()))
	table.LoadBalancers[0].Listeners[0].Rules = []balance.Rule{
		{ID: "1", Priority: 1, Conditions: []balance.Condition{{Field: balance.PathPattern, Values: []string{"/other/*"}}}, Actions: forwardTo("g")}}
	if err := s.Apply(table); err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct{ name, url string }{
		{"direct", web.URL}, {"ReverseProxy", reverse.URL}, {"edge", "http://" + s.Addr("l").String()},
	} {
		b.Run(c.name, func(b *testing.B) {
			client := &http.Transport{MaxIdleConnsPerHost: 64}
			defer client.CloseIdleConnections()
			b.SetParallelism(16)
			b.ReportAllocs()
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					q, _ := http.NewRequest("GET", c.url+"/some/path?x=1", nil)
					res, err := client.RoundTrip(q)
					if err != nil || res.StatusCode != 200 {
						b.Fatal(res, err)
					}
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
		})
	}
}

// BenchmarkApply applies a table of a thousand targets in a hundred groups again, with
// one target changed.
func BenchmarkApply(b *testing.B) {
	s := New(Options{})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	table := simple()
	table.TargetGroups = nil
	for i := range 100 {
		g := balance.TargetGroup{ID: fmt.Sprint("g", i), Protocol: balance.HTTP, DeregistrationDelaySeconds: new(int)}
		for j := range 10 {
			g.Targets = append(g.Targets, balance.Target{ID: fmt.Sprint(j), IP: "127.0.0.1", Port: 1 + i*10 + j})
		}
		table.TargetGroups = append(table.TargetGroups, g)
	}
	// Without a listener that forwards to them, no checks disturb.
	for i := 0; b.Loop(); i++ {
		next := table
		next.TargetGroups = append([]balance.TargetGroup(nil), table.TargetGroups...)
		changed := &next.TargetGroups[i%len(table.TargetGroups)]
		changed.Targets = changed.Targets[:5+i%5]
		next.LoadBalancers = nil
		if err := s.Apply(next); err != nil {
			b.Fatal(err)
		}
	}
}
