package image_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore.dev/longshore/internal/image"
	"longshore.dev/longshore/internal/image/imagetest"
)

func pull(t testing.TB, s *image.Local, ref string, opts ...image.PullOptions) image.Image {
	t.Helper()
	img, err := s.Pull(t.Context(), ref, append(opts, image.PullOptions{})[0])
	if err != nil {
		t.Fatalf("Pull(%s): %v", ref, err)
	}
	return img
}

// plainImage has one layer with one file.
func plainImage(t testing.TB, name, body string) *imagetest.Image {
	return imagetest.Build(t, imagetest.Spec{Layers: []imagetest.Layer{{
		Compression: imagetest.Gzip, Entries: []imagetest.Entry{imagetest.File(name, body)},
	}}})
}

// incompressible returns text of n bytes that gzip does not make much smaller.
func incompressible(n int) string {
	var b strings.Builder
	for x := uint64(1); b.Len() < n; {
		x = x*6364136223846793005 + 1442695040888963407
		fmt.Fprintf(&b, "%016x", x)
	}
	return b.String()[:n]
}

func TestPulledImagesAreComplete(t *testing.T) {
	for _, tc := range []struct {
		name        string
		compression imagetest.Compression
		docker      bool
		noDigest    bool
		tls         bool
	}{
		{name: "oci gzip", compression: imagetest.Gzip},
		{name: "oci zstd", compression: imagetest.Zstd},
		{name: "oci plain", compression: imagetest.Plain},
		{name: "docker gzip", compression: imagetest.Gzip, docker: true},
		{name: "without digest header", compression: imagetest.Gzip, noDigest: true},
		{name: "insecure TLS", compression: imagetest.Gzip, tls: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			reg := imagetest.NewRegistry(t)
			if tc.tls {
				reg = imagetest.NewTLSRegistry(t)
			}
			reg.NoDigestHeader = tc.noDigest
			img := twoLayers(t, tc.compression, tc.docker)
			ref := reg.Push("team/app", "v1", img)
			s := open(t, "", func(o *image.Options) {
				if tc.tls {
					o.InsecureHosts = []string{reg.Host}
				}
			})
			var last image.Progress
			got := pull(t, s, ref, image.PullOptions{OnProgress: func(p image.Progress) { last = p }})
			if got.Ref != ref || got.Digest != img.Digest() || got.ID != img.Manifest.Config.Digest.String() {
				t.Errorf("got %s %s %s", got.Ref, got.Digest, got.ID)
			}
			if got.Size <= 0 {
				t.Errorf("Size %d", got.Size)
			}
			bytes := img.Manifest.Layers[0].Size + img.Manifest.Layers[1].Size
			if want := (image.Progress{LayersDone: 2, LayersTotal: 2, BytesDone: bytes, BytesTotal: bytes}); last != want {
				t.Errorf("last progress %+v, want %+v", last, want)
			}
			if tree := files(t, mount(t, prepare(t, s, ref, "k"))); !slices.Equal(tree, twoLayersTree) {
				t.Errorf("root file system %q, want %q", tree, twoLayersTree)
			}
			byDigest := reg.Host + "/team/app@" + img.Digest()
			if again := pull(t, s, byDigest); again.ID != got.ID || again.Ref != byDigest {
				t.Errorf("by digest: %+v", again)
			}
			list, err := s.List(t.Context())
			if err != nil || len(list) != 2 || list[0].Ref != ref || list[1].Ref != byDigest {
				t.Errorf("List: %+v %v", list, err)
			}
		})
	}
}

func TestPullUnknownCertificateIsRefused(t *testing.T) {
	reg := imagetest.NewTLSRegistry(t)
	ref := reg.Push("a", "1", plainImage(t, "f", "x"))
	_, err := open(t, "").Pull(t.Context(), ref, image.PullOptions{})
	if !errors.Is(err, image.ErrUnavailable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("Pull: %v, want ErrUnavailable about the certificate", err)
	}
}

