package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"longshore.dev/longshore/internal/image"
)

// socketPath is where a running node serves its machine's owner.
func socketPath(runDir string) string { return filepath.Join(runDir, "node.sock") }

// serveLocal answers the machine's owner until ctx ends. The socket's directory
// lets nobody else in.
func (n *Node) serveLocal(ctx context.Context) error {
	path := socketPath(n.runDir)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the former socket: %w", err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("listen for the machine's owner: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(err, listener.Close())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /images", func(w http.ResponseWriter, r *http.Request) {
		images, err := n.images.List(r.Context())
		answer(w, images, err)
	})
	mux.HandleFunc("POST /images", func(w http.ResponseWriter, r *http.Request) {
		images, err := n.images.Import(r.Context(), r.Body)
		answer(w, images, err)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// localAnswer is what the socket answers with.
type localAnswer struct {
	Images []image.Image `json:"images"`
	Error  string        `json:"error,omitempty"`
}

func answer(w http.ResponseWriter, images []image.Image, err error) {
	a := localAnswer{Images: images}
	if err != nil {
		a.Error = err.Error()
		w.WriteHeader(http.StatusUnprocessableEntity)
	}
	_ = json.NewEncoder(w).Encode(a)
}

// Images lists the images of the node with this data directory, through the node
// when it runs.
func Images(ctx context.Context, dataDir string) ([]image.Image, error) {
	return atNode(ctx, dataDir, http.MethodGet, nil, func(s *image.Local) ([]image.Image, error) { return s.List(ctx) })
}

// ImportImages reads an archive into the node's images, through the node when it runs.
func ImportImages(ctx context.Context, dataDir string, archive io.Reader) ([]image.Image, error) {
	return atNode(ctx, dataDir, http.MethodPost, archive, func(s *image.Local) ([]image.Image, error) { return s.Import(ctx, archive) })
}

// atNode asks a running node, and opens the images itself when none runs.
func atNode(ctx context.Context, dataDir, method string, body io.Reader, alone func(*image.Local) ([]image.Image, error)) ([]image.Image, error) {
	path := socketPath(runDirOf(dataDir))
	probe, err := net.Dial("unix", path)
	if err != nil {
		options, err := ImageSettings{}.options(dataDir, nil)
		if err != nil {
			return nil, err
		}
		store, err := image.Open(options)
		if err != nil {
			return nil, err
		}
		images, err := alone(store)
		return images, errors.Join(err, store.Close())
	}
	probe.Close()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, method, "http://node/images", body)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask the running node: %w", err)
	}
	defer response.Body.Close()
	var a localAnswer
	if err := json.NewDecoder(response.Body).Decode(&a); err != nil {
		return nil, fmt.Errorf("read the running node's answer: %w", err)
	}
	if a.Error != "" {
		return nil, errors.New(a.Error)
	}
	return a.Images, nil
}
