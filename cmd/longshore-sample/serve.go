package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// drain bounds how long requests in flight may take after SIGTERM: less than
	// the 30 seconds after which ECS kills.
	drain = 20 * time.Second
	// metadataLimit bounds what is read from the metadata endpoint.
	metadataLimit = 1 << 20
)

// about is the answer to every path.
type about struct {
	Hostname  string   `json:"hostname"`
	PID       int      `json:"pid"`
	Addresses []string `json:"addresses"`
	// Environment holds names only: values may be secrets.
	Environment []string        `json:"environment"`
	Metadata    json.RawMessage `json:"metadata,omitempty"`
	// MetadataError tells why there is no metadata.
	MetadataError string `json:"metadataError,omitempty"`
	Method        string `json:"method"`
	Path          string `json:"path"`
	Client        string `json:"client"`
}

// serve serves HTTP until SIGTERM, then finishes what is in flight.
func serve(out io.Writer, port string) error {
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return usageError{fmt.Sprintf("%q is not a port", port)}
	}
	ctx, stop := untilTerminated()
	defer stop()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", ":"+port)
	if err != nil {
		return err
	}
	logger := log.New(out, "", 0)
	logger.Printf("listening on %s", listener.Addr())
	server := &http.Server{Handler: handler(logger), ReadHeaderTimeout: 10 * time.Second, ErrorLog: logger}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	logger.Print("stopping")
	grace, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		return fmt.Errorf("requests still in flight after %s: %w", drain, err)
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func handler(logger *log.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		status, size := respond(w, r)
		// %q keeps a request from forging log lines.
		logger.Printf("%s %s %q %d %d %s", hostOf(r.RemoteAddr), r.Method, r.URL.Path, status, size, time.Since(start).Round(time.Microsecond))
	})
}

// respond answers: ?wait=SECONDS delays, ?status=CODE sets the status code.
func respond(w http.ResponseWriter, r *http.Request) (status, size int) {
	q := r.URL.Query()
	if seconds, err := strconv.ParseFloat(q.Get("wait"), 64); err == nil && seconds > 0 && seconds <= 3600 {
		select {
		case <-time.After(time.Duration(seconds * float64(time.Second))):
		case <-r.Context().Done():
			return 499, 0
		}
	}
	status = http.StatusOK
	if code, err := strconv.Atoi(q.Get("status")); err == nil && code >= 200 && code <= 599 {
		status = code
	}
	body, err := json.MarshalIndent(describe(r), "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return http.StatusInternalServerError, 0
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	size, _ = w.Write(append(body, '\n'))
	return status, size
}

func describe(r *http.Request) about {
	a := about{PID: os.Getpid(), Method: r.Method, Path: r.URL.Path, Client: hostOf(r.RemoteAddr)}
	a.Hostname, _ = os.Hostname()
	addrs, _ := net.InterfaceAddrs()
	for _, addr := range addrs {
		if ip, ok := addr.(*net.IPNet); ok && !ip.IP.IsLoopback() {
			a.Addresses = append(a.Addresses, ip.IP.String())
		}
	}
	for _, e := range os.Environ() {
		name, _, _ := strings.Cut(e, "=")
		a.Environment = append(a.Environment, name)
	}
	slices.Sort(a.Environment)
	var err error
	if a.Metadata, err = metadata(r.Context()); err != nil {
		a.MetadataError = err.Error()
	}
	return a
}

// metadata asks the task metadata endpoint for the container's own.
func metadata(ctx context.Context) (json.RawMessage, error) {
	uri := os.Getenv("ECS_CONTAINER_METADATA_URI_V4")
	if uri == "" {
		return nil, errors.New("ECS_CONTAINER_METADATA_URI_V4 is not set")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, metadataLimit))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK || !json.Valid(body) {
		return nil, fmt.Errorf("the metadata endpoint answered %s: %.200s", resp.Status, body)
	}
	return body, nil
}

func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return host
}
