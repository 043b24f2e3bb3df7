package proxy

import (
	"context"
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
