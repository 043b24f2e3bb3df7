package pki

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func authority(t *testing.T) *Authority {
	t.Helper()
	a, err := NewAuthority(start, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func issue(t *testing.T, a *Authority, now time.Time, names ...string) *tls.Certificate {
	t.Helper()
	c, err := a.Issue(names, now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// shake shakes hands over loopback, and returns what the client says of it.
func shake(t *testing.T, server, client *tls.Config) (leaf *x509.Certificate, err error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var serving sync.WaitGroup
	defer serving.Wait()
	serving.Go(func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_ = tls.Server(conn, server).Handshake() // the client's view is the one that counts
	})
	raw, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	conn := tls.Client(raw, client)
	if err := conn.Handshake(); err != nil {
		return nil, err
	}
	return conn.ConnectionState().PeerCertificates[0], nil
}

func fixed(c *tls.Certificate) *tls.Config { return &tls.Config{Certificates: []tls.Certificate{*c}} }

func at(now time.Time) func() time.Time { return func() time.Time { return now } }

func TestAnAuthorityIsItsBytes(t *testing.T) {
	a := authority(t)
	key, err := a.Key()
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadAuthority(a.Certificate(), key)
	if err != nil || again.Pin() != a.Pin() {
		t.Fatalf("%v: pins %s and %s", err, again.Pin(), a.Pin())
	}
	if _, err := LoadAuthority(authority(t).Certificate(), key); err == nil {
		t.Error("a key was taken with another authority's certificate")
	}
	for _, broken := range [][]byte{nil, key[:10], a.Certificate()} {
		if _, err := LoadAuthority(a.Certificate(), broken); err == nil {
			t.Error("a broken key was taken")
		}
	}
}

// TestPinned: a node that knows the pin alone is not deceived.
func TestPinned(t *testing.T) {
	ours, theirs := authority(t), authority(t)
	good := issue(t, ours, start, "server.example", "10.0.0.1")
	without := issue(t, ours, start, "server.example")
	without.Certificate = without.Certificate[:1]
	forged := issue(t, theirs, start, "server.example")
	forged.Certificate = append(forged.Certificate[:1], ours.Certificate()) // shows ours, is theirs
	itself := &tls.Certificate{Certificate: [][]byte{ours.Certificate()}, PrivateKey: forged.PrivateKey}
	for name, c := range map[string]struct {
		certificate *tls.Certificate
		host        string
		now         time.Time
		want        error // errAny: some other refusal
	}{
		"the server itself":                  {good, "server.example", start, nil},
		"by its address":                     {good, "10.0.0.1", start, nil},
		"another authority's":                {issue(t, theirs, start, "server.example"), "server.example", start, ErrPin},
		"without the authority's":            {without, "server.example", start, ErrPin},
		"another's with ours shown":          {forged, "server.example", start, errAny},
		"the authority's without its key":    {itself, "server.example", start, errAny},
		"for another name":                   {good, "other.example", start, errAny},
		"over":                               {good, "server.example", start.Add(certificateLife + time.Minute), errAny},
		"not yet valid":                      {good, "server.example", start.Add(-2 * time.Hour), errAny},
		"valid for a clock an hour slow":     {good, "server.example", start.Add(-59 * time.Minute), nil},
		"for another address":                {good, "10.0.0.2", start, errAny},
		"for no host":                        {good, "", start, errAny},
		"a server's certificate as the root": {chained(t, good), "victim.example", start, errAny},
	} {
		t.Run(name, func(t *testing.T) {
			var found []byte
			config := Pinned(ours.Pin(), c.host, at(c.now), func(a []byte) { found = a })
			_, err := shake(t, fixed(c.certificate), config)
			switch {
			case c.want == nil && err != nil, c.want != nil && err == nil, c.want == ErrPin && !errors.Is(err, ErrPin):
				t.Errorf("the handshake: %v; want %v", err, c.want)
			case (err == nil) != bytes.Equal(found, ours.PEM()):
				t.Errorf("the authority found: %s", found)
			}
		})
	}
}

var errAny = errors.New("a refusal")

// chained has a server's certificate sign another's, which no server's may.
func chained(t *testing.T, by *tls.Certificate) *tls.Certificate {
	t.Helper()
	parent := authority(t)
	c := issue(t, parent, start, "victim.example")
	template := *c.Leaf
	der, err := x509.CreateCertificate(rand.Reader, &template, by.Leaf, c.Leaf.PublicKey, by.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: append([][]byte{der}, by.Certificate...), PrivateKey: c.PrivateKey}
}

func TestTheCertificateIsRenewedBeforeItEnds(t *testing.T) {
	a, now, names := authority(t), start, []string{"127.0.0.1"}
	issuer := NewIssuer(a, func() []string { return names }, func() time.Time { return now }, rand.Reader)
	client, err := Trusting(a.PEM())
	if err != nil {
		t.Fatal(err)
	}
	client.ServerName, client.Time = "127.0.0.1", func() time.Time { return now }
	serial := func() string {
		t.Helper()
		leaf, err := shake(t, issuer.Config(), client)
		if err != nil {
			t.Fatalf("at %s: %v", now, err)
		}
		return leaf.SerialNumber.String()
	}
	first := serial()
	now = now.Add(certificateLife/2 - time.Hour)
	if serial() != first {
		t.Error("the certificate was renewed in its first half")
	}
	now = start.Add(certificateLife*2/3 + time.Minute)
	second := serial()
	if second == first {
		t.Error("with less than a third of its life left, the certificate was not renewed")
	}
	for range 400 { // far beyond the first one's end
		now = now.Add(24 * time.Hour)
		serial()
	}
}

// located is a connection that was reached at an address.
type located struct {
	net.Conn
	address net.Addr
}

func (l located) LocalAddr() net.Addr { return l.address }

func TestANewAddressGetsIntoTheCertificate(t *testing.T) {
	now, names := start, []string{"127.0.0.1"}
	issuer := NewIssuer(authority(t), func() []string { return names }, func() time.Time { return now }, rand.Reader)
	hello := func(ip string) *tls.Certificate {
		c, err := issuer.get(&tls.ClientHelloInfo{Conn: located{address: &net.TCPAddr{IP: net.ParseIP(ip), Port: 4566}}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := hello("127.0.0.1")
	now = now.Add(time.Minute)
	if c := hello("10.0.0.9"); c != first {
		t.Error("another certificate though the machine has no other address")
	}
	names = []string{"10.0.0.9", "127.0.0.1"}
	if c := hello("10.0.0.9"); c != first {
		t.Error("the addresses were listed again within a moment: each handshake would cost that")
	}
	now = now.Add(lookEvery)
	if err := hello("10.0.0.9").Leaf.VerifyHostname("10.0.0.9"); err != nil {
		t.Error(err)
	}
}

func write(t *testing.T, path string, blocks ...*pem.Block) {
	t.Helper()
	var all bytes.Buffer
	for _, b := range blocks {
		if err := pem.Encode(&all, b); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, all.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFilesAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	certificate, key, root := filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem"), filepath.Join(dir, "ca.pem")
	a, now := authority(t), start
	put := func(a *Authority) *tls.Certificate {
		c := issue(t, a, now, "server.example")
		der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		write(t, certificate, &pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
		write(t, key, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
		return c
	}
	first := put(a)
	write(t, root, &pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate()})
	files, err := OpenFiles(certificate, key, root, func() time.Time { return now }, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	serves := func() *x509.Certificate {
		t.Helper()
		config := Pinned(files.Pin(), "server.example", func() time.Time { return now }, nil)
		leaf, err := shake(t, files.Config(), config)
		if err != nil {
			t.Fatal(err)
		}
		return leaf
	}
	if !serves().Equal(first.Leaf) {
		t.Error("another certificate is served")
	}
	now = now.Add(time.Minute)
	second := put(a)
	later := time.Now().Add(time.Minute)
	if err := os.Chtimes(certificate, later, later); err != nil {
		t.Fatal(err)
	}
	if !serves().Equal(second.Leaf) {
		t.Error("the renewed certificate is not served")
	}
	now = now.Add(time.Minute)
	put(authority(t)) // a mistake: nobody could verify it
	if !serves().Equal(second.Leaf) {
		t.Error("a certificate of another authority is served")
	}
	if _, err := OpenFiles(certificate, key, root, time.Now, nil); err == nil {
		t.Error("a start with a certificate of another authority")
	}
	if _, err := OpenFiles(certificate, key, key, time.Now, nil); err == nil {
		t.Error("a key was taken for an authority's certificate")
	}
	if _, err := OpenFiles(filepath.Join(dir, "none"), key, "", time.Now, nil); err == nil {
		t.Error("a start without the file")
	}
}
