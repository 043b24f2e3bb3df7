package imagetest

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// Registry is a registry on loopback. Set its fields before it is used.
type Registry struct {
	// Username and Password, when set, must be given: as a bearer token that the
	// token endpoint hands out for them, or with Basic directly.
	Username, Password string
	Basic              bool
	// Fault sees each request first; when it returns true it has answered. It may
	// panic with http.ErrAbortHandler to drop the connection.
	Fault func(w http.ResponseWriter, r *http.Request) bool
	// Tokens is how many requests a token is good for; 0 means all.
	Tokens int
	// Challenge replaces the WWW-Authenticate header of refusals.
	Challenge string
	// NoDigestHeader leaves Docker-Content-Digest out, as some registries do.
	NoDigestHeader bool
	// NoRanges ignores Range headers.
	NoRanges bool

	// Host is "127.0.0.1:port".
	Host   string
	server *httptest.Server

	mu       sync.Mutex
	blobs    map[digest.Digest][]byte
	types    map[digest.Digest]string // of manifests
	tags     map[string]digest.Digest // "repo:tag"
	requests map[string]int
	// issued counts the tokens, spent how often the last was used.
	issued, spent int
}

// NewRegistry starts a registry that the test's cleanup closes.
func NewRegistry(t testing.TB) *Registry { return start(t, (*httptest.Server).Start) }

// NewTLSRegistry starts one with a certificate that nobody knows, and HTTP/2.
func NewTLSRegistry(t testing.TB) *Registry {
	return start(t, func(s *httptest.Server) {
		s.EnableHTTP2 = true
		s.StartTLS()
	})
}

// Roots are the certificates that a TLS registry's is checked with.
func (r *Registry) Roots() *x509.CertPool {
	roots := x509.NewCertPool()
	roots.AddCert(r.server.Certificate())
	return roots
}

func start(t testing.TB, serve func(*httptest.Server)) *Registry {
	r := &Registry{
		blobs: map[digest.Digest][]byte{}, types: map[digest.Digest]string{},
		tags: map[string]digest.Digest{}, requests: map[string]int{},
	}
	r.server = httptest.NewUnstartedServer(r)
	r.server.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that leave are no news
	serve(r.server)
	r.Host = r.server.Listener.Addr().String()
	t.Cleanup(func() {
		r.server.CloseClientConnections()
		r.server.Close()
	})
	return r
}

// Push makes img known as repo:tag and returns the full reference.
func (r *Registry) Push(repo, tag string, img *Image) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for d, b := range img.Blobs {
		r.blobs[d] = b
		var typed struct {
			MediaType string `json:"mediaType"`
		}
		if len(b) < 1<<20 && json.Unmarshal(b, &typed) == nil && typed.MediaType != "" {
			r.types[d] = typed.MediaType
		}
	}
	r.types[img.Descriptor.Digest] = img.Descriptor.MediaType
	r.tags[repo+":"+tag] = img.Descriptor.Digest
	return r.Host + "/" + repo + ":" + tag
}

// Corrupt makes the registry send other bytes of the same length for a digest.
func (r *Registry) Corrupt(d digest.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := []byte(strings.Repeat("x", len(r.blobs[d])))
	r.blobs[d] = b
}

// Forget makes a blob or manifest unknown.
func (r *Registry) Forget(d digest.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.blobs, d)
}

// Requests counts the requests whose "METHOD path" contains part.
func (r *Registry) Requests(part string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for what, count := range r.requests {
		if strings.Contains(what, part) {
			n += count
		}
	}
	return n
}

// Close stops the registry before the test's end.
func (r *Registry) Close() {
	r.server.CloseClientConnections()
	r.server.Close()
}

// ServeHTTP implements the pulling half of the OCI distribution API.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.requests[req.Method+" "+req.URL.Path]++
	r.mu.Unlock()
	if r.Fault != nil && r.Fault(w, req) {
		return
	}
	if req.URL.Path == "/token" {
		r.serveToken(w, req)
		return
	}
	if !r.authorized(w, req) {
		return
	}
	path, ok := strings.CutPrefix(req.URL.Path, "/v2/")
	if !ok {
		http.NotFound(w, req)
		return
	}
	if repo, ref, ok := strings.Cut(path, "/manifests/"); ok {
		r.serveManifest(w, req, repo, ref)
	} else if _, d, ok := strings.Cut(path, "/blobs/"); ok {
		r.serveBlob(w, req, digest.Digest(d))
	} else {
		http.NotFound(w, req)
	}
}

func (r *Registry) authorized(w http.ResponseWriter, req *http.Request) bool {
	if r.Username == "" {
		return true
	}
	if r.Basic {
		if u, p, ok := req.BasicAuth(); ok && u == r.Username && p == r.Password {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
	} else {
		if r.spend(req.Header.Get("Authorization")) {
			return true
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test",scope="repository:%s:pull"`, r.Host, repository(req)))
	}
	if r.Challenge != "" {
		w.Header().Set("WWW-Authenticate", r.Challenge)
	}
	refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
	return false
}

// spend uses the last token that was issued.
func (r *Registry) spend(authorization string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.issued == 0 || authorization != fmt.Sprint("Bearer token-", r.issued) || r.Tokens > 0 && r.spent >= r.Tokens {
		return false
	}
	r.spent++
	return true
}

func repository(req *http.Request) string {
	path := strings.TrimPrefix(req.URL.Path, "/v2/")
	for _, what := range []string{"/manifests/", "/blobs/"} {
		path, _, _ = strings.Cut(path, what)
	}
	return path
}

func (r *Registry) serveToken(w http.ResponseWriter, req *http.Request) {
	u, p, ok := req.BasicAuth()
	if req.Method == http.MethodPost {
		u, p, ok = req.FormValue("username"), req.FormValue("password"), true
	}
	if !ok || u != r.Username || p != r.Password {
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "incorrect username or password")
		return
	}
	r.mu.Lock()
	r.issued++
	r.spent = 0
	token := fmt.Sprint("token-", r.issued)
	r.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"token":%q,"access_token":%q,"expires_in":300}`, token, token)
}

func (r *Registry) serveManifest(w http.ResponseWriter, req *http.Request, repo, ref string) {
	r.mu.Lock()
	d, ok := r.tags[repo+":"+ref]
	if !ok {
		d = digest.Digest(ref)
	}
	data, mediaType := r.blobs[d], r.types[d]
	r.mu.Unlock()
	if data == nil || mediaType == "" {
		refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
		return
	}
	w.Header().Set("Content-Type", mediaType)
	if !r.NoDigestHeader {
		w.Header().Set("Docker-Content-Digest", d.String())
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	if req.Method != http.MethodHead {
		_, _ = w.Write(data)
	}
}

func (r *Registry) serveBlob(w http.ResponseWriter, req *http.Request, d digest.Digest) {
	r.mu.Lock()
	data, ok := r.blobs[d]
	r.mu.Unlock()
	if !ok {
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
		return
	}
	if r.NoRanges {
		req.Header.Del("Range")
	}
	http.ServeContent(w, req, "", time.Time{}, strings.NewReader(string(data)))
}

// Blob returns the bytes that the registry serves for a digest.
func (r *Registry) Blob(d digest.Digest) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.blobs[d]
}

// refuse answers with an error in the registry API's form.
func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, code, message)
}
