package proxy

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"longshore.dev/longshore/internal/edge/balance"
)

// Bounds of requests, as AWS has them.
const (
	maxHeaders     = 64 << 10
	maxHeader      = 16 << 10
	maxRequestLine = 16 << 10
)

// hopByHop headers end here, in both directions, as do those that Connection names.
var hopByHop = []string{"Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// removeHopByHop takes them out, and returns what was asked to upgrade to, and whether
// trailers were asked for.
func removeHopByHop(h http.Header) (upgrade string, trailers bool) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			name = textproto.TrimString(name)
			if strings.EqualFold(name, "upgrade") {
				upgrade = h.Get("Upgrade")
			}
			h.Del(name)
		}
	}
	for _, line := range h["Te"] {
		for name := range strings.SplitSeq(line, ",") {
			trailers = trailers || strings.EqualFold(textproto.TrimString(name), "trailers")
		}
	}
	for _, name := range hopByHop {
		delete(h, name)
	}
	return upgrade, trailers
}

// forwardedHeaders tells the target about the client.
func (x *exchange) forwardedHeaders(h http.Header) {
	client, port, err := net.SplitHostPort(x.r.RemoteAddr)
	if err != nil {
		client, port = x.r.RemoteAddr, ""
	}
	if x.c.balancer.ForwardedPort && port != "" {
		client = net.JoinHostPort(client, port)
	}
	switch x.c.balancer.ForwardedMode {
	case balance.Preserve:
	case balance.Remove:
		delete(h, "X-Forwarded-For")
	default:
		if before := h["X-Forwarded-For"]; len(before) > 0 {
			client = strings.Join(before, ", ") + ", " + client
		}
		h["X-Forwarded-For"] = []string{client}
	}
	h["X-Forwarded-Proto"] = []string{strings.ToLower(x.f.kind.protocol)}
	h["X-Forwarded-Port"] = []string{x.port()}
	h["X-Amzn-Trace-Id"] = []string{trace(h.Get("X-Amzn-Trace-Id"), x.began, x.f.server.options.Random)}
	if x.c.balancer.TLSHeaders {
		delete(h, "X-Amzn-Tls-Version")
		delete(h, "X-Amzn-Tls-Cipher-Suite")
		if s := x.r.TLS; s != nil {
			h["X-Amzn-Tls-Version"] = []string{strings.Replace(tls.VersionName(s.Version), "TLS 1.", "TLSv1.", 1)}
			h["X-Amzn-Tls-Cipher-Suite"] = []string{tls.CipherSuiteName(s.CipherSuite)}
		}
	}
}

// port is the listener's.
func (x *exchange) port() string {
	if x.c.listener.Port != 0 {
		return strconv.Itoa(x.c.listener.Port)
	}
	_, port, _ := net.SplitHostPort(x.f.address.String())
	return port
}

// trace makes a trace id, or adds this load balancer's part to one that has a root.
func trace(before string, now time.Time, random func() uint64) string {
	id := fmt.Sprintf("1-%08x-%08x%016x", uint32(now.Unix()), uint32(random()), random())
	if before == "" {
		return "Root=" + id
	}
	var parts []string
	root := false
	for part := range strings.SplitSeq(before, ";") {
		name, _, _ := strings.Cut(textproto.TrimString(part), "=")
		root = root || name == "Root"
		if name != "Self" && name != "" {
			parts = append(parts, textproto.TrimString(part))
		}
	}
	own := "Self="
	if !root {
		own = "Root="
	}
	return strings.Join(append([]string{own + id}, parts...), ";")
}

// host is the Host header for the target: unless it is preserved, a port that is not the
// protocol's own is in it, and one that is, is not.
func (x *exchange) host() string {
	if x.c.balancer.PreserveHost {
		return x.r.Host
	}
	own := "80"
	if x.f.kind.protocol == balance.HTTPS {
		own = "443"
	}
	host, port, err := net.SplitHostPort(x.r.Host)
	switch {
	case err != nil && x.port() != own && x.r.Host != "":
		return x.r.Host + ":" + x.port()
	case err == nil && port == own && x.port() == own:
		if strings.Contains(host, ":") {
			return "[" + host + "]"
		}
		return host
	}
	return x.r.Host
}

// dropInvalid removes headers with names of other characters than letters, digits and -.
func dropInvalid(h http.Header) {
	for name := range h {
		for i := range len(name) {
			if c := name[i]; c != '-' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
				delete(h, name)
				break
			}
		}
	}
}
