package image_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"longshore.dev/longshore/internal/image"
	"longshore.dev/longshore/internal/image/imagetest"
)

// answer refuses a request in the registry API's form.
func answer(w http.ResponseWriter, status int, code, message string) bool {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, code, message)
	return true
}

// impatient makes a store give up on who says nothing, where that is the test: a
// busy machine may take as long.
func impatient(is bool) func(*image.Options) {
	return func(o *image.Options) {
		if is {
			o.StallTimeout = 400 * time.Millisecond
		}
	}
}

const tooMany = "You have reached your pull rate limit. You may increase the limit by authenticating and upgrading: https://www.docker.com/increase-rate-limit"

// TestPullTextsAreECSs holds what a user reads in stoppedReason after
// "CannotPullContainerError: " to the texts that AWS documents.
func TestPullTextsAreECSs(t *testing.T) {
	for name, tc := range map[string]struct {
		fault func(http.ResponseWriter, *http.Request) bool
		kind  error
		text  string // a regular expression; HOST stands for the registry
	}{
		"no such tag": {func(w http.ResponseWriter, _ *http.Request) bool {
			return answer(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
		}, image.ErrNotFound, `^pull image manifest has been retried 1 time\(s\): failed to resolve ref HOST/team/app:v1: HOST/team/app:v1: not found$`},
		"denied": {func(w http.ResponseWriter, _ *http.Request) bool {
			return answer(w, http.StatusForbidden, "DENIED", "requested access to the resource is denied")
		}, image.ErrUnauthorized, `^pull image manifest has been retried 1 time\(s\): failed to resolve ref HOST/team/app:v1: unexpected status from HEAD request to http.*: 403 Forbidden - Server message: denied: requested access to the resource is denied$`},
		"basic without credentials": {func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			return answer(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
		}, image.ErrUnauthorized, `^pull image manifest has been retried 1 time\(s\): failed to resolve ref HOST/team/app:v1: pull access denied, repository does not exist or may require authorization: .*no basic auth credentials`},
		"rate limited": {func(w http.ResponseWriter, _ *http.Request) bool {
			return answer(w, http.StatusTooManyRequests, "TOOMANYREQUESTS", tooMany)
		}, image.ErrUnavailable, `^pull image manifest has been retried 5 time\(s\): failed to resolve ref HOST/team/app:v1: unexpected status from HEAD request to http://HOST/v2/team/app/manifests/v1: 429 Too Many Requests - Server message: toomanyrequests: ` + regexp.QuoteMeta(tooMany) + `$`},
		"rate limited layers": {func(w http.ResponseWriter, r *http.Request) bool {
			return strings.Contains(r.URL.Path, "/blobs/") && answer(w, http.StatusTooManyRequests, "TOOMANYREQUESTS", tooMany)
		}, image.ErrUnavailable, `^ref pull has been retried 5 time\(s\): failed to copy sha256:[0-9a-f]+: .*429 Too Many Requests - Server message: toomanyrequests: You have reached your pull rate limit`},
		"broken": {func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusBadGateway)
			return true
		}, image.ErrUnavailable, `^pull image manifest has been retried 5 time\(s\): failed to resolve ref HOST/team/app:v1: unexpected status from HEAD request to http://HOST/v2/team/app/manifests/v1: 502 Bad Gateway$`},
		"silent": {func(_ http.ResponseWriter, r *http.Request) bool {
			<-r.Context().Done()
			return true
		}, image.ErrUnavailable, `^pull image manifest has been retried 5 time\(s\): failed to resolve ref HOST/team/app:v1: i/o timeout`},
		"no such layer": {func(w http.ResponseWriter, r *http.Request) bool {
			return strings.Contains(r.URL.Path, "/blobs/") && answer(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
		}, image.ErrNotFound, `^ref pull has been retried 1 time\(s\): failed to copy sha256:[0-9a-f]+: .*: not found$`},
		"control characters": {func(w http.ResponseWriter, _ *http.Request) bool {
			return answer(w, http.StatusTooManyRequests, "X", "a\x1b[31mred\nline\x00"+strings.Repeat("y", 20_000))
		}, image.ErrUnavailable, `429 Too Many Requests$`}, // not JSON in Go's quoting
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg := imagetest.NewRegistry(t)
			reg.Fault = tc.fault
			ref := reg.Push("team/app", "v1", plainImage(t, "f", "x"))
			s := open(t, "", impatient(name == "silent"))
			_, err := s.Pull(t.Context(), ref, image.PullOptions{})
			want := regexp.MustCompile(strings.ReplaceAll(tc.text, "HOST", regexp.QuoteMeta(reg.Host)))
			if !errors.Is(err, tc.kind) || !want.MatchString(err.Error()) {
				t.Errorf("Pull: %v\nwant %v: %s", err, tc.kind, want)
			}
			if err != nil && (len(err.Error()) > 1500 || strings.ContainsAny(err.Error(), "\n\x00\x1b")) {
				t.Errorf("the text is not fit for a reason: %q", err)
			}
		})
	}
}

