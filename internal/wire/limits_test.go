package wire

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs"

	"longshore.dev/longshore/internal/wire/sigv4"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// limited serves the fixture's operations with limits.
func limited(t *testing.T, limits Limits) *fixture {
	f := newFixture(t, nil)
	f.http.Close()
	f.http = httptest.NewUnstartedServer(nil)
	f.http.Config = NewHTTPServer(f.server, limits)
	f.http.Start()
	t.Cleanup(f.http.Close)
	return f
}

func (f *fixture) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", f.http.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// head is a signed request's head for a body, of which it sends nothing.
func (f *fixture) head(t *testing.T, body []byte) string {
	t.Helper()
	r, _ := http.NewRequest("POST", f.http.URL+"/", nil)
	r.Header.Set("X-Amz-Target", ecsTarget+"StopTask")
	if err := sigv4.Sign(r, sigv4.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}, testRegion, "ecs", sigv4.Hash(body), time.Now()); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nX-Amz-Target: %sStopTask\r\nX-Amz-Date: %s\r\nAuthorization: %s\r\n\r\n",
		r.URL.Host, len(body), ecsTarget, r.Header.Get("X-Amz-Date"), r.Header.Get("Authorization"))
}

// ended tells whether the server closed c without an answer.
func ended(c net.Conn) bool {
	n, err := c.Read(make([]byte, 1))
	return n == 0 && err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

func TestSlowHeadsAreCutOff(t *testing.T) {
	f := limited(t, Limits{HeaderTime: 50 * time.Millisecond, IdleTime: 50 * time.Millisecond})
	for name, part := range map[string]string{"nothing": "", "a part of the head": "POST / HTTP/1.1\r\nHost: x\r\nX-A: "} {
		c := f.dial(t)
		io.WriteString(c, part)
		if !ended(c) {
			t.Errorf("%s: the connection stays", name)
		}
	}
	// A connection that waits for its next request is given up too.
	c := f.dial(t)
	io.WriteString(c, "GET /_longshore/health HTTP/1.1\r\nHost: x\r\n\r\n")
	if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	if !ended(c) {
		t.Error("an idle connection stays")
	}
}

func TestSlowHandshakesAreCutOff(t *testing.T) {
	f := newFixture(t, nil)
	f.http.Close()
	f.http = httptest.NewUnstartedServer(nil)
	f.http.Config = NewHTTPServer(f.server, Limits{HeaderTime: 50 * time.Millisecond})
	f.http.StartTLS()
	t.Cleanup(f.http.Close)
	if c := f.dial(t); !ended(c) {
		t.Error("a connection without a handshake stays")
	}
}

// Websockets need HTTP/1.1, and what is not spoken cannot be abused (rapid resets).
func TestHTTP2IsNotSpoken(t *testing.T) {
	f := newFixture(t, nil)
	f.http.Close()
	f.http = httptest.NewUnstartedServer(nil)
	f.http.Config = NewHTTPServer(f.server, DefaultLimits())
	f.http.StartTLS()
	t.Cleanup(f.http.Close)
	c, err := tls.Dial("tcp", f.http.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if p := c.ConnectionState().NegotiatedProtocol; p == "h2" {
		t.Error("HTTP/2 was negotiated")
	}
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil && resp.StatusCode < 400 {
		t.Errorf("HTTP/2 with prior knowledge: %d", resp.StatusCode)
	}
}

// A body that does not come is not waited for, and the caller is told; one that
// comes slowly but steadily is.
func TestSlowBodiesAreCutOff(t *testing.T) {
	body := []byte(`{"task":"` + strings.Repeat("x", 2000) + `"}`)
	f := limited(t, Limits{BodyTime: 100 * time.Millisecond, BodyRate: 1})
	c := f.dial(t)
	io.WriteString(c, f.head(t, body))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 400 || !strings.Contains(string(answer), "RequestTimeout") {
		t.Errorf("%d %s", resp.StatusCode, answer)
	}

	c = f.dial(t)
	io.WriteString(c, f.head(t, body))
	// The pause is longer than BodyTime, and what has come allows it.
	c.Write(body[:len(body)-2])
	time.AfterFunc(300*time.Millisecond, func() { c.Write(body[len(body)-2:]) })
	if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 200 {
		t.Errorf("a slow body: %v %v", resp, err)
	}
}

// The deadline of a body does not end an operation that runs longer than it.
func TestOperationsOutliveTheBodysDeadline(t *testing.T) {
	f := limited(t, Limits{BodyTime: 50 * time.Millisecond})
	f.identity = func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
			return nil
		}
	}
	if status, answer, _ := f.form(t, "sts", "Action=GetCallerIdentity&Version=2011-06-15"); status != 200 {
		t.Errorf("%d %s", status, answer)
	}
}

