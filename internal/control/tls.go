package control

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"longshore.dev/longshore/internal/atomicfile"
	"longshore.dev/longshore/internal/pki"
	"longshore.dev/longshore/internal/store"
)

// TLS says how the API is encrypted.
type TLS struct {
	// Mode is "auto" (or empty: on when the API listens off loopback), "on" or "off".
	Mode string
	// CertFile and KeyFile are a certificate of the operator's, in PEM, and CAFile
	// the authority behind it, if the machines' own roots do not vouch for it.
	// Without them the server has an authority of its own.
	CertFile, KeyFile, CAFile string
	// Names are further host names and addresses by which clients reach the server.
	Names []string
}

func (c TLS) check() error {
	switch c.Mode {
	case "", "auto", "on", "off":
	default:
		return fmt.Errorf("TLS mode %q: it is auto, on or off", c.Mode)
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return errors.New("--tls-cert and --tls-key go together: give both, or neither")
	}
	if c.CAFile != "" && c.CertFile == "" {
		return errors.New("--tls-ca names the authority behind --tls-cert, which is not given")
	}
	for _, name := range c.Names {
		if name == "" || len(name) > 253 || strings.ContainsAny(name, "/: \t\n") && net.ParseIP(name) == nil {
			return fmt.Errorf("--tls-name %q is not a host name or an address", name)
		}
	}
	return nil
}

// wanted tells whether the API at an address is encrypted.
func (c TLS) wanted(at net.Addr) bool {
	switch c.Mode {
	case "on":
		return true
	case "off":
		return false
	}
	a, ok := at.(*net.TCPAddr)
	return !ok || !a.IP.IsLoopback()
}

// trust is what the server is recognised by.
type trust struct {
	config *tls.Config // nil: plain http
	// pin and pem are of the authority; empty without one of the server's own.
	pin string
	pem []byte
}

// authorityRecord is the server's authority, stored once for the whole cluster.
type authorityRecord struct {
	Certificate []byte    `json:"certificate"` // DER
	Key         []byte    `json:"key"`         // sealed
	CreatedAt   time.Time `json:"createdAt"`
}

const authorityID, authorityContext = "server", "control/authority"

// secure finds out what the server is recognised by. The store must have started.
func (s *Server) secure(ctx context.Context) error {
	c := s.config.TLS
	switch {
	case !c.wanted(s.listener.Addr()):
		if a, ok := s.listener.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() {
			s.log.Warn("the API is served in the clear: whoever sees the network sees secrets", "address", a.String())
		}
		return nil
	case c.CertFile != "":
		files, err := pki.OpenFiles(c.CertFile, c.KeyFile, c.CAFile, time.Now, s.log)
		if err != nil {
			return err
		}
		s.trust = trust{files.Config(), files.Pin(), files.PEM()}
	default:
		authority, err := s.ensureAuthority(ctx)
		if err != nil {
			return err
		}
		issuer := pki.NewIssuer(authority, s.names, time.Now, rand.Reader)
		s.trust = trust{issuer.Config(), authority.Pin(), authority.PEM()}
	}
	if len(s.trust.pem) == 0 {
		return nil
	}
	return atomicfile.Write(caPath(s.config.DataDir), s.trust.pem)
}

// ensureAuthority loads the authority, or makes it: of several servers that start
// at once, all use the first one's.
func (s *Server) ensureAuthority(ctx context.Context) (*pki.Authority, error) {
	if _, ok := s.authorities.Get(s.db.Snapshot(), store.Scope{}, authorityID); !ok {
		fresh, err := pki.NewAuthority(time.Now(), rand.Reader)
		if err != nil {
			return nil, err
		}
		key, err := fresh.Key()
		if err != nil {
			return nil, err
		}
		sealed, err := s.ring.Seal(authorityContext, key)
		if err != nil {
			return nil, fmt.Errorf("seal the authority's key: %w", err)
		}
		now := time.Now().UTC()
		err = s.db.Update(ctx, func(tx *store.Tx) error {
			if _, ok := s.authorities.Get(tx, store.Scope{}, authorityID); !ok {
				s.authorities.Put(tx, store.Scope{}, authorityID, &authorityRecord{Certificate: fresh.Certificate(), Key: sealed, CreatedAt: now})
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	record, _ := s.authorities.Get(s.db.Snapshot(), store.Scope{}, authorityID)
	key, err := s.ring.Open(authorityContext, record.Key)
	if err != nil {
		return nil, fmt.Errorf("open the authority's key: %w", err)
	}
	return pki.LoadAuthority(record.Certificate, key)
}

// names are the host names and addresses that the certificate is for: what the API
// listens on, what the machine calls itself, and what the operator added.
func (s *Server) names() []string {
	names := append([]string{"localhost", "127.0.0.1", "::1"}, s.config.TLS.Names...)
	if host, err := os.Hostname(); err == nil && len(host) <= 253 {
		names = append(names, host)
	}
	if a, ok := s.listener.Addr().(*net.TCPAddr); ok && !a.IP.IsUnspecified() {
		names = append(names, a.IP.String())
	} else if addresses, err := net.InterfaceAddrs(); err == nil {
		for _, address := range addresses {
			if network, ok := address.(*net.IPNet); ok && len(names) < 200 {
				names = append(names, network.IP.String())
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func caPath(dataDir string) string { return filepath.Join(dataDir, "ca.pem") }