// TestHostileChallenges: what a registry demands is refused at once, or within
// the retries, and never makes us ask a link-local address.
func TestHostileChallenges(t *testing.T) {
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"token":"`)
		for chunk := strings.Repeat("x", 64<<10); ; {
			if _, err := io.WriteString(w, chunk); err != nil {
				return
			}
		}
	}))
	t.Cleanup(endless.Close)
	for name, tc := range map[string]struct{ challenge, text string }{
		"none":           {" ", ""},
		"scheme only":    {"Bearer", ""},
		"empty realm":    {`Bearer realm=""`, ""},
		"no URL":         {`Bearer realm="::::"`, ""},
		"relative":       {`Bearer realm="/token"`, ""},
		"file":           {`Bearer realm="file:///etc/passwd"`, ""},
		"unclosed":       {`Bearer realm="http://x`, ""},
		"unknown":        {"Negotiate abc", ""},
		"metadata":       {`Bearer realm="http://169.254.169.254/latest/meta-data/iam"`, "link-local"},
		"metadata TLS":   {`Bearer realm="https://169.254.169.254/latest"`, "link-local"},
		"metadata IPv6":  {`Bearer realm="https://[fe80::1%25lo]/x"`, ""},
		"mapped":         {`Bearer realm="https://[::ffff:169.254.169.254]/x"`, "link-local"},
		"unspecified":    {`Bearer realm="https://0.0.0.0/x"`, "link-local"},
		"plain HTTP":     {`Bearer realm="http://192.0.2.7/token"`, "plain HTTP to 192.0.2.7"},
		"endless token":  {`Bearer realm="` + endless.URL + `"`, "more than 8388608 bytes"},
		"long parameter": {`Bearer realm="http://127.0.0.1:1/` + strings.Repeat("x", 100_000) + `"`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg := imagetest.NewRegistry(t)
			reg.Username, reg.Challenge = "u", tc.challenge
			ref := reg.Push("a", "1", plainImage(t, "f", "x"))
			began := time.Now()
			_, err := open(t, "").Pull(t.Context(), ref, image.PullOptions{})
			if err == nil || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("Pull: %v\nwant an error with %q", err, tc.text)
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("it took %s to refuse", took)
			}
		})
	}
}

// TestTokensThatExpireAreRenewed: each is good for three requests only, and the
// image takes more.
func TestTokensThatExpireAreRenewed(t *testing.T) {
	reg := imagetest.NewRegistry(t)
	reg.Username, reg.Password, reg.Tokens = "u", "p", 3
	var layers []imagetest.Layer
	for i := range 8 {
		layers = append(layers, imagetest.Layer{Entries: []imagetest.Entry{imagetest.File(fmt.Sprint("f", i), "x")}})
	}
	ref := reg.Push("a", "1", imagetest.Build(t, imagetest.Spec{Layers: layers}))
	s := open(t, "")
	pull(t, s, ref, image.PullOptions{Credentials: image.Credentials{Username: "u", Password: "p"}})
	if tree := files(t, mount(t, prepare(t, s, ref, "k"))); len(tree) != 8 {
		t.Errorf("%d files, want 8", len(tree))
	}
	if n := reg.Requests("/token"); n < 3 {
		t.Errorf("%d tokens were asked for: the test shows nothing", n)
	}
}

func TestRedirectsAreBounded(t *testing.T) {
	var hops atomic.Int64
	reg := imagetest.NewRegistry(t)
	reg.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/blobs/") {
			hops.Add(1)
			http.Redirect(w, r, r.URL.Path+"?again", http.StatusTemporaryRedirect)
			return true
		}
		return false
	}
	_, err := open(t, "").Pull(t.Context(), reg.Push("a", "1", plainImage(t, "f", "x")), image.PullOptions{})
	if err == nil || !strings.Contains(err.Error(), "10 redirects") {
		t.Errorf("Pull: %v, want the end of the redirects", err)
	}
	if n := hops.Load(); n > 100 {
		t.Errorf("%d redirects were followed", n)
	}
}

