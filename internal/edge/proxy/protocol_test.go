package proxy

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"longshore.dev/longshore/internal/edge/balance"
)

// certificate signs itself for names; trusted is for clients.
func certificate(t *testing.T, names ...string) (balance.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	made := balance.Certificate{
		ChainPEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		KeyPEM:   string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})),
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(made.ChainPEM))
	return made, pool
}

// over makes a table's listener one with certificates.
func over(protocol string, table balance.Table, certificates ...balance.Certificate) balance.Table {
	l := &table.LoadBalancers[0].Listeners[0]
	l.Protocol, l.Certificates = protocol, certificates
	return table
}

// secure is a client that finds every name at the listener, with or without HTTP/2.
func (r *rig) secure(trusted *x509.CertPool, http2 bool) *http.Client {
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: trusted},
		ForceAttemptHTTP2: http2,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, r.Addr("l").String())
		},
	}
	r.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestHTTPSByNameAndProtocol(t *testing.T) {
	s := start(t, Options{})
	a, trustA := certificate(t, "a.example.com")
	b, trustB := certificate(t, "*.b.example.com")
	table := over(balance.HTTPS, simple(backend(t, mirror)), a, b)
	table.LoadBalancers[0].TLSHeaders = true
	s.healthy(table)
	for _, c := range []struct {
		host    string
		trusted *x509.CertPool
		http2   bool
	}{{"a.example.com", trustA, true}, {"x.b.example.com", trustB, false}} {
		res, err := s.secure(c.trusted, c.http2).Post("https://"+c.host+"/p", "text/plain", strings.NewReader("the body"))
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if (res.ProtoMajor == 2) != c.http2 {
			t.Errorf("%s spoke %s", c.host, res.Proto)
		}
		for _, want := range []string{"POST /p " + c.host, "X-Forwarded-Proto: https", "X-Amzn-Tls-Version: TLSv1.3", "X-Amzn-Tls-Cipher-Suite: TLS_", "\nthe body"} {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s: %q is not in\n%s", c.host, want, text)
			}
		}
	}
	// A new certificate is there with the next table, on the same socket.
	address := s.Addr("l").String()
	c, trustC := certificate(t, "c.example.com")
	s.healthy(over(balance.HTTPS, simple(table.TargetGroups[0].Targets...), c))
	if _, err := s.secure(trustC, true).Get("https://c.example.com/"); err != nil || s.Addr("l").String() != address {
		t.Errorf("%v, at %s instead of %s", err, s.Addr("l"), address)
	}
	// From HTTPS to HTTP and back, on the same socket.
	s.healthy(simple(table.TargetGroups[0].Targets...))
	if res := s.get("/clear"); res.StatusCode != 200 || s.Addr("l").String() != address {
		t.Errorf("%d in the clear, at %s instead of %s", res.StatusCode, s.Addr("l"), address)
	}
	off := over(balance.HTTPS, simple(table.TargetGroups[0].Targets...), c)
	off.LoadBalancers[0].NoHTTP2 = true
	s.healthy(off)
	if res, err := s.secure(trustC, true).Get("https://c.example.com/"); err != nil || res.ProtoMajor != 1 {
		t.Errorf("without HTTP/2: %v", err)
	}
}

func TestTargetsOverTLSNeedNoTrust(t *testing.T) {
	s := start(t, Options{})
	web := httptest.NewTLSServer(http.HandlerFunc(mirror))
	defer web.Close()
	table := simple(targetAt(web.Listener.Addr()))
	table.TargetGroups[0].Protocol = balance.HTTPS
	table.TargetGroups[0].HealthCheck.Protocol = balance.HTTPS
	s.healthy(table)
	if h := s.Health()[0]; h.State != balance.Healthy {
		t.Errorf("%+v", h)
	}
	if res := s.get("/x"); !strings.HasPrefix(res.text, "GET /x ") || !strings.Contains(res.text, "X-Forwarded-Proto: http\r") {
		t.Errorf("%d %s", res.StatusCode, res.text)
	}
}

// grpcServer is a target that serves gRPC's own health service.
func grpcServer(t *testing.T) (balance.Target, *health.Server) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	service, server := health.NewServer(), grpc.NewServer()
	healthpb.RegisterHealthServer(server, service)
	ended := make(chan struct{})
	go func() { server.Serve(l); close(ended) }()
	t.Cleanup(func() { server.Stop(); <-ended })
	return targetAt(l.Addr()), service
}

