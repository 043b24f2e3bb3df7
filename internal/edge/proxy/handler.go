package proxy

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"longshore.dev/longshore/internal/edge/balance"
)

// exchange is one request and its answer.
type exchange struct {
	f     *front
	c     *compiled
	w     http.ResponseWriter
	r     *http.Request
	began time.Time
	// closing: the client's connection ends with the response. alone: so does the target's.
	closing, alone bool
	cookies        http.Header

	// For what is forwarded; body is nil if there is none.
	fl   *flight
	out  *http.Request
	body *upload
}

// mostTables is how many tables a request may try: each time, the group that it was to go
// to is gone, and a new table there.
const mostTables = 8

// ServeHTTP answers a request by the table of this moment.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{f: f, c: f.compiled.Load(), w: w, r: r, began: time.Now()}
	connection := r.Context().Value(connectionKey{}).(*connection)
	if connection.served.CompareAndSwap(false, true) {
		f.served(connection.raw)
	}
	x.closing = f.leaving.Load() || x.began.Sub(connection.birth) > x.c.balancer.KeepAlive()
	if status := x.refused(); status != 0 {
		x.closing = true
		x.fail(status)
		return
	}
	if x.c.balancer.DropInvalidHeaders {
		dropInvalid(r.Header)
	}
	q := balance.Request{Method: r.Method, Host: hostOf(r), Path: r.URL.EscapedPath(), Query: r.URL.RawQuery, Header: r.Header, Source: sourceOf(r)}
	defer x.end()
	for range mostTables {
		if x.dispatch(&q) {
			return
		}
		x.c = f.compiled.Load()
	}
	x.fail(http.StatusServiceUnavailable)
}

// dispatch is false when the table has changed under the request, and nothing was done.
func (x *exchange) dispatch(q *balance.Request) bool {
	action, rule := x.c.router.Route(q)
	switch action.Type {
	case balance.RedirectAction:
		x.redirect(action.Redirect, q)
	case balance.FixedResponseAction:
		x.fixed(action.FixedResponse)
	default:
		return x.forward(action.Forward, rule)
	}
	return true
}

// end is the last that is done with a request.
func (x *exchange) end() {
	if x.body != nil {
		x.uploaded()
	}
	if x.fl != nil {
		x.fl.land()
	}
}

// refused returns the status of a request that no rule gets to see, 0 for others.
func (x *exchange) refused() int {
	if x.r.Method == http.MethodTrace || x.r.Method == http.MethodConnect {
		return http.StatusMethodNotAllowed
	}
	if len(x.r.Method)+len(x.r.RequestURI)+len(" HTTP/1.1 ") > maxRequestLine {
		return http.StatusRequestURITooLong
	}
	for name, values := range x.r.Header {
		for _, v := range values {
			if len(name)+len(v) > maxHeader {
				return http.StatusBadRequest
			}
		}
	}
	if !x.desync() {
		return http.StatusBadRequest
	}
	return 0
}

func hostOf(r *http.Request) string {
	if host, _, err := net.SplitHostPort(r.Host); err == nil {
		return host
	}
	return r.Host
}

func sourceOf(r *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap()
}

func (x *exchange) redirect(to *balance.Redirect, q *balance.Request) {
	x.c.counters.redirects.Add(1)
	x.w.Header().Set("Location", to.Location(balance.Origin{Protocol: x.f.kind.protocol, Host: q.Host, Port: x.port(), Path: q.Path, Query: q.Query}))
	x.fail(to.StatusCode)
}

func (x *exchange) fixed(answer *balance.FixedResponse) {
	x.c.counters.fixed.Add(1)
	kind := answer.ContentType
	if kind == "" {
		kind = "text/plain; charset=utf-8"
	}
	x.answer(answer.StatusCode, kind, answer.Body)
}

// reasons are of codes that net/http does not know.
var reasons = map[int]string{460: "Client Closed Request", 464: "Incompatible Protocol Versions"}

// fail answers with a status and a page that says no more than that.
func (x *exchange) fail(status int) {
	title := strings.TrimSpace(fmt.Sprint(status, " ", http.StatusText(status), reasons[status]))
	x.answer(status, "text/html", "<html>\r\n<head><title>"+title+"</title></head>\r\n<body>\r\n<center><h1>"+title+"</h1></center>\r\n</body>\r\n</html>\r\n")
}

func (x *exchange) answer(status int, kind, body string) {
	x.c.counters.own(status)
	h := x.w.Header()
	h.Set("Server", "longshore")
	h.Set("Content-Type", kind)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if x.closing {
		h.Set("Connection", "close")
	}
	x.w.WriteHeader(status)
	if x.r.Method == http.MethodHead || status == http.StatusNoContent {
		return
	}
	// The client may be gone: there is nobody to tell.
	_, _ = x.w.Write([]byte(body))
	x.c.counters.bytes.Add(int64(len(body)))
}