func TestHeadsAreBounded(t *testing.T) {
	f := limited(t, Limits{HeaderBytes: 4 << 10})
	c := f.dial(t)
	go func() { fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\nX-A: %s\r\n\r\n", strings.Repeat("x", 1<<20)) }()
	if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Error(resp, err)
	}
}

// An answer that nobody reads does not hold its connection for ever.
func TestAnswersThatNobodyReadsEnd(t *testing.T) {
	done := make(chan error, 1)
	s := httptest.NewUnstartedServer(nil)
	s.Config = NewHTTPServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		piece := make([]byte, 1<<20)
		for {
			if _, err := w.Write(piece); err != nil {
				done <- err
				return
			}
		}
	}), Limits{RequestTime: 200 * time.Millisecond})
	s.Start()
	t.Cleanup(s.Close)
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	select {
	case <-done:
	case <-time.After(patience):
		t.Error("the handler still writes")
	}
}

// One address cannot take all connections, and gets its part back.
func TestConnectionsAreBounded(t *testing.T) {
	f := limited(t, Limits{Connections: 3, ConnectionsPerSource: 2})
	health := func(from string) (net.Conn, bool) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp", f.http.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, "GET /_longshore/health HTTP/1.1\r\nHost: x\r\n\r\n")
		_, err = http.ReadResponse(bufio.NewReader(c), nil)
		return c, err == nil
	}
	first, ok := health("127.0.0.1")
	_, ok2 := health("127.0.0.1")
	if !ok || !ok2 {
		t.Fatal("two connections of one address were not served")
	}
	if _, ok := health("127.0.0.1"); ok {
		t.Error("a third connection of one address was served")
	}
	if _, ok := health("127.0.0.2"); !ok {
		t.Error("another address was not served")
	}
	if _, ok := health("127.0.0.3"); ok {
		t.Error("a fourth connection in all was served")
	}
	first.Close()
	deadline := time.Now().Add(patience)
	for {
		if _, ok := health("127.0.0.1"); ok {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a closed connection still counts")
		}
	}
}

// Bodies under way may fill what is set aside for them, of which no address gets
// all. Small calls pass none the less.
func TestBodiesInMemoryAreBounded(t *testing.T) {
	f := limited(t, Limits{BodyBytes: 100 << 10, BodyBytesPerSource: 40 << 10, BodyFree: 1 << 10})
	body := []byte(`{"task":"` + strings.Repeat("x", 60<<10) + `"}`)
	status, answer, _ := f.json(t, ecsTarget+"StopTask", string(body))
	if status != 503 || !strings.Contains(answer, "ServiceUnavailable") {
		t.Errorf("a body over the address's part: %d %s", status, answer)
	}

	arrived, release := make(chan bool), make(chan bool)
	f.stopTask = func(context.Context, *ecs.StopTaskInput) (*ecs.StopTaskOutput, error) {
		arrived <- true
		<-release
		return nil, nil
	}
	var held sync.WaitGroup
	held.Go(func() { f.json(t, ecsTarget+"StopTask", string(body[:20<<10])+`"}`) })
	<-arrived
	if status, _, _ := f.json(t, ecsTarget+"StopTask", string(body[:30<<10])+`"}`); status != 503 {
		t.Errorf("a body beside one that is held: %d", status)
	}
	if status, answer, _ := f.form(t, "sts", "Action=GetCallerIdentity&Version=2011-06-15"); status != 200 {
		t.Errorf("a small call: %d %s", status, answer)
	}
	close(release)
	held.Wait()
	go func() { <-arrived }()
	if status, answer, _ := f.json(t, ecsTarget+"StopTask", string(body[:30<<10])+`"}`); status != 200 {
		t.Errorf("afterwards: %d %s", status, answer)
	}
}

func TestSources(t *testing.T) {
	for remote, want := range map[string]string{
		"10.0.0.1:5":            "10.0.0.1",
		"[::ffff:10.0.0.1]:5":   "10.0.0.1",
		"[2001:db8:1:2:3::4]:5": "2001:db8:1:2::",
		"[fe80::1%eth0]:5":      "fe80::",
		"nonsense":              netip.Addr{}.String(),
	} {
		if got := sourceOf(remote).String(); got != want {
			t.Errorf("%s: %s, want %s", remote, got, want)
		}
	}
}

// What is handed back leaves no trace: addresses that come and go cost nothing.
func TestSharesAreForgotten(t *testing.T) {
	s := shares{most: 10, mostEach: 5}
	for i := range 100 {
		source := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
		if !s.take(source, 5) || s.take(source, 1) {
			t.Fatal("an address gets its part and no more")
		}
		s.give(source, 5)
	}
	if len(s.each) != 0 || s.taken != 0 {
		t.Errorf("left: %v, %d", s.each, s.taken)
	}
}
