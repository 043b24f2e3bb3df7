package image

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
)

// errRefused marks requests that we do not send, whoever asks for them.
var errRefused = errors.New("refused")

// maxPause bounds how long a registry may make us wait between requests.
const maxPause = 30 * time.Second

// transport sends requests to registries and to where they send us: over TLS,
// and in the clear only to this machine and to hosts configured as insecure. It
// leaves a host alone that said "too many requests" for as long as it asked.
//
// The realm that hands out tokens may be elsewhere, as Docker Hub's is, but neither
// on a link-local address nor, unless the registry is, on this machine. Credentials
// go to no host that we were redirected to.
type transport struct {
	public, loopback, insecure *http.Transport
	loopbackRT, insecureRT     http.RoundTripper
	insecureHosts              map[string]bool
	delay                      time.Duration
	now                        func() time.Time

	mu    sync.Mutex
	pause map[string]pause // by host
}

// pause is when a host may be asked again, and how often in a row it said no.
type pause struct {
	until time.Time
	times int
}

func newTransport(o Options) *transport {
	t := &transport{
		public: newHTTP(notLinkLocal, &tls.Config{RootCAs: o.RootCAs}), loopback: newHTTP(onlyLoopback, &tls.Config{RootCAs: o.RootCAs}),
		//nolint:gosec // this is what the operator's list of insecure registries means
		insecure:      newHTTP(nil, &tls.Config{InsecureSkipVerify: true}),
		insecureHosts: map[string]bool{}, delay: o.RetryDelay, now: o.Now, pause: map[string]pause{},
	}
	t.loopbackRT, t.insecureRT = docker.NewHTTPFallback(t.loopback), docker.NewHTTPFallback(t.insecure)
	for _, h := range o.InsecureHosts {
		t.insecureHosts[strings.ToLower(h)] = true
	}
	return t
}

func newHTTP(control func(network, address string) error, config *tls.Config) *http.Transport {
	dialer := &net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: 15 * time.Second, ResponseHeaderTimeout: 60 * time.Second,
		IdleConnTimeout: 60 * time.Second, MaxIdleConns: 32, MaxIdleConnsPerHost: 8,
		MaxResponseHeaderBytes: 256 << 10,
	}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil || control == nil {
			return conn, err
		}
		if err := control(network, conn.RemoteAddr().String()); err != nil {
			_ = conn.Close()
			return nil, err
		}
		return conn, nil
	}
	return t
}

// onlyLoopback holds a name like "localhost" to what it says.
func onlyLoopback(_, address string) error {
	if ap, err := netip.ParseAddrPort(address); err != nil || !ap.Addr().Unmap().IsLoopback() {
		return fmt.Errorf("%w: %s is not an address of this machine", errRefused, address)
	}
	return nil
}

// notLinkLocal keeps registries, and whoever they send us to, from making us ask
// the machine's own metadata service (169.254.169.254) or a neighbour on the link.
func notLinkLocal(_, address string) error {
	ap, err := netip.ParseAddrPort(address)
	if a := ap.Addr().Unmap(); err != nil || a.IsLinkLocalUnicast() || a.IsUnspecified() || a.IsMulticast() {
		return fmt.Errorf("%w: %s is a link-local address, where no registry is", errRefused, address)
	}
	return nil
}

// isLinkLocal tells whether host names an address that notLinkLocal refuses; a
// proxy would dial it for us.
func isLinkLocal(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	return notLinkLocal("", net.JoinHostPort(strings.Trim(name, "[]"), "1")) != nil && net.ParseIP(strings.Trim(name, "[]")) != nil
}

// isLoopback tells whether host ("name", "name:port") names this machine.
func isLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// client returns an HTTP client for pulling from one registry.
func (t *transport) client(registry string) *http.Client {
	return &http.Client{Transport: &registryTransport{t, isLoopback(registry) || t.isInsecure(registry)}}
}

func (t *transport) isInsecure(host string) bool {
	host = strings.ToLower(host)
	name, _, err := net.SplitHostPort(host)
	return t.insecureHosts[host] || err == nil && t.insecureHosts[name]
}

func (t *transport) close() {
	for _, h := range []*http.Transport{t.public, t.loopback, t.insecure} {
		h.CloseIdleConnections()
	}
}

// registryTransport is the transport as one registry may use it.
type registryTransport struct {
	*transport
	// local registries may send us on to this machine; others may not, lest they
	// make us knock on doors that only we can reach.
	local bool
}

// RoundTrip implements http.RoundTripper.
func (t *registryTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	host := req.URL.Host
	if from := req.Response; from != nil && from.Request != nil && from.Request.URL.Host != host {
		// net/http keeps credentials when only the port differs.
		req = req.Clone(req.Context())
		req.Header.Del("Authorization")
	}
	rt, err := t.choose(req)
	if err != nil {
		return nil, err
	}
	if err := t.await(req.Context(), host); err != nil {
		return nil, err
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	t.heed(host, resp)
	if isTransient(resp.StatusCode) {
		return nil, t.statusError(rt, req, resp)
	}
	if !asksForBlob(req) {
		resp.Body = &boundedBody{ReadCloser: resp.Body, left: maxAnswer}
	}
	return resp, nil
}

// isTransient tells of answers that another attempt may change. The library would
// try again at once; we do, after a pause.
func isTransient(status int) bool {
	return status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout
}

// asksForBlob tells whether req, or the one that was redirected to it, is for a
// blob: the only answer whose size is checked elsewhere.
func asksForBlob(req *http.Request) bool {
	for req.Response != nil && req.Response.Request != nil {
		req = req.Response.Request
	}
	return strings.Contains(req.URL.Path, "/blobs/")
}

// maxAnswer bounds what is read of tokens, manifests and errors, whose readers
// take all that they get.
const maxAnswer = 8 * mib

type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("%w: the answer has more than %d bytes", errRefused, maxAnswer)
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

func (t *registryTransport) choose(req *http.Request) (http.RoundTripper, error) {
	switch host := req.URL.Host; {
	case t.isInsecure(host):
		return t.insecureRT, nil
	case isLoopback(host) && !t.local:
		return nil, fmt.Errorf("%w: the registry sent us to %s, on this machine", errRefused, host)
	case isLoopback(host):
		return t.loopbackRT, nil
	case isLinkLocal(host):
		return nil, fmt.Errorf("%w: %s is a link-local address, where no registry is", errRefused, host)
	case req.URL.Scheme != "https":
		return nil, fmt.Errorf("%w: plain HTTP to %s; list it as an insecure registry to allow that", errRefused, host)
	}
	return t.public, nil
}

// await waits until host may be asked again.
func (t *transport) await(ctx context.Context, host string) error {
	t.mu.Lock()
	wait := t.pause[host].until.Sub(t.now())
	t.mu.Unlock()
	if wait <= 0 {
		return nil
	}
	return sleep(ctx, wait)
}

// heed notes what a response says about asking again.
func (t *transport) heed(host string, resp *http.Response) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
		delete(t.pause, host)
		return
	}
	p := t.pause[host]
	wait := min(t.delay<<min(p.times, 10), maxPause)
	after := resp.Header.Get("Retry-After")
	if s, err := strconv.Atoi(after); err == nil && s > 0 {
		wait = min(time.Duration(min(s, int(maxPause/time.Second)))*time.Second, maxPause)
	} else if at, err := http.ParseTime(after); err == nil {
		wait = min(max(at.Sub(t.now()), wait), maxPause)
	}
	if len(t.pause) > 256 {
		clear(t.pause)
	}
	t.pause[host] = pause{until: t.now().Add(wait), times: p.times + 1}
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