func TestPullChoosesThePlatform(t *testing.T) {
	build := func(os, arch, variant string) *imagetest.Image {
		return imagetest.Build(t, imagetest.Spec{
			Platform: ocispec.Platform{OS: os, Architecture: arch, Variant: variant},
			Layers:   []imagetest.Layer{{Compression: imagetest.Gzip, Entries: []imagetest.Entry{imagetest.File("is", os+arch+variant)}}},
		})
	}
	amd64, v6, v7, arm64 := build("linux", "amd64", ""), build("linux", "arm", "v6"), build("linux", "arm", "v7"), build("linux", "arm64", "v8")
	windows, attestation := build("windows", "amd64", ""), build("unknown", "unknown", "")
	for _, docker := range []bool{false, true} {
		index := imagetest.Index(t, docker, attestation, windows, v6, v7, arm64, amd64)
		reg := imagetest.NewRegistry(t)
		ref := reg.Push("multi", "1", index)
		for platform, want := range map[string]*imagetest.Image{
			"linux/amd64": amd64, "linux/arm64": arm64, "linux/arm/v7": v7, "linux/arm/v6": v6,
		} {
			s := open(t, "", func(o *image.Options) { o.Platform = platform })
			got := pull(t, s, ref)
			if got.ID != want.Manifest.Config.Digest.String() {
				t.Errorf("%s: the wrong image was chosen", platform)
			}
			if got.Digest != index.Digest() {
				t.Errorf("%s: Digest %s, want the index's", platform, got.Digest)
			}
		}
		s := open(t, "", func(o *image.Options) { o.Platform = "linux/s390x" })
		_, err := s.Pull(t.Context(), ref, image.PullOptions{})
		if !errors.Is(err, image.ErrPlatform) || !strings.Contains(err.Error(), "linux/s390x") {
			t.Errorf("Pull: %v, want ErrPlatform that names linux/s390x", err)
		}
		single := reg.Push("single", "1", windows)
		if _, err := open(t, "").Pull(t.Context(), single, image.PullOptions{}); !errors.Is(err, image.ErrPlatform) {
			t.Errorf("Pull of a Windows image: %v, want ErrPlatform", err)
		}
	}
}

func TestPullCredentials(t *testing.T) {
	good := image.Credentials{Username: "u", Password: "secret-password"}
	for _, basic := range []bool{false, true} {
		reg := imagetest.NewRegistry(t)
		reg.Username, reg.Password, reg.Basic = good.Username, good.Password, basic
		ref := reg.Push("private", "1", plainImage(t, "f", "x"))
		s := open(t, "")
		for _, bad := range []image.Credentials{{}, {Username: "u", Password: "wrong-password"}} {
			_, err := s.Pull(t.Context(), ref, image.PullOptions{Credentials: bad})
			if !errors.Is(err, image.ErrUnauthorized) {
				t.Errorf("basic=%v, wrong credentials: %v, want ErrUnauthorized", basic, err)
			}
			if err != nil && strings.Contains(err.Error(), "wrong-password") {
				t.Errorf("the error tells the password: %v", err)
			}
		}
		pull(t, s, ref, image.PullOptions{Credentials: good})
	}
}

