package pki

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"time"
)

// ErrPin says that a server's certificate is not by the authority with the pin.
var ErrPin = errors.New("the server's certificate is not by the authority that the token names: it is another server, or somebody stands between")

// Pin is the hash of a certificate's public key, in base64url.
func Pin(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Pinned is the configuration of a client of one host that trusts nothing but the
// authority with the pin, whose certificate the server must send. found gets it, in
// PEM, once the server is verified.
func Pinned(pin, host string, now func() time.Time, found func(authority []byte)) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         host,
		InsecureSkipVerify: true, // VerifyConnection verifies instead
		VerifyConnection: func(state tls.ConnectionState) error {
			authority, err := verify(state.PeerCertificates, pin, host, now())
			if err == nil && found != nil {
				found(encode(authority))
			}
			return err
		},
	}
}

// verify checks the server's chain up to the pinned authority, and that it names
// the host. The connection's own ServerName would not do: it is empty for addresses.
func verify(chain []*x509.Certificate, pin, host string, now time.Time) (*x509.Certificate, error) {
	if len(chain) == 0 || host == "" {
		return nil, ErrPin
	}
	var authority *x509.Certificate
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		if subtle.ConstantTimeCompare([]byte(Pin(c)), []byte(pin)) == 1 && c.IsCA {
			authority = c
		} else {
			between.AddCert(c)
		}
	}
	if authority == nil {
		return nil, ErrPin
	}
	roots := x509.NewCertPool()
	roots.AddCert(authority)
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, DNSName: host, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return nil, fmt.Errorf("the server's certificate: %w", err)
	}
	return authority, nil
}

// Trusting is the configuration of a client that trusts the authorities in PEM;
// without any, those of the machine.
func Trusting(authorities []byte) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(authorities) == 0 {
		return config, nil
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(authorities) {
		return nil, errors.New("the authority's certificate cannot be read: it is not PEM")
	}
	return config, nil
}
