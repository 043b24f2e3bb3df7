package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"longshore.dev/longshore/internal/edge/balance"
)

// mostAttempts is how many targets a request may be sent to.
const mostAttempts = 3

// Codes that only load balancers of AWS have.
const (
	statusClientGone   = 460
	statusIncompatible = 464
)

// forward sends the request to a target and its response to the client. It is false when
// the table has changed, and nothing was sent.
func (x *exchange) forward(a *balance.Forward, rule string) bool {
	x.cookies = nil
	g := x.group(a, rule)
	if g == nil {
		x.fail(http.StatusServiceUnavailable)
		return true
	}
	if !compatible(g.pool.Load().config, x.r) {
		x.closing = x.closing || x.r.ProtoMajor == 1
		x.fail(statusIncompatible)
		return true
	}
	if x.out == nil {
		ctx, cancel := context.WithCancelCause(x.r.Context())
		x.fl = x.f.takeOff(x.c.idle, cancel, unblock(x.w))
		x.prepare(ctx)
	}
	return x.try(g)
}

// uploaded counts the body. Where its end was not read, the server reads on after this:
// not for longer than the idle timeout.
func (x *exchange) uploaded() {
	x.c.counters.bytes.Add(x.body.n.Load())
	if !x.body.ended.Load() {
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(x.c.idle))
	}
}

// group is the target group of the client's cookie, or one by weight.
func (x *exchange) group(a *balance.Forward, rule string) *group {
	id, sealer := "", x.f.server.sealer
	scope := x.c.listener.ID + " " + rule
	if a.StickySeconds > 0 {
		if id = sealer.remembered(x.r, groupCookie, scope, x.began); !a.Has(id) {
			id = ""
		}
	}
	if id == "" {
		id = a.PickGroup(x.f.server.options.Random())
	}
	if id != "" && a.StickySeconds > 0 {
		x.remember(groupCookie, scope, id, a.StickySeconds)
	}
	return x.c.groups[id]
}

func (x *exchange) remember(name, scope, value string, seconds int) {
	if x.cookies == nil {
		x.cookies = http.Header{}
	}
	x.f.server.sealer.remember(x.cookies, name, scope, value, seconds, x.began)
}

