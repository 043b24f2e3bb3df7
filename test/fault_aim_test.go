package test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/image/imagetest"
)

// stages of a task's life on a node, in their order.
var stages = []string{"pull", "unpack", "network", "create", "start", "run", "stop", "clean-up"}

// sight tells, without asking the node, which stage a task has reached: by what
// the registry is asked for and what appears on disk.
type sight struct {
	s      *site
	events *os.File // inotify

	registry *imagetest.Registry
	mu       sync.Mutex
	held     map[string]chan struct{} // blobs that are asked for and wait, by path
	asked    chan string
	holding  bool
	layers   int // snapshots that there were when open was called
}

func newSight(t *testing.T, s *site) *sight {
	t.Helper()
	a := &sight{s: s, held: map[string]chan struct{}{}, asked: make(chan string, 64), registry: imagetest.NewRegistry(t)}
	a.registry.Fault = a.hold
	t.Cleanup(a.release)
	return a
}

// hold keeps a request for a layer waiting while a pull is the stage that is aimed at.
func (a *sight) hold(_ http.ResponseWriter, r *http.Request) bool {
	a.mu.Lock()
	gate := a.held[r.URL.Path]
	hold := gate != nil && a.holding
	a.mu.Unlock()
	if gate == nil || r.Method != http.MethodGet {
		return false
	}
	select {
	case a.asked <- r.URL.Path:
	default:
	}
	if hold {
		select {
		case <-gate:
		case <-r.Context().Done():
		}
	}
	return false
}

// release lets every request go on.
func (a *sight) release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for path, gate := range a.held {
		close(gate)
		delete(a.held, path)
	}
	a.holding = false
}

// image pushes an image whose last layer nobody has; hold keeps that back.
func (a *sight) image(tag string, hold bool) *string {
	a.s.t.Helper()
	files := []imagetest.Entry{imagetest.Dir("data")}
	for _, name := range []string{"a", "b", "c", "d"} {
		files = append(files, imagetest.File("data/"+name+tag, strings.Repeat(name+tag, 50_000)))
	}
	img := imagetest.Build(a.s.t, imagetest.Spec{
		Layers: []imagetest.Layer{
			{Compression: imagetest.Gzip, Entries: []imagetest.Entry{{Name: "sample", Mode: 0o755, Body: string(imagetest.SampleProgram(a.s.t))}}},
			{Compression: imagetest.Gzip, Entries: files},
		},
		Config: ocispec.ImageConfig{Entrypoint: []string{"/sample"}},
	})
	ref := a.registry.Push("app", tag, img)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held["/v2/app/blobs/"+img.Manifest.Layers[1].Digest.String()] = make(chan struct{})
	a.holding = hold
	return aws.String(ref)
}

// open begins to look; what happens from now on is seen by await.
func (a *sight) open() {
	a.s.t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		a.s.t.Fatal(err)
	}
	a.events = os.NewFile(uintptr(fd), "inotify")
	for _, dir := range []string{
		"/run/longshore/" + a.s.name + "/network/sandboxes",
		filepath.Join(a.s.data, "node/runtime/containers"), filepath.Join(a.s.data, "node/images/layers/snapshots"),
	} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			a.s.t.Fatal(err)
		}
		if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_DELETE); err != nil {
			a.s.t.Fatal(err)
		}
	}
	for len(a.asked) > 0 {
		<-a.asked
	}
	a.layers = a.snapshots()
}

func (a *sight) close() { a.events.Close() }

// await returns when something is the case: at once when something on disk makes
// it so, and every millisecond besides.
func (a *sight) await(what string, there func() bool) {
	a.s.t.Helper()
	buf := make([]byte, 64<<10)
	for deadline := time.Now().Add(time.Minute); !there(); {
		if time.Now().After(deadline) {
			a.s.t.Fatalf("%s: not seen within a minute", what)
		}
		_ = a.events.SetReadDeadline(time.Now().Add(time.Millisecond))
		_, _ = a.events.Read(buf)
	}
}

// newcomer is the id of a task that has a network or a container and is not known.
func (a *sight) newcomer(known map[string]bool) string {
	for _, dir := range []string{"/run/longshore/" + a.s.name + "/network/sandboxes", filepath.Join(a.s.data, "node/runtime/containers")} {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if name := strings.TrimPrefix(e.Name(), "."); len(name) >= 32 && !known[name[:32]] {
				return name[:32]
			}
		}
	}
	return ""
}

// reached tells whether the task is at a stage or beyond it.
func (a *sight) reached(stage, task string, known map[string]bool) bool {
	if stage == "pull" {
		return len(a.asked) > 0
	}
	if stage == "unpack" {
		return len(a.asked) > 0 && a.snapshots() > a.layers
	}
	if task == "" {
		if task = a.newcomer(known); task == "" {
			return false
		}
	}
	r, there := a.s.onRecord(task)
	switch stage {
	case "network":
		return true
	case "create":
		return there
	case "start":
		return there && r.PID > 0
	case "run":
		return there && r.Phase != "created"
	}
	return false
}

// snapshots counts the layers that are there or are being unpacked.
func (a *sight) snapshots() int {
	entries, _ := os.ReadDir(filepath.Join(a.s.data, "node/images/layers/snapshots"))
	return len(entries)
}

// where is the stage that a task has reached, as far as the machine tells.
func (a *sight) where(task string, stopping bool) string {
	r, there := a.s.onRecord(task)
	_, err := os.Stat("/run/longshore/" + a.s.name + "/network/sandboxes/" + task + "-0.json")
	switch {
	case there && r.Phase == "exited", stopping && !there:
		return "clean-up"
	case there && r.Phase == "running" && stopping:
		return "stop"
	case there && r.Phase == "running":
		return "run"
	case there && r.PID > 0:
		return "start"
	case there:
		return "create"
	case err == nil:
		return "network"
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.holding {
		return "pull"
	}
	return "unpack"
}
