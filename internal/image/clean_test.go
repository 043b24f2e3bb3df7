package image_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/image"
	"longshore.dev/longshore/internal/image/imagetest"
)

// clock is a time that a test sets.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.at.Store(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time           { return time.Unix(0, c.at.Load()) }
func (c *clock) advance(by time.Duration) { c.at.Add(int64(by)) }

func clean(t testing.TB, s *image.Local, inUse ...string) []string {
	t.Helper()
	removed, err := s.Clean(t.Context(), func() []string { return inUse })
	if err != nil {
		t.Fatalf("Clean: %v", err)
	}
	return removed
}

// smallDisk mounts a tmpfs with these options for the test's time.
func smallDisk(t testing.TB, options string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts a small disk")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatalf("mount a small disk: %v", err)
	}
	t.Cleanup(func() { unmountDisk(t, dir) })
	return dir
}

// unmountDisk proves that nobody holds on to anything on a small disk.
func unmountDisk(t testing.TB, dir string) {
	t.Helper()
	err := unix.Unmount(dir, 0)
	for range 20 {
		if err == nil {
			break
		}
		runtime.GC() // the library's probe for fs-verity leaves a file to the collector
		time.Sleep(50 * time.Millisecond)
		err = unix.Unmount(dir, 0)
	}
	if err != nil {
		t.Errorf("unmount the small disk: %v; this process has open %q", err, openFiles(dir))
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	}
}

func openFiles(dir string) (open []string) {
	links, _ := filepath.Glob("/proc/self/fd/*")
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && strings.HasPrefix(to, dir) {
			open = append(open, to)
		}
	}
	maps, _ := os.ReadFile("/proc/self/maps")
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, dir) {
			open = append(open, strings.TrimSpace(line))
		}
	}
	return open
}

func TestCleanRemovesByAgeTheLeastUsedFirst(t *testing.T) {
	c := newClock()
	dir := t.TempDir()
	change := func(o *image.Options) { o.Now = c.now; o.Cleanup.PerRound = 2 }
	s := open(t, dir, change)
	reg := imagetest.NewRegistry(t)
	var refs []string
	for i := range 5 {
		refs = append(refs, reg.Push("app", fmt.Sprint(i), plainImage(t, "f", fmt.Sprint(i))))
		pull(t, s, refs[i])
		c.advance(time.Minute)
	}
	importNamed(t, s, plainImage(t, "f", "imported"), "mine")
	prepare(t, s, refs[1], "running")
	c.advance(50 * time.Minute)
	if got := clean(t, s); len(got) > 0 {
		t.Errorf("before the minimum age, %q went", got)
	}
	c.advance(10 * time.Minute) // all are an hour old
	if got := clean(t, s); len(got) > 0 {
		t.Errorf("before the interval, %q went", got)
	}
	pull(t, s, refs[0]) // is used again
	c.advance(30 * time.Minute)

	// The next process knows what this one did: 0 was used half an hour ago.
	clean(t, s, refs...)
	s.Close()
	s = open(t, dir, change)
	if got := clean(t, s, refs[2]); !slices.Equal(got, []string{refs[3], refs[4]}) {
		t.Errorf("a round removed %q, want %q", got, refs[3:])
	}
	if err := s.Release(t.Context(), "running"); err != nil {
		t.Fatal(err)
	}
	c.advance(31 * time.Minute)
	if got := clean(t, s); !slices.Equal(got, []string{refs[2], refs[0]}) {
		t.Errorf("a round removed %q, want %q", got, []string{refs[2], refs[0]})
	}
	c.advance(31 * time.Minute) // an hour after the container has gone
	if got := clean(t, s); !slices.Equal(got, []string{refs[1]}) {
		t.Errorf("a round removed %q, want %q", got, refs[1])
	}
	c.advance(1000 * time.Hour)
	if got := clean(t, s); len(got) > 0 {
		t.Errorf("the imported image went: %q", got)
	}
	if err := s.Remove(t.Context(), "mine"); err != nil {
		t.Fatal(err)
	}
	assertEmpty(t, s, dir)
}

func TestCleanCanBeDisabled(t *testing.T) {
	c := newClock()
	s := open(t, "", func(o *image.Options) { o.Now = c.now; o.Cleanup.Disabled = true })
	reg := imagetest.NewRegistry(t)
	ref := reg.Push("app", "1", plainImage(t, "f", "x"))
	pull(t, s, ref)
	c.advance(1000 * time.Hour)
	if got := clean(t, s); len(got) > 0 {
		t.Errorf("%q went", got)
	}
	pull(t, s, ref, image.PullOptions{Policy: image.PullPreferCached})
}