// compatible tells whether the group's protocol version can carry the request.
func compatible(g *balance.TargetGroup, r *http.Request) bool {
	switch g.Version() {
	case balance.GRPC:
		return r.ProtoMajor == 2 && r.Method == http.MethodPost
	case balance.HTTP2:
		return r.ProtoMajor == 2
	}
	return !strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

// prepare makes the request for the target, but for its address. It takes the header
// over: nobody else needs it.
func (x *exchange) prepare(ctx context.Context) {
	h := x.r.Header
	upgrade, trailers := removeHopByHop(h)
	if upgrade != "" && x.r.ProtoMajor == 1 {
		h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{upgrade}
	}
	if trailers {
		h["Te"] = []string{"trailers"}
	}
	x.forwardedHeaders(h)
	if _, ok := h["User-Agent"]; !ok {
		// Without this, net/http names itself.
		h["User-Agent"] = nil
	}
	out := &http.Request{
		Method: x.r.Method,
		URL:    &url.URL{Path: x.r.URL.Path, RawPath: x.r.URL.RawPath, RawQuery: x.r.URL.RawQuery, ForceQuery: x.r.URL.ForceQuery},
		Host:   x.host(), Header: h, ContentLength: x.r.ContentLength, Close: x.alone,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	x.out = out.WithContext(ctx)
	if x.r.ContentLength == 0 || x.r.Body == nil || x.r.Body == http.NoBody {
		x.out.Body = http.NoBody
		return
	}
	x.body = &upload{body: x.r.Body, fl: x.fl}
	x.out.Body, x.out.Trailer = x.body, x.r.Trailer
	// The response may come before the body has ended; HTTP/2 can do that anyway.
	_ = http.NewResponseController(x.w).EnableFullDuplex()
}

// try sends the request to targets until one answers.
func (x *exchange) try(g *group) bool {
	var tried []*target
	sent := 0
	for {
		t := x.target(g, tried)
		if t == nil && sent == 0 && x.f.compiled.Load() != x.c {
			return false
		}
		if t == nil && sent == 0 {
			x.fail(http.StatusServiceUnavailable)
			return true
		}
		if t == nil {
			x.fail(http.StatusBadGateway)
			return true
		}
		tried = append(tried, t)
		if !t.begin(x.fl) {
			continue // It has just begun to drain: the pool of now is without it.
		}
		if sent++; sent == 1 {
			x.c.counters.requests.Add(1)
			g.counters.requests.Add(1)
		}
		if sent > 1 {
			// What has failed may still look at the request that it had.
			address := *x.out.URL
			x.out = x.out.WithContext(x.out.Context())
			x.out.URL = &address
		}
		if !x.attempt(t, sent < mostAttempts) {
			return true
		}
	}
}

// target is the one that the client's cookie names, or another one.
func (x *exchange) target(g *group, tried []*target) *target {
	p, s := g.pool.Load(), x.f.server
	if p.config.Layer4() {
		return nil // It has become another group under the request.
	}
	if len(tried) == 0 {
		if t := p.byKey[x.stuck(p.config)]; t != nil && p.may(t) {
			return t
		}
	}
	roll := float64(s.options.Random()>>11) / (1 << 53)
	return balance.Choose(p.config.Algorithm, p.routable, tried, g.turn.Add(1), roll)
}

// attempt is true when the request is to be sent to another target.
func (x *exchange) attempt(t *target, more bool) bool {
	fl, out := x.fl, x.out
	defer t.done(fl)
	out.URL.Scheme, out.URL.Host = "http", t.address
	if t.key.protocol == balance.HTTPS {
		out.URL.Scheme = "https"
	}
	began := time.Now()
	res, err := t.transport.RoundTrip(out)
	if err != nil {
		var dial *dialError
		if errors.As(err, &dial) {
			x.c.counters.dialErrors.Add(1)
			t.group.counters.dialErrors.Add(1)
		}
		if more && x.repeatable(dial) {
			return true
		}
		x.failed(t, err)
		return false
	}
	defer res.Body.Close()
	took := time.Since(began)
	x.c.counters.times.add(took)
	t.group.counters.times.add(took)
	x.c.counters.target.add(res.StatusCode)
	t.group.counters.target.add(res.StatusCode)
	x.stick(t.group.pool.Load().config, t, res)
	fl.touch()
	if res.StatusCode == http.StatusSwitchingProtocols {
		x.upgrade(fl, res)
		return false
	}
	x.respond(fl, res)
	return false
}

// repeatable tells whether a request that has failed may be sent to another target: no
// connection was made, or it is safe and has no body. One that was cut, or took too long
// to connect, is not tried again.
func (x *exchange) repeatable(dial *dialError) bool {
	if x.fl.why() != nil || x.out.Context().Err() != nil {
		return false
	}
	if dial != nil {
		var timeout net.Error
		return !(errors.As(dial.err, &timeout) && timeout.Timeout()) && (x.body == nil || x.body.n.Load() == 0)
	}
	method := x.out.Method
	safe := method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
	return safe && x.body == nil
}

// failed answers for a target that did not.
func (x *exchange) failed(t *target, err error) {
	fl := x.fl
	status := http.StatusBadGateway
	var timeout net.Error
	switch cause := fl.why(); {
	case errors.Is(cause, errIdle) && fl.stalled:
		status = http.StatusRequestTimeout
	case errors.Is(cause, errIdle):
		status = http.StatusGatewayTimeout
	case cause != nil:
		err = cause
	case fl.malformed.Load() && x.r.ProtoMajor == 1:
		x.closing = true
		status = http.StatusBadRequest
	case fl.clientGone.Load() || x.r.Context().Err() != nil:
		// Nobody is there to be told.
		x.c.counters.own(statusClientGone)
		panic(http.ErrAbortHandler)
	case errors.As(err, &timeout) && timeout.Timeout():
		status = http.StatusGatewayTimeout
	}
	x.f.server.options.Log.Debug("a request failed", "listener", x.c.listener.ID, "group", t.group.id, "target", t.key.String(), "status", status, "error", err)
	if fl.why() != nil {
		// The cut has left deadlines behind.
		x.closing = true
	}
	x.fail(status)
}

// respond passes the response on.
func (x *exchange) respond(fl *flight, res *http.Response) {
	removeHopByHop(res.Header)
	h := x.w.Header()
	for name, values := range res.Header {
		h[name] = values
	}
	for name, values := range x.cookies {
		h[name] = append(h[name], values...)
	}
	if _, ok := h["Content-Type"]; !ok {
		// Without this, net/http guesses.
		h["Content-Type"] = nil
	}
	for name := range res.Trailer {
		h.Add("Trailer", name)
	}
	if x.closing {
		h.Set("Connection", "close")
	}
	fl.answering.Store(true)
	x.w.WriteHeader(res.StatusCode)
	n, err := x.copyBody(fl, res)
	x.c.counters.bytes.Add(n)
	if err != nil {
		// The client must not take what it has for all.
		panic(http.ErrAbortHandler)
	}
	for name, values := range res.Trailer {
		for _, v := range values {
			h.Add(http.TrailerPrefix+name, v)
		}
	}
}

var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// copyBody passes each piece on as it comes, but for the last of a known length: that one
// is sent with the end.
func (x *exchange) copyBody(fl *flight, res *http.Response) (sent int64, err error) {
	if res.Body == http.NoBody {
		return 0, nil
	}
	buffer := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buffer)
	control := http.NewResponseController(x.w)
	if res.ContentLength < 0 {
		// The headers of a stream do not wait for its first piece.
		_ = control.Flush()
	}
	for {
		n, err := res.Body.Read(buffer[:])
		fl.touch()
		if n > 0 {
			if _, err := x.w.Write(buffer[:n]); err != nil {
				return sent, err
			}
			fl.touch()
			if sent += int64(n); err == nil && sent != res.ContentLength {
				if err := control.Flush(); err != nil {
					return sent, err
				}
			}
		}
		if err == io.EOF {
			return sent, nil
		}
		if err != nil {
			return sent, err
		}
	}
}
