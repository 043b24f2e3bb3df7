package node

import (
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"longshore.dev/longshore/internal/image"
)

// ImageSettings are a node's settings for images. The zero value means the defaults of
// package image, which are Amazon's agent's.
type ImageSettings struct {
	// PullBehavior is one of ECS_IMAGE_PULL_BEHAVIOR's values.
	PullBehavior image.PullPolicy
	// Insecure are registries that may be spoken to in the clear or without a known
	// certificate: "host" or "host:port".
	Insecure []string
	// Mirrors are "HOST=URL": the URL is asked before the registry HOST.
	Mirrors []string
	// CAFile is a PEM file of certificates that registries' are checked with, besides
	// the system's.
	CAFile  string
	Cleanup image.Cleanup
}

// options are what the image store of the node with this data directory is opened with.
func (i ImageSettings) options(dataDir string, log *slog.Logger) (image.Options, error) {
	o := image.Options{
		Root: filepath.Join(dataDir, "node", "images"), Log: log, InsecureHosts: i.Insecure,
		PullPolicy: i.PullBehavior, Cleanup: i.Cleanup, Mirrors: map[string][]string{},
	}
	if i.PullBehavior != "" {
		if err := i.PullBehavior.Validate(); err != nil {
			return o, err
		}
	}
	for _, m := range i.Mirrors {
		host, url, ok := strings.Cut(m, "=")
		if !ok {
			return o, fmt.Errorf("registry mirror %q: write it as HOST=URL, for example docker.io=https://mirror:5000", m)
		}
		o.Mirrors[host] = append(o.Mirrors[host], url)
	}
	if i.CAFile != "" {
		pem, err := os.ReadFile(i.CAFile)
		if err != nil {
			return o, fmt.Errorf("registries' certificates: %w", err)
		}
		if o.RootCAs, err = x509.SystemCertPool(); err != nil {
			return o, fmt.Errorf("registries' certificates: read the system's: %w", err)
		}
		if !o.RootCAs.AppendCertsFromPEM(pem) {
			return o, fmt.Errorf("registries' certificates: %s holds no certificate in PEM form", i.CAFile)
		}
	}
	return o, nil
}

// cleanEvery is how often unused images are looked for: a full disk does not wait
// for the interval of cleaning by age.
func (i ImageSettings) cleanEvery() time.Duration {
	const often = 5 * time.Minute
	if every := i.Cleanup.Interval; every > 0 && every < often {
		return every
	}
	return often
}