// TestCleanMakesRoomOnAFullDisk: beyond the threshold unused images go whatever
// their age, those in use never.
func TestCleanMakesRoomOnAFullDisk(t *testing.T) {
	dir := smallDisk(t, "size=64m")
	s := open(t, dir, func(o *image.Options) { o.Cleanup.DiskPercent = 60 })
	reg := imagetest.NewRegistry(t)
	var refs []string
	for i := range 5 {
		img := imagetest.Build(t, imagetest.Spec{Layers: []imagetest.Layer{
			{Entries: []imagetest.Entry{imagetest.File("f", fmt.Sprint(i)+incompressible(4<<20))}}, // 8 MB with its content
		}})
		refs = append(refs, reg.Push("app", fmt.Sprint(i), img))
	}
	for _, ref := range refs[:4] {
		pull(t, s, ref)
	}
	if got := clean(t, s); len(got) > 0 {
		t.Fatalf("below the threshold %q went", got)
	}
	prepare(t, s, refs[0], "running")
	pull(t, s, refs[4])
	if got := clean(t, s, refs[1]); !slices.Equal(got, []string{refs[2]}) {
		t.Errorf("%q went, want %q only: 0 runs, 1 is about to", got, refs[2])
	}
	mounted := mount(t, prepare(t, s, refs[0], "running"))
	if tree := files(t, mounted); len(tree) != 1 || !strings.HasPrefix(tree[0], "f=0") {
		t.Error("the image that runs was damaged")
	}
	if _, err := s.Get(t.Context(), refs[2]); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("Get of a removed image: %v", err)
	}
}

// TestCleanDuringPullsAndStarts: what a Pull has returned can be prepared and read
// as long as its user says so, whatever Clean does meanwhile.
func TestCleanDuringPullsAndStarts(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, func(o *image.Options) {
		o.Cleanup = image.Cleanup{Interval: time.Nanosecond, MinimumAge: time.Nanosecond, PerRound: 100}
	})
	reg := imagetest.NewRegistry(t)
	shared := imagetest.Layer{Entries: []imagetest.Entry{imagetest.File("base", "shared")}}
	var refs []string
	for i := range 4 {
		img := imagetest.Build(t, imagetest.Spec{Layers: []imagetest.Layer{shared, {Entries: []imagetest.Entry{imagetest.File("own", fmt.Sprint(i))}}}})
		refs = append(refs, reg.Push("app", fmt.Sprint(i), img))
	}
	var mu sync.Mutex
	using := map[string]int{}
	use := func(ref string, by int) {
		mu.Lock()
		defer mu.Unlock()
		using[ref] += by
	}
	inUse := func() (all []string) {
		mu.Lock()
		defer mu.Unlock()
		for ref, n := range using {
			if n > 0 {
				all = append(all, ref)
			}
		}
		return all
	}
	stop := make(chan struct{})
	var cleaner, users sync.WaitGroup
	removed := 0
	cleaner.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			gone, err := s.Clean(t.Context(), inUse)
			if err != nil {
				t.Errorf("Clean: %v", err)
			}
			removed += len(gone)
			if err := s.Collect(t.Context()); err != nil {
				t.Errorf("Collect: %v", err)
			}
		}
	})
	for user := range 4 {
		random := rand.New(rand.NewPCG(uint64(user), 7))
		users.Go(func() {
			for round := range 12 {
				i := random.IntN(len(refs))
				key := fmt.Sprintf("k%d-%d", user, round)
				use(refs[i], 1)
				if _, err := s.Pull(t.Context(), refs[i], image.PullOptions{}); err != nil {
					t.Errorf("Pull: %v", err)
				} else if m, err := s.Prepare(t.Context(), refs[i], key); err != nil {
					t.Errorf("Prepare: %v", err)
				} else if err := sees(m, fmt.Sprint(i)); err != nil {
					t.Errorf("what %s is made of: %v", key, err)
				}
				if err := s.Release(t.Context(), key); err != nil {
					t.Errorf("Release: %v", err)
				}
				use(refs[i], -1)
			}
		})
	}
	users.Wait()
	close(stop)
	cleaner.Wait()
	if removed == 0 {
		t.Error("nothing was ever removed: the test shows nothing")
	}
	time.Sleep(time.Millisecond)
	clean(t, s)
	assertEmpty(t, s, dir)
}

// sees looks for the file "own" with this text in the layers of a mount.
func sees(m image.Mount, text string) error {
	for _, o := range m.Options {
		lower, ok := strings.CutPrefix(o, "lowerdir=")
		if !ok {
			continue
		}
		got, err := os.ReadFile(filepath.Join(strings.Split(lower, ":")[0], "own"))
		if err == nil && string(got) != text {
			err = fmt.Errorf("own is %q, want %q", got, text)
		}
		return err
	}
	return fmt.Errorf("no layers in %+v", m)
}