func TestGRPC(t *testing.T) {
	own, trusted := certificate(t, "grpc.example.com")
	target, service := grpcServer(t)
	for name, c := range map[string]struct {
		protocol string
		creds    credentials.TransportCredentials
	}{
		"over TLS":     {balance.HTTPS, credentials.NewClientTLSFromCert(trusted, "grpc.example.com")},
		"in the clear": {balance.HTTP, insecure.NewCredentials()},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, Options{})
			table := over(c.protocol, simple(target), own)
			table.TargetGroups[0].ProtocolVersion = balance.GRPC
			table.TargetGroups[0].HealthCheck = balance.HealthCheck{Path: "/grpc.health.v1.Health/Check", Matcher: "0"}
			s.healthy(table)
			if h := s.Health()[0]; h.State != balance.Healthy {
				t.Errorf("%+v", h)
			}
			conn, err := grpc.NewClient(s.Addr("l").String(), grpc.WithTransportCredentials(c.creds))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			client := healthpb.NewHealthClient(conn)
			answer, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{})
			if err != nil || answer.Status != healthpb.HealthCheckResponse_SERVING {
				t.Errorf("%v %v", answer, err)
			}
			// An error is in trailers only.
			if _, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "none"}); err == nil || !strings.Contains(err.Error(), "unknown service") {
				t.Errorf("%v", err)
			}
			// A stream of answers, each as it comes.
			stream, err := client.Watch(t.Context(), &healthpb.HealthCheckRequest{Service: "s"})
			if err != nil {
				t.Fatal(err)
			}
			for _, status := range []healthpb.HealthCheckResponse_ServingStatus{healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING} {
				service.SetServingStatus("s", status)
				for {
					got, err := stream.Recv()
					if err != nil {
						t.Fatal(err)
					}
					if got.Status == status {
						break
					}
				}
			}
			if c.protocol == balance.HTTP {
				if res := s.get("/"); res.StatusCode != statusIncompatible {
					t.Errorf("HTTP/1.1 to a group of gRPC: %d", res.StatusCode)
				}
			}
		})
	}
	s := start(t, Options{})
	table := simple(target)
	table.TargetGroups[0].ProtocolVersion = balance.GRPC
	s.healthy(table)
	if h := s.Health()[0]; h.State != balance.Healthy {
		t.Errorf("AWS's default check, for a server that does not know its method: %+v", h)
	}
}

func TestTargetsOfHTTP2(t *testing.T) {
	s := start(t, Options{})
	own, trusted := certificate(t, "h2.example.com")
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		io.WriteString(w, r.Proto+" ")
		io.Copy(w, r.Body)
		w.Header().Set("X-Sum", "all")
	}))
	web.Config.Protocols = new(http.Protocols)
	web.Config.Protocols.SetUnencryptedHTTP2(true)
	web.Start()
	defer web.Close()
	table := over(balance.HTTPS, simple(targetAt(web.Listener.Addr())), own)
	table.TargetGroups[0].ProtocolVersion = balance.HTTP2
	s.healthy(table)
	if h := s.Health()[0]; h.State != balance.Healthy {
		t.Errorf("%+v", h)
	}
	body := strings.Repeat("0123456789", 100000)
	res, err := s.secure(trusted, true).Post("https://h2.example.com/", "text/plain", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || string(text) != "HTTP/2.0 "+body || res.Trailer.Get("X-Sum") != "all" {
		t.Errorf("%d bytes, %v, trailer %v", len(text), err, res.Trailer)
	}
	old, err := s.secure(trusted, false).Get("https://h2.example.com/")
	if err != nil || old.StatusCode != statusIncompatible {
		t.Errorf("HTTP/1.1 to a group of HTTP2: %v %v", old, err)
	}
}

func TestWebSocket(t *testing.T) {
	s := start(t, Options{})
	closed := make(chan struct{})
	s.healthy(simple(backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ws" {
			return
		}
		defer close(closed)
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			t.Error(err)
			return
		}
		defer c.CloseNow()
		for {
			kind, message, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if err := c.Write(r.Context(), kind, append([]byte("echo "), message...)); err != nil {
				return
			}
		}
	})))
	c, _, err := websocket.Dial(t.Context(), strings.Replace(s.url("l"), "http", "ws", 1)+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	for _, text := range []string{"one", "two", strings.Repeat("long", 5000)} {
		if err := c.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
		_, got, err := c.Read(t.Context())
		if err != nil || string(got) != "echo "+text {
			t.Fatalf("%.40q %v", got, err)
		}
	}
	if n := s.Health()[0].InFlight; n != 1 {
		t.Errorf("%d in flight", n)
	}
	// The target drains without a delay: the connection ends.
	table := simple(balance.Target{ID: s.Health()[0].TargetID, IP: "127.0.0.1", Port: s.Health()[0].Port, Draining: true})
	table.TargetGroups[0].DeregistrationDelaySeconds = delay(0)
	s.apply(table)
	if _, _, err := c.Read(t.Context()); err == nil {
		t.Error("the connection goes on")
	}
	<-closed
}

