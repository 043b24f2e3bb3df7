package agent

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// neighbour is a metadata server of a node in root, that knows one path.
func neighbour(t *testing.T, root, name, knows string) (*peers, *httptest.Server) {
	t.Helper()
	dir := filepath.Join(root, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	p := newPeers(dir)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(answeredHeader, "1")
		switch {
		case r.URL.Path == knows:
			fmt.Fprint(w, name, " knows")
		case p.pass(w, r):
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(server.Close)
	if err := p.announce(netip.MustParseAddrPort(strings.TrimPrefix(server.URL, "http://"))); err != nil {
		t.Fatal(err)
	}
	return p, server
}

func TestMetadataRequestsArePassedOnToTheMachinesOtherNodes(t *testing.T) {
	root := t.TempDir()
	_, first := neighbour(t, root, "first", "/v4/one")
	neighbour(t, root, "second", "/v4/two")
	if err := os.MkdirAll(filepath.Join(root, "dead"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := newPeers(filepath.Join(root, "dead")).announce(netip.MustParseAddrPort("127.0.0.1:1")); err != nil {
		t.Fatal(err)
	}
	impostor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "lies") }))
	t.Cleanup(impostor.Close)
	if err := os.MkdirAll(filepath.Join(root, "another"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := newPeers(filepath.Join(root, "another")).announce(netip.MustParseAddrPort(strings.TrimPrefix(impostor.URL, "http://"))); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/v4/one": "first knows", "/v4/two": "second knows", "/v4/nobody": ""} {
		response, err := http.Get(first.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || string(body) != want || (want == "") != (response.StatusCode == http.StatusNotFound) {
			t.Errorf("%s answered %s %q, %v; want %q", path, response.Status, body, err, want)
		}
	}
}