// TestRetryAfterIsHonoured within bounds: a registry that asks for an hour does
// not get it (TestPausesGrowAndEnd).
func TestRetryAfterIsHonoured(t *testing.T) {
	var first atomic.Int64
	var pause atomic.Int64
	reg := imagetest.NewRegistry(t)
	reg.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodHead {
			return false
		}
		if first.CompareAndSwap(0, time.Now().UnixNano()) {
			w.Header().Set("Retry-After", "1")
			return answer(w, http.StatusTooManyRequests, "TOOMANYREQUESTS", tooMany)
		}
		pause.CompareAndSwap(0, time.Now().UnixNano()-first.Load())
		return false
	}
	pull(t, open(t, ""), reg.Push("a", "1", plainImage(t, "f", "x")))
	if got := time.Duration(pause.Load()); got < time.Second {
		t.Errorf("the registry was asked again after %s, want 1s", got)
	}
}

// TestOddBodies: however a layer's bytes come, what is kept is the layer or
// nothing.
func TestOddBodies(t *testing.T) {
	body := incompressible(300_000)
	for name, tc := range map[string]struct {
		serve func(w http.ResponseWriter, r *http.Request, data []byte, n int64) bool
		text  string // of the error; "" wants success
	}{
		"chunked": {func(w http.ResponseWriter, _ *http.Request, data []byte, _ int64) bool {
			for len(data) > 0 {
				n := min(len(data), 10_000)
				_, _ = w.Write(data[:n])
				w.(http.Flusher).Flush()
				data = data[n:]
			}
			return true
		}, ""},
		"more than its size": {func(w http.ResponseWriter, _ *http.Request, data []byte, _ int64) bool {
			_, _ = w.Write(append(slices.Clone(data), data...))
			return true
		}, ""},
		"less for ever": {func(w http.ResponseWriter, _ *http.Request, data []byte, _ int64) bool {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write(data[:1000])
			return true
		}, "unexpected EOF"},
		"a byte now and then": {func(w http.ResponseWriter, r *http.Request, data []byte, _ int64) bool {
			for i := range data {
				if r.Context().Err() != nil {
					return true
				}
				_, _ = w.Write(data[i : i+1])
				w.(http.Flusher).Flush()
				time.Sleep(5 * time.Millisecond)
			}
			return true
		}, "next to nothing"},
		"a byte before each reset": {func(w http.ResponseWriter, r *http.Request, data []byte, n int64) bool {
			from := n % 100
			if r.Header.Get("Range") == "" {
				from = 0
			}
			w.Header().Set("Content-Length", fmt.Sprint(len(data)-int(from)))
			if from > 0 {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
				w.WriteHeader(http.StatusPartialContent)
			}
			_, _ = w.Write(data[from : from+1])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, "retried 5 time(s)"},
		"a range that is another": {func(w http.ResponseWriter, r *http.Request, data []byte, n int64) bool {
			if n == 1 {
				w.Header().Set("Content-Length", fmt.Sprint(len(data)))
				_, _ = w.Write(data[:len(data)/2])
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			}
			if n == 2 { // claims what was asked for and sends the beginning
				var from int
				_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
				w.WriteHeader(http.StatusPartialContent)
				_, _ = w.Write(data[:len(data)-from])
				return true
			}
			return false
		}, ""},
		"416 for what is left": {func(w http.ResponseWriter, r *http.Request, data []byte, n int64) bool {
			if n == 1 {
				w.Header().Set("Content-Length", fmt.Sprint(len(data)))
				_, _ = w.Write(data[:len(data)/2])
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			}
			if r.Header.Get("Range") != "" {
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				return true
			}
			return false
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg := imagetest.NewRegistry(t)
			img := plainImage(t, "big", body)
			layer := img.Manifest.Layers[0].Digest
			var asked atomic.Int64
			reg.Fault = func(w http.ResponseWriter, r *http.Request) bool {
				return strings.HasSuffix(r.URL.Path, layer.String()) && tc.serve(w, r, reg.Blob(layer), asked.Add(1))
			}
			ref := reg.Push("big", "1", img)
			dir := t.TempDir()
			s := open(t, dir, impatient(name == "a byte now and then"))
			_, err := s.Pull(t.Context(), ref, image.PullOptions{})
			if tc.text != "" {
				if err == nil || !strings.Contains(err.Error(), tc.text) {
					t.Errorf("Pull: %v, want %q", err, tc.text)
				}
				return
			}
			if err != nil {
				t.Fatalf("Pull: %v", err)
			}
			if tree := files(t, mount(t, prepare(t, s, ref, "k"))); !slices.Equal(tree, []string{"big=" + body}) {
				t.Error("the content is wrong")
			}
		})
	}
}

// TestCertificatesOfOnesOwn: a registry with a private CA over HTTP/2.
func TestCertificatesOfOnesOwn(t *testing.T) {
	reg := imagetest.NewTLSRegistry(t)
	var proto atomic.Value
	reg.Fault = func(_ http.ResponseWriter, r *http.Request) bool {
		proto.Store(r.Proto)
		return false
	}
	ref := reg.Push("a", "1", plainImage(t, "f", "x"))
	pull(t, open(t, "", func(o *image.Options) { o.RootCAs = reg.Roots() }), ref)
	if proto.Load() != "HTTP/2.0" {
		t.Errorf("it spoke %v, want HTTP/2.0", proto.Load())
	}
}

func TestMirrorsAreAskedFirst(t *testing.T) {
	img, other := plainImage(t, "f", "x"), plainImage(t, "f", "other")
	for name, tc := range map[string]struct {
		prepare    func(mirror *imagetest.Registry)
		registry   bool // is needed
		fromMirror bool // the layer comes from there
	}{
		"serves":   {func(m *imagetest.Registry) { m.Push("team/app", "1", img) }, false, true},
		"lacks it": {func(*imagetest.Registry) {}, true, false},
		"is down":  {func(m *imagetest.Registry) { m.Close() }, true, false},
		"fails": {func(m *imagetest.Registry) {
			m.Fault = func(w http.ResponseWriter, _ *http.Request) bool {
				w.WriteHeader(http.StatusInternalServerError)
				return true
			}
		}, true, false},
		"demands a token": {func(m *imagetest.Registry) { m.Username = "u"; m.Push("team/app", "1", img) }, true, false},
		"lacks the layer": {func(m *imagetest.Registry) { m.Push("team/app", "1", img); m.Forget(img.Manifest.Layers[0].Digest) }, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mirror, reg := imagetest.NewRegistry(t), imagetest.NewRegistry(t)
			reg.Username, reg.Password, reg.Basic = "u", "p", true
			ref := reg.Push("team/app", "1", img)
			tc.prepare(mirror)
			s := open(t, "", func(o *image.Options) { o.Mirrors = map[string][]string{reg.Host: {"http://" + mirror.Host}} })
			if !tc.registry {
				reg.Close()
			}
			pull(t, s, ref, image.PullOptions{Credentials: image.Credentials{Username: "u", Password: "p"}})
			layer := "GET /v2/team/app/blobs/" + img.Manifest.Layers[0].Digest.String()
			if got := reg.Requests(layer) == 0; got != tc.fromMirror {
				t.Errorf("the layer came from the mirror: %v, want %v", got, tc.fromMirror)
			}
			if n := mirror.Requests("/token"); n > 0 && name != "demands a token" {
				t.Errorf("the mirror's token endpoint was asked %d times", n)
			}
		})
	}
	t.Run("lies about content", func(t *testing.T) {
		mirror, reg := imagetest.NewRegistry(t), imagetest.NewRegistry(t)
		reg.Push("a", "1", img)
		mirror.Push("a", "1", other)
		mirror.Push("a", "1", img)
		mirror.Corrupt(img.Manifest.Layers[0].Digest)
		s := open(t, "", func(o *image.Options) { o.Mirrors = map[string][]string{reg.Host: {"http://" + mirror.Host}} })
		if _, err := s.Pull(t.Context(), reg.Host+"/a@"+img.Digest(), image.PullOptions{}); !errors.Is(err, image.ErrCorrupt) {
			t.Errorf("Pull: %v, want ErrCorrupt", err)
		}
	})
}

