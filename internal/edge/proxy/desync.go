package proxy

import (
	"net/http"
	"strings"

	"longshore.dev/longshore/internal/edge/balance"
)

// suspicion is how a request may be understood differently by another server. What AWS
// calls severe (lengths that contradict each other, transfer encodings that nobody knows,
// malformed headers) does not come this far: net/http refuses it. Of a length beside a
// transfer encoding it drops the length, so that this is not seen here, nor by a target.
type suspicion int

const (
	compliant suspicion = iota
	acceptable
	ambiguous
)

// classify looks for what net/http lets through.
func classify(r *http.Request) (found suspicion) {
	for name, values := range r.Header {
		if disguised(name) {
			return ambiguous
		}
		for _, v := range values {
			for i := range len(v) {
				if v[i] >= 0x80 {
					found = acceptable
				}
			}
		}
	}
	if r.ProtoMajor == 1 && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		switch length := r.Header["Content-Length"]; {
		case r.ContentLength != 0:
			return ambiguous
		case length != nil:
			found = acceptable
		}
	}
	return found
}

// disguised tells whether a header becomes one of the framing under a server that takes
// other characters for -.
func disguised(name string) bool {
	if len(name) != len("Content-Length") && len(name) != len("Transfer-Encoding") {
		return false
	}
	plain := strings.Map(func(c rune) rune {
		if c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' {
			return c
		}
		return '-'
	}, name)
	return (strings.EqualFold(plain, "Content-Length") || strings.EqualFold(plain, "Transfer-Encoding")) &&
		name != "Content-Length" && name != "Transfer-Encoding"
}

// desync is false where the request is refused by the load balancer's mode.
func (x *exchange) desync() bool {
	found := classify(x.r)
	if found == compliant {
		return true
	}
	x.c.counters.nonCompliant.Add(1)
	switch x.c.balancer.DesyncMode {
	case balance.Strictest:
		return false
	case balance.Monitor:
	default:
		// Whatever else may be on these connections is not read.
		x.closing = x.closing || found == ambiguous
		x.alone = found == ambiguous
	}
	return true
}
