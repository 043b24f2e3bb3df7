package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"longshore.dev/longshore/internal/edge/balance"
)

// check begins the checks of a target, with the group's lock held.
func (g *group) check(t *target) {
	ctx, cancel := context.WithCancel(g.server.ctx)
	t.stopChecks = cancel
	g.server.running.Go(func() { g.checks(ctx, t) })
}

// stopChecking ends them, with the group's lock held.
func (g *group) stopChecking(t *target) {
	if t.stopChecks != nil {
		t.stopChecks()
		t.stopChecks = nil
	}
}

// checks runs until the context ends: one check at a time, the first at once.
func (g *group) checks(ctx context.Context, t *target) {
	for {
		config := g.pool.Load().config
		began := time.Now()
		result := g.server.probe(ctx, config, t)
		if ctx.Err() != nil {
			return
		}
		g.observe(ctx, t, result)
		timer := time.NewTimer(config.HealthCheck.Interval() - time.Since(began))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-t.again:
			timer.Stop()
		}
	}
}

// observe brings a result into the target's health, and into the pool if that changes it.
func (g *group) observe(ctx context.Context, t *target, r balance.Result) {
	g.mu.Lock()
	before := t.health
	if ctx.Err() != nil {
		g.mu.Unlock()
		return
	}
	t.health = before.Next(g.config, r)
	after := t.health
	if after.State != before.State {
		if after.State == balance.Healthy {
			t.healthySince.Store(time.Now().UnixNano())
		}
		g.publish()
	}
	ends := after.State == balance.Unhealthy && g.config.Layer4() && !g.config.KeepUnhealthyConnections
	g.mu.Unlock()
	if ends && before.State == balance.Healthy {
		t.cutFlights(errUnhealthy)
	}
	if after.State != before.State || after.Reason != before.Reason {
		g.server.options.Log.Info("target health", "group", g.id, "target", t.key.String(), "state", after.State, "reason", after.Reason, "description", after.Description)
		g.server.options.Changed()
	}
}

// probe checks a target once.
func (s *Server) probe(ctx context.Context, g *balance.TargetGroup, t *target) balance.Result {
	ctx, cancel := context.WithTimeout(ctx, g.CheckTimeout())
	defer cancel()
	port := g.CheckPort(&balance.Target{Port: t.key.port})
	address := net.JoinHostPort(t.key.ip, strconv.Itoa(port))
	if g.CheckProtocol() == balance.TCP {
		c, err := s.dial(ctx, "tcp", address)
		if err != nil {
			return balance.Result{TimedOut: timedOut(ctx, err)}
		}
		c.Close()
		return balance.Result{Passed: true}
	}
	version := g.Version()
	if g.Layer4() {
		version = balance.HTTP1
	}
	transport := s.newTransport(version)
	// A check has a connection of its own: it shows that the target takes new ones.
	transport.DisableKeepAlives = version == balance.HTTP1
	defer transport.CloseIdleConnections()
	code, err := ask(ctx, transport, g, address)
	switch {
	case err != nil:
		return balance.Result{TimedOut: timedOut(ctx, err)}
	case g.Matches(code):
		return balance.Result{Passed: true}
	}
	return balance.Result{Code: strconv.Itoa(code)}
}

func timedOut(ctx context.Context, err error) bool {
	var timeout interface{ Timeout() bool }
	return ctx.Err() != nil || errors.As(err, &timeout) && timeout.Timeout()
}

// mostOfAnswer is how much of a check's answer is read.
const mostOfAnswer = 64 << 10

// emptyMessage is gRPC's: not compressed, of no bytes.
var emptyMessage = []byte{0, 0, 0, 0, 0}

// ask returns the status of HTTP, or that of gRPC.
func ask(ctx context.Context, transport http.RoundTripper, g *balance.TargetGroup, address string) (int, error) {
	scheme := "http"
	if g.CheckProtocol() == balance.HTTPS {
		scheme = "https"
	}
	method, body := http.MethodGet, io.Reader(nil)
	if g.Version() == balance.GRPC {
		method, body = http.MethodPost, bytes.NewReader(emptyMessage)
	}
	r, err := http.NewRequestWithContext(ctx, method, scheme+"://"+address+g.CheckPath(), body)
	if err != nil {
		return 0, err
	}
	r.Header.Set("User-Agent", "ELB-HealthChecker/2.0")
	if g.Version() == balance.GRPC {
		r.Header.Set("Content-Type", "application/grpc")
		r.Header.Set("Te", "trailers")
	}
	res, err := transport.RoundTrip(r)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(res.Body, mostOfAnswer)); err != nil {
		return 0, err
	}
	if g.Version() != balance.GRPC {
		return res.StatusCode, nil
	}
	status := res.Trailer.Get("Grpc-Status")
	if status == "" {
		status = res.Header.Get("Grpc-Status")
	}
	return strconv.Atoi(status)
}
