package agent

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Several nodes can live on one machine. In host mode nothing tells their tasks
// apart: 169.254.170.2 leads to one of them, which passes on what it does not
// know. Each leaves the address of its metadata server in its run directory.

const (
	// metadataFile, in a node's run directory, holds its metadata server's address.
	metadataFile = "metadata"
	// passedHeader marks a request that another node passed on; answeredHeader
	// every answer of a node, so that whoever took over its port is not believed.
	passedHeader, answeredHeader = "X-Longshore-Passed", "X-Longshore-Node"
	maxPeers                     = 32
	maxPassing                   = 16
	passTimeout                  = 2 * time.Second
	maxPassed                    = 4 << 20
)

// peers passes metadata requests on to the machine's other nodes.
type peers struct {
	dir     string // of this node
	client  *http.Client
	passing chan struct{} // bounds the requests under way
}

func newPeers(runDir string) *peers {
	return &peers{
		dir: runDir, passing: make(chan struct{}, maxPassing),
		client: &http.Client{Timeout: passTimeout, Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil}},
	}
}

// announce tells the other nodes where this one serves metadata.
func (p *peers) announce(address netip.AddrPort) error {
	if p.dir == "" {
		return nil
	}
	path := filepath.Join(p.dir, metadataFile)
	if err := os.WriteFile(path+".new", []byte(address.String()+"\n"), 0o600); err != nil {
		return fmt.Errorf("tell other nodes the metadata address: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("tell other nodes the metadata address: %w", err)
	}
	return nil
}

// addresses are where the other nodes serve metadata.
func (p *peers) addresses() []netip.AddrPort {
	if p.dir == "" {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(p.dir), "*", metadataFile))
	if err != nil {
		return nil
	}
	var all []netip.AddrPort
	for _, file := range files {
		if filepath.Dir(file) == p.dir || len(all) == maxPeers {
			continue
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // a node that has just ended
		}
		if address, err := netip.ParseAddrPort(strings.TrimSpace(string(raw))); err == nil {
			all = append(all, address)
		}
	}
	return all
}

// pass asks the other nodes, and answers with what the one says that knows;
// false when none does.
func (p *peers) pass(w http.ResponseWriter, r *http.Request) bool {
	if r.Header.Get(passedHeader) != "" {
		return false
	}
	select {
	case p.passing <- struct{}{}:
		defer func() { <-p.passing }()
	default:
		return false
	}
	for _, address := range p.addresses() {
		if p.ask(r.Context(), address, r.URL.RequestURI(), w) {
			return true
		}
	}
	return false
}

func (p *peers) ask(ctx context.Context, address netip.AddrPort, uri string, w http.ResponseWriter) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address.String()+uri, nil)
	if err != nil {
		return false
	}
	request.Header.Set(passedHeader, "1")
	response, err := p.client.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK || response.Header.Get(answeredHeader) == "" {
		return false
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxPassed))
	if err != nil {
		return false
	}
	_, _ = w.Write(body) // a caller that went away is its own affair
	return true
}
