package pki

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

// lookEvery bounds how often names and files are looked at again.
const lookEvery = 5 * time.Second

// source gives the certificate that a handshake is answered with.
type source interface {
	get(hello *tls.ClientHelloInfo) (*tls.Certificate, error)
}

// config is a server's TLS configuration over a source of certificates.
func config(s source) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		// Websockets need HTTP/1.1, and nothing here gains by HTTP/2.
		NextProtos:     []string{"http/1.1"},
		GetCertificate: s.get,
	}
}

// Issuer answers with certificates of an authority of our own. It issues another
// when a third of the former's life is left, or when the machine is reached by an
// address that it got since; each handshake looks.
type Issuer struct {
	authority *Authority
	names     func() []string
	now       func() time.Time
	random    io.Reader

	mu      sync.Mutex
	current *tls.Certificate
	listed  []string
	looked  time.Time
}

// NewIssuer makes an issuer for the host names and addresses that names returns.
func NewIssuer(a *Authority, names func() []string, now func() time.Time, random io.Reader) *Issuer {
	return &Issuer{authority: a, names: names, now: now, random: random}
}

// Config is the configuration of a server with these certificates.
func (i *Issuer) Config() *tls.Config { return config(i) }

func (i *Issuer) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := i.now()
	ends := time.Time{}
	if i.current != nil {
		ends = i.current.Leaf.NotAfter
	}
	if now.Before(ends.Add(-certificateLife/3)) && (i.covers(hello.Conn) || now.Sub(i.looked) < lookEvery) {
		return i.current, nil
	}
	i.looked = now
	names := i.names()
	if now.Before(ends.Add(-certificateLife/3)) && slices.Equal(names, i.listed) {
		return i.current, nil
	}
	fresh, err := i.authority.Issue(names, now, i.random)
	if err != nil {
		if now.Before(ends) {
			return i.current, nil // the next handshake tries again
		}
		return nil, err
	}
	i.current, i.listed = fresh, names
	return fresh, nil
}

// covers tells whether the certificate names the address that a client reached.
func (i *Issuer) covers(conn net.Conn) bool {
	if conn == nil {
		return true
	}
	host, _, err := net.SplitHostPort(conn.LocalAddr().String())
	return err != nil || slices.Contains(i.listed, host)
}

// Files answers with a certificate that is kept in files, and reads them again
// when they change.
type Files struct {
	certificate, key string
	authority        *x509.Certificate // sent along, nil when there is none
	now              func() time.Time
	log              *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	changed [2]time.Time
	looked  time.Time
}

// OpenFiles reads a certificate's chain and its key, in PEM, and the certificate of
// the authority behind it, if it is named.
func OpenFiles(certificate, key, authority string, now func() time.Time, log *slog.Logger) (*Files, error) {
	f := &Files{certificate: certificate, key: key, now: now, log: log}
	if authority != "" {
		raw, err := os.ReadFile(authority)
		if err != nil {
			return nil, fmt.Errorf("read the authority's certificate: %w", err)
		}
		block, _ := pem.Decode(raw)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s does not hold a certificate in PEM", authority)
		}
		if f.authority, err = x509.ParseCertificate(block.Bytes); err != nil {
			return nil, fmt.Errorf("read the authority's certificate %s: %w", authority, err)
		}
		if !f.authority.IsCA {
			return nil, fmt.Errorf("%s is not the certificate of an authority", authority)
		}
	}
	if err := f.read(); err != nil {
		return nil, err
	}
	return f, nil
}

// Config is the configuration of a server with this certificate.
func (f *Files) Config() *tls.Config { return config(f) }

// Pin is the authority's pin, empty when none was named.
func (f *Files) Pin() string {
	if f.authority == nil {
		return ""
	}
	return Pin(f.authority)
}

// PEM is the authority's certificate, nil when none was named.
func (f *Files) PEM() []byte {
	if f.authority == nil {
		return nil
	}
	return encode(f.authority)
}

func (f *Files) read() error {
	times, err := f.times()
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(f.certificate, f.key)
	if err != nil {
		return fmt.Errorf("read the server's certificate: %w", err)
	}
	if f.authority != nil {
		if err := f.vouched(&pair); err != nil {
			return err
		}
		pair.Certificate = append(pair.Certificate, f.authority.Raw)
	}
	f.current, f.changed = &pair, times
	return nil
}

// vouched makes sure that the named authority is the one behind the certificate:
// clients would refuse it otherwise.
func (f *Files) vouched(pair *tls.Certificate) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(f.authority)
	for _, der := range pair.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(c)
		}
	}
	_, err := pair.Leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: f.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return fmt.Errorf("the certificate %s is not by the given authority: %w", f.certificate, err)
	}
	return nil
}

func (f *Files) times() (t [2]time.Time, err error) {
	for i, name := range []string{f.certificate, f.key} {
		info, statErr := os.Stat(name)
		if statErr != nil {
			err = errors.Join(err, fmt.Errorf("read the server's certificate: %w", statErr))
			continue
		}
		t[i] = info.ModTime()
	}
	return t, err
}

func (f *Files) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := f.now(); now.Sub(f.looked) >= lookEvery {
		f.looked = now
		if times, err := f.times(); err != nil || times != f.changed {
			if err = f.read(); err != nil {
				f.log.Error("the server's certificate was not read again; the former one serves on", "error", err)
			}
		}
	}
	return f.current, nil
}
