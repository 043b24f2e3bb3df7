package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"longshore.dev/longshore/internal/service/iam"
	"longshore.dev/longshore/internal/tcp"
	"longshore.dev/longshore/internal/wire"
)

// Config is what a server is started with.
type Config struct {
	// DataDir holds the store, bulk data, the root key and the audit log.
	DataDir string
	// Listen is the API's address, "127.0.0.1:4566".
	Listen string
	// Region and Account that the server stands for.
	Region  string
	Account string
	// Etcd names an existing cluster; without endpoints a member is embedded.
	Etcd Etcd
	TLS  TLS
	// LostAfter is how long an agent may be away before its node counts as lost;
	// 0 takes the default.
	LostAfter time.Duration
	// Limits bound what clients can make the server hold; the zero value takes the defaults.
	Limits wire.Limits
	// RequestRates multiplies the request rates that AWS documents: 1 are AWS's own, 0
	// throttles nobody, nil takes DefaultRequestRates.
	RequestRates *float64
	// RootKey is the key that secrets are sealed by.
	RootKey RootKey
	// Root is the root user's access key; empty keeps or draws one.
	Root iam.AccessKey
	Log  *slog.Logger

	keyGrace time.Duration // 0 takes the default
}

// DefaultRequestRates lets a caller do twenty times what AWS does: its figures are
// one account's share of a region.
const DefaultRequestRates = 20.0

// Etcd is how an existing etcd cluster is reached.
type Etcd struct {
	Endpoints                 []string
	CAFile, CertFile, KeyFile string
	Username, Password        string
	Prefix                    string
}

var (
	accountPattern = regexp.MustCompile(`^\d{12}$`)
	regionPattern  = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-\d$`)
)

func (c *Config) check() error {
	switch {
	case c.DataDir == "":
		return errors.New("no data directory: give one with --data")
	case !accountPattern.MatchString(c.Account):
		return fmt.Errorf("account %q is not an AWS account id: give 12 digits with --account", c.Account)
	case !regionPattern.MatchString(c.Region):
		return fmt.Errorf("region %q does not look like an AWS region such as us-east-1: give one with --region", c.Region)
	case c.RequestRates != nil && !(*c.RequestRates >= 0 && *c.RequestRates <= 1e6):
		return errors.New("--request-rates is a factor from 0 to 1000000: 1 takes AWS's own rates, 0 none")
	case c.LostAfter < 0:
		return errors.New("--lost-after is a duration of at least one second")
	}
	if err := c.RootKey.check(); err != nil {
		return err
	}
	return c.TLS.check()
}

// prepareDir makes the data directory, and closes it and what the server has in it to
// others. One that belongs to somebody else is refused: they could replace anything.
func prepareDir(dir string, log *slog.Logger) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() && st.Uid != 0 {
		return fmt.Errorf("data directory %s belongs to user %d: make it this user's (chown), or name another with --data", dir, st.Uid)
	}
	if err := closeToOthers(dir, info, log); err != nil {
		return err
	}
	for _, name := range []string{"etcd", "bulk", "access.sealed", "audit.log", "ca.pem"} {
		path := filepath.Join(dir, name)
		info, err := os.Lstat(path)
		if missing(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
		if err := closeToOthers(path, info, log); err != nil {
			return err
		}
	}
	return nil
}

func closeToOthers(path string, info fs.FileInfo, log *slog.Logger) error {
	mode := info.Mode().Perm()
	if info.Mode()&fs.ModeSymlink != 0 || mode&0o077 == 0 {
		return nil // what a link leads to is its owner's affair
	}
	log.Warn("a file of the server was open to other users; closing it", "path", path, "mode", fmt.Sprintf("%04o", mode))
	if err := os.Chmod(path, mode&^0o077); err != nil {
		return fmt.Errorf("%s is open to other users (mode %04o) and can't be closed to them: %w", path, mode, err)
	}
	return nil
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	l, err := tcp.Listen(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w: stop what uses the address, or choose another with --listen", address, err)
	}
	return l, nil
}

// listenOn443 listens beside the API's own address on the port that Amazon's agent
// needs, where that is possible.
func (s *Server) listenOn443(ctx context.Context) {
	host, port, err := net.SplitHostPort(s.config.Listen)
	if err != nil || port == "443" {
		return
	}
	l, err := tcp.Listen(ctx, net.JoinHostPort(host, "443"))
	if err != nil {
		s.log.Info("the API is not served on port 443 as well: Amazon's agent can't join", "error", err)
		return
	}
	s.also = l
}

// endpointURL is where this machine reaches a listener.
func endpointURL(address net.Addr, encrypted bool) string {
	scheme := "http://"
	if encrypted {
		scheme = "https://"
	}
	host, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return scheme + address.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return scheme + net.JoinHostPort(host, port)
}

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