func TestMirrorsAreChecked(t *testing.T) {
	for host, base := range map[string]string{
		"": "https://m", "a/b": "https://m", "a": "m:5000", "b": "ftp://m", "c": "https://u:p@m", "d": "https://m?x=y", "e": "https:///x",
	} {
		s, err := image.Open(image.Options{Root: t.TempDir(), Mirrors: map[string][]string{host: {base}}})
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "registry mirror") || strings.Contains(err.Error(), "u:p@") {
			t.Errorf("mirror %q of %q: %v", base, host, err)
		}
	}
}

// TestNobodyListens: a port without a registry, and one whose owner says nothing.
func TestNobodyListens(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	s := open(t, "", func(o *image.Options) { o.StallTimeout = 200 * time.Millisecond })
	for ref, text := range map[string]string{
		"127.0.0.1:1/a":                   "dial tcp 127.0.0.1:1: connect: connection refused",
		listener.Addr().String() + "/a:1": "i/o timeout",
	} {
		_, err := s.Pull(t.Context(), ref, image.PullOptions{})
		if !errors.Is(err, image.ErrUnavailable) || !strings.Contains(err.Error(), "retried 5 time(s)") || !strings.Contains(err.Error(), text) {
			t.Errorf("Pull(%s): %v, want ErrUnavailable: %s", ref, err, text)
		}
	}
}