// echo is a TCP server that sends back what it gets, and, after the end, a word of its
// own.
func echo(t *testing.T, wrap func(net.Conn) net.Conn) balance.Target {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go answer(l, func(c net.Conn) {
		c = wrap(c)
		defer c.Close()
		io.Copy(c, c)
		io.WriteString(c, "bye")
	})
	return targetAt(l.Addr())
}

func plain(c net.Conn) net.Conn { return c }

func layer4(table balance.Table, protocol string) balance.Table {
	table.LoadBalancers[0].Listeners[0].Protocol = balance.TCP
	table.TargetGroups[0].Protocol = protocol
	return table
}

// talk sends a text, ends its half, and returns all that comes back.
func talk(t *testing.T, c interface {
	net.Conn
	CloseWrite() error
}, text string) string {
	t.Helper()
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(c)
	if err != nil {
		t.Error(err)
	}
	return string(all)
}

func (r *rig) connect() *net.TCPConn {
	r.t.Helper()
	c, err := net.Dial("tcp", r.Addr("l").String())
	if err != nil {
		r.t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

func TestTCP(t *testing.T) {
	s := start(t, Options{})
	table := layer4(simple(echo(t, plain), refusing(t)), balance.TCP)
	table.TargetGroups[0].HealthCheck.HealthyThreshold = 2
	s.healthy(table)
	text := strings.Repeat("0123456789", 50000)
	for range 8 { // Some prefer the target where nobody listens.
		if got := talk(t, s.connect(), text); got != text+"bye" {
			t.Fatalf("%d bytes came back, want %d", len(got), len(text)+3)
		}
	}
	table.TargetGroups[0].ProxyProtocol = true
	s.apply(table)
	c := s.connect()
	from := c.LocalAddr().(*net.TCPAddr)
	got := talk(t, c, "hello")
	want := append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01"), byte(from.Port>>8), byte(from.Port))
	if !bytes.HasPrefix([]byte(got), want) || !strings.HasSuffix(got, "hellobye") {
		t.Errorf("%q, want %q first", got, want)
	}
	s.stop()
	sent := int64(8*(2*len(text)+len("bye")) + len("hello") + len(got))
	if lb := s.Counters().LoadBalancers["lb"]; lb.ActiveConnectionCount != 0 || lb.NewConnectionCount != 9 || lb.RequestCount != 9 || lb.ProcessedBytes != sent {
		t.Errorf("%+v, want %d bytes", lb, sent)
	}
}

func TestTLSEndsAtTheListener(t *testing.T) {
	s := start(t, Options{})
	own, trusted := certificate(t, "nlb.example.com")
	inner, err := tls.X509KeyPair([]byte(own.ChainPEM), []byte(own.KeyPEM))
	if err != nil {
		t.Fatal(err)
	}
	for protocol, wrap := range map[string]func(net.Conn) net.Conn{
		balance.TCP: plain,
		balance.TLS: func(c net.Conn) net.Conn { return tls.Server(c, &tls.Config{Certificates: []tls.Certificate{inner}}) },
	} {
		s.healthy(over(balance.TLS, layer4(simple(echo(t, wrap)), protocol), own))
		c, err := tls.Dial("tcp", s.Addr("l").String(), &tls.Config{RootCAs: trusted, ServerName: "nlb.example.com"})
		if err != nil {
			t.Fatal(err)
		}
		if got := talk(t, c, "hello"); got != "hellobye" {
			t.Errorf("to %s: %q", protocol, got)
		}
	}
}

func TestDrainedFlowsEnd(t *testing.T) {
	s := start(t, Options{})
	target := echo(t, plain)
	s.healthy(layer4(simple(target), balance.TCP))
	c := s.connect()
	defer c.Close()
	io.WriteString(c, "x")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	target.Draining = true
	table := layer4(simple(target), balance.TCP)
	table.TargetGroups[0].DeregistrationDelaySeconds = delay(0)
	s.apply(table)
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, net.ErrClosed) {
		t.Errorf("the flow goes on: %v", err)
	}
}