func TestPullCredentialsStayWithTheRegistry(t *testing.T) {
	reg := imagetest.NewRegistry(t)
	reg.Username, reg.Password, reg.Basic = "u", "p", true
	var leaked atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			leaked.Add(1)
		}
		if r.URL.Query().Get("signature") != "sig" {
			w.Header().Set("WWW-Authenticate", `Basic realm="give me"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		parts := strings.Split(r.URL.Path, "/")
		_, _ = w.Write(reg.Blob(digest.NewDigestFromEncoded(digest.SHA256, parts[len(parts)-1])))
	}))
	defer elsewhere.Close()
	query := "?signature=sig"
	reg.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		_, d, ok := strings.Cut(r.URL.Path, "/blobs/sha256:")
		if ok && r.Header.Get("Authorization") != "" {
			http.Redirect(w, r, elsewhere.URL+"/"+d+query, http.StatusTemporaryRedirect)
		}
		return ok && r.Header.Get("Authorization") != ""
	}
	ref := reg.Push("a", "1", plainImage(t, "f", "x"))
	creds := image.PullOptions{Credentials: image.Credentials{Username: "u", Password: "p"}}
	pull(t, open(t, ""), ref, creds)

	query = "?signature=stale-signature"
	_, err := open(t, "").Pull(t.Context(), ref, creds)
	if err == nil || strings.Contains(err.Error(), "stale-signature") {
		t.Errorf("Pull: %v, want an error without the signature of the URL", err)
	}
	if n := leaked.Load(); n > 0 {
		t.Errorf("credentials were sent to another host %d times", n)
	}
}

func TestPullRefusesPlainHTTPBeyondThisMachine(t *testing.T) {
	reg := imagetest.NewRegistry(t)
	reg.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, "http://192.0.2.1/blob", http.StatusTemporaryRedirect)
			return true
		}
		return false
	}
	ref := reg.Push("a", "1", plainImage(t, "f", "x"))
	_, err := open(t, "").Pull(t.Context(), ref, image.PullOptions{})
	if err == nil || !strings.Contains(err.Error(), "plain HTTP to 192.0.2.1") {
		t.Errorf("Pull: %v, want a refusal of plain HTTP", err)
	}
}

func TestPullPolicies(t *testing.T) {
	old, renewed := plainImage(t, "v", "1"), plainImage(t, "v", "2")
	for _, tc := range []struct {
		policy          image.PullPolicy
		reachable, here bool
		want            *imagetest.Image // nil: an error
		asked           bool
	}{
		{"", true, true, renewed, true},
		{"", false, true, old, true},
		{"", false, false, nil, true},
		{image.PullDefault, true, false, renewed, true},
		{image.PullPreferCached, true, true, old, false},
		{image.PullPreferCached, true, false, renewed, true},
		{image.PullPreferCached, false, true, old, false},
		{image.PullOnce, true, true, old, false},
		{image.PullOnce, true, false, renewed, true},
		{image.PullAlways, true, true, renewed, true},
		{image.PullAlways, false, true, nil, true},
	} {
		t.Run(fmt.Sprintf("%s reachable=%v here=%v", tc.policy, tc.reachable, tc.here), func(t *testing.T) {
			t.Parallel()
			reg := imagetest.NewRegistry(t)
			ref := reg.Push("a", "1", old)
			s := open(t, "")
			if tc.here {
				pull(t, s, ref)
			}
			reg.Push("a", "1", renewed)
			if !tc.reachable {
				reg.Fault = func(w http.ResponseWriter, _ *http.Request) bool {
					w.WriteHeader(http.StatusBadGateway)
					return true
				}
			}
			before := reg.Requests("/v2/")
			img, err := s.Pull(t.Context(), ref, image.PullOptions{Policy: tc.policy})
			if asked := reg.Requests("/v2/") > before; asked != tc.asked {
				t.Errorf("registry asked: %v, want %v", asked, tc.asked)
			}
			if tc.want == nil {
				if !errors.Is(err, image.ErrUnavailable) {
					t.Errorf("Pull: %v, want ErrUnavailable", err)
				}
				return
			}
			if err != nil || img.Digest != tc.want.Digest() {
				t.Errorf("Pull: %s, %v; want %s", img.Digest, err, tc.want.Digest())
			}
		})
	}
}

// TestPullPolicyOfTheStore is what a node's setting changes.
func TestPullPolicyOfTheStore(t *testing.T) {
	reg := imagetest.NewRegistry(t)
	ref := reg.Push("a", "1", plainImage(t, "v", "1"))
	s := open(t, "", func(o *image.Options) { o.PullPolicy = image.PullPreferCached })
	pull(t, s, ref)
	asked := reg.Requests("/v2/")
	pull(t, s, ref)
	if now := reg.Requests("/v2/"); now != asked {
		t.Errorf("the registry was asked %d times more", now-asked)
	}
	if _, err := s.Pull(t.Context(), reg.Host+"/a:2", image.PullOptions{}); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("Pull of what is missing: %v, want ErrNotFound", err)
	}
}

func TestPullTellsWhatIsWrong(t *testing.T) {
	reg := imagetest.NewRegistry(t)
	ref := reg.Push("team/app", "v1", plainImage(t, "f", "x"))
	s := open(t, "")
	for _, tc := range []struct {
		ref  string
		kind error
		text string
	}{
		{reg.Host + "/team/app:v2", image.ErrNotFound, "pull image manifest has been retried 1 time(s): failed to resolve ref " + reg.Host + "/team/app:v2: " + reg.Host + "/team/app:v2: not found"},
		{reg.Host + "/team/app@sha256:" + strings.Repeat("0", 64), image.ErrNotFound, "not found"},
		{"Upper/Case", image.ErrInvalid, "invalid reference format"},
		{"", image.ErrInvalid, "invalid reference format"},
		{"a:b:c", image.ErrInvalid, "invalid reference format"},
		{strings.Repeat("a", 600), image.ErrInvalid, "invalid reference format"},
		{"127.0.0.1:1/a", image.ErrUnavailable, "connection refused"},
	} {
		_, err := s.Pull(t.Context(), tc.ref, image.PullOptions{})
		if !errors.Is(err, tc.kind) || err == nil || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("Pull(%.80q): %v\nwant %v: %s", tc.ref, err, tc.kind, tc.text)
		}
	}
	if _, err := s.Pull(t.Context(), ref, image.PullOptions{Policy: "sometimes"}); err == nil {
		t.Error("an unknown policy was accepted")
	}
}

func TestConcurrentPullsFetchOnce(t *testing.T) {
	reg := imagetest.NewRegistry(t)
	shared := imagetest.Layer{Compression: imagetest.Gzip, Entries: []imagetest.Entry{imagetest.File("base", incompressible(1<<20))}}
	var refs []string
	for i := range 3 {
		img := imagetest.Build(t, imagetest.Spec{Layers: []imagetest.Layer{shared, {Entries: []imagetest.Entry{imagetest.File("own", fmt.Sprint(i))}}}})
		refs = append(refs, reg.Push("app", fmt.Sprint(i), img))
	}
	s := open(t, "")
	var all sync.WaitGroup
	for i := range 30 {
		all.Go(func() {
			if _, err := s.Pull(t.Context(), refs[i%3], image.PullOptions{}); err != nil {
				t.Errorf("Pull: %v", err)
			}
		})
	}
	all.Wait()
	// Three configurations, three own layers and the shared one.
	if n := reg.Requests("GET /v2/app/blobs/"); n != 7 {
		t.Errorf("%d blobs were fetched, want 7", n)
	}
	for i, ref := range refs {
		if tree := files(t, mount(t, prepare(t, s, ref, fmt.Sprint("k", i)))); len(tree) != 2 || tree[1] != fmt.Sprint("own=", i) {
			t.Errorf("%s: %d files", ref, len(tree))
		}
	}
}

// stallingRegistry sends half of each layer blob, tells of it and then waits until
// the request ends or go is closed.
func stallingRegistry(t testing.TB) (reg *imagetest.Registry, ref string, stalled chan struct{}, ended chan struct{}, stall *atomic.Bool) {
	reg = imagetest.NewRegistry(t)
	img := plainImage(t, "big", incompressible(1<<20))
	layer := img.Manifest.Layers[0].Digest
	stalled, ended, stall = make(chan struct{}, 100), make(chan struct{}, 100), &atomic.Bool{}
	stall.Store(true)
	reg.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, layer.String()) || !stall.Load() {
			return false
		}
		data := reg.Blob(layer)
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(data[:len(data)/2])
		w.(http.Flusher).Flush()
		stalled <- struct{}{}
		<-r.Context().Done()
		ended <- struct{}{}
		return true
	}
	return reg, reg.Push("big", "1", img), stalled, ended, stall
}

func TestPullIsCancelledWhenTheLastCallerLeaves(t *testing.T) {
	_, ref, stalled, ended, stall := stallingRegistry(t)
	dir := t.TempDir()
	s := open(t, dir)
	errs := make(chan error, 2)
	var cancels []context.CancelFunc
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		cancels = append(cancels, cancel)
		go func() {
			_, err := s.Pull(ctx, ref, image.PullOptions{})
			errs <- err
		}()
	}
	<-stalled
	cancels[0]()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller that left: %v", err)
	}
	select {
	case <-ended:
		t.Fatal("the download ended although one caller still waits")
	case <-time.After(50 * time.Millisecond):
	}
	cancels[1]()
	<-ended
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("the last caller: %v", err)
	}
	stall.Store(false)
	pull(t, s, ref)
	if err := s.Remove(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	assertEmpty(t, s, dir)
}

func TestInterruptedDownloadsResume(t *testing.T) {
	body := incompressible(1 << 20)
	for name, breakOff := range map[string]func(w http.ResponseWriter, r *http.Request, half []byte){
		"reset": func(w http.ResponseWriter, _ *http.Request, half []byte) {
			_, _ = w.Write(half)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
		"stall": func(w http.ResponseWriter, r *http.Request, half []byte) {
			_, _ = w.Write(half)
			w.(http.Flusher).Flush()
			<-r.Context().Done() // until the store loses its patience
		},
		"503":           func(w http.ResponseWriter, _ *http.Request, _ []byte) { w.WriteHeader(http.StatusServiceUnavailable) },
		"429":           func(w http.ResponseWriter, _ *http.Request, _ []byte) { w.WriteHeader(http.StatusTooManyRequests) },
		"no connection": func(http.ResponseWriter, *http.Request, []byte) { panic(http.ErrAbortHandler) },
	} {
		for _, ranges := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s ranges=%v", name, ranges), func(t *testing.T) {
				t.Parallel()
				reg := imagetest.NewRegistry(t)
				reg.NoRanges = !ranges
				img := plainImage(t, "big", body)
				layer := img.Manifest.Layers[0].Digest
				var tries atomic.Int64
				var resumed atomic.Bool
				reg.Fault = func(w http.ResponseWriter, r *http.Request) bool {
					if !strings.HasSuffix(r.URL.Path, layer.String()) {
						return false
					}
					if r.Header.Get("Range") != "" {
						resumed.Store(true)
						return false
					}
					if tries.Add(1) > 1 {
						return false
					}
					data := reg.Blob(layer)
					w.Header().Set("Content-Length", fmt.Sprint(len(data)))
					if name == "503" || name == "429" {
						w.Header().Del("Content-Length")
					}
					breakOff(w, r, data[:len(data)/2])
					return true
				}
				ref := reg.Push("big", "1", img)
				s := open(t, "", impatient(name == "stall"))
				pull(t, s, ref)
				if tree := files(t, mount(t, prepare(t, s, ref, "k"))); !slices.Equal(tree, []string{"big=" + body}) {
					t.Error("the content is wrong")
				}
				if half := name == "reset" || name == "stall"; half && !resumed.Load() {
					t.Error("the download began anew instead of continuing")
				}
			})
		}
	}
}

func TestPullGivesUpOnABrokenRegistry(t *testing.T) {
	reg := imagetest.NewRegistry(t)
	reg.Fault = func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusInternalServerError)
		return true
	}
	_, err := open(t, "").Pull(t.Context(), reg.Push("a", "1", plainImage(t, "f", "x")), image.PullOptions{})
	if !errors.Is(err, image.ErrUnavailable) || !strings.Contains(err.Error(), "has been retried 5 time(s)") || !strings.Contains(err.Error(), "500") {
		t.Errorf("Pull: %v, want ErrUnavailable after 5 attempts", err)
	}
}

func TestForgedContentIsRefused(t *testing.T) {
	img := twoLayers(t, imagetest.Gzip, false)
	for name, forged := range map[string]ocispec.Descriptor{
		"manifest": img.Descriptor, "configuration": img.Manifest.Config, "layer": img.Manifest.Layers[1],
	} {
		t.Run(name, func(t *testing.T) {
			reg := imagetest.NewRegistry(t)
			ref := reg.Push("a", "1", img)
			reg.Corrupt(forged.Digest)
			dir := t.TempDir()
			s := open(t, dir)
			if _, err := s.Pull(t.Context(), ref, image.PullOptions{}); !errors.Is(err, image.ErrCorrupt) {
				t.Errorf("Pull: %v, want ErrCorrupt", err)
			}
			if _, err := s.Get(t.Context(), ref); !errors.Is(err, image.ErrNotFound) {
				t.Errorf("Get: %v, want ErrNotFound", err)
			}
			assertEmpty(t, s, dir)
		})
	}
}

func TestMovedTagLetsGoOfTheOldImage(t *testing.T) {
	reg := imagetest.NewRegistry(t)
	dir := t.TempDir()
	s := open(t, dir)
	ref := reg.Push("a", "1", plainImage(t, "old", "1"))
	pull(t, s, ref)
	reg.Push("a", "1", plainImage(t, "new", "2"))
	pull(t, s, ref)
	if err := s.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	blobs, err := os.ReadDir(filepath.Join(dir, "content/blobs/sha256"))
	if err != nil || len(blobs) != 3 { // manifest, configuration, layer
		t.Errorf("%d blobs are stored (%v), want the new image's 3", len(blobs), err)
	}
	layers, err := os.ReadDir(filepath.Join(dir, "layers/snapshots"))
	if err != nil || len(layers) != 1 {
		t.Errorf("%d layers are unpacked (%v), want 1", len(layers), err)
	}
}

func TestDamagedContentIsFetchedAgain(t *testing.T) {
	reg := imagetest.NewRegistry(t)
	img := plainImage(t, "f", "x")
	one, two := reg.Push("a", "1", img), reg.Push("b", "1", img)
	for _, d := range []ocispec.Descriptor{img.Manifest.Config, img.Manifest.Layers[0]} {
		dir := t.TempDir()
		s := open(t, dir)
		pull(t, s, one)
		if err := s.Remove(t.Context(), one); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "content/blobs/sha256", d.Digest.Encoded())
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 1
		if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, data, 0o600)); err != nil {
			t.Fatal(err)
		}
		// As it is when the layers were collected and their content was not.
		if err := s.DropLayers(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Pull(t.Context(), two, image.PullOptions{}); err != nil && d.Digest == img.Manifest.Config.Digest {
			t.Errorf("Pull with a damaged configuration: %v", err)
		}
		pull(t, s, two)
		if tree := files(t, mount(t, prepare(t, s, two, "k"))); !slices.Equal(tree, []string{"f=x"}) {
			t.Errorf("root file system %q", tree)
		}
	}
}
