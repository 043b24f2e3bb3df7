package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Cleanup says when images that nobody uses are removed. Zero fields take the
// defaults, which are those of Amazon's agent where it has them.
type Cleanup struct {
	// Disabled keeps every image until it is removed by hand.
	Disabled bool
	// Interval is the least time between two rounds of removing by age (30 minutes).
	Interval time.Duration
	// MinimumAge is how long ago an image must have been pulled, and last used, to be
	// removed for its age (1 hour).
	MinimumAge time.Duration
	// PerRound is how many images a round removes, the least recently used first (5).
	PerRound int
	// DiskPercent is how full the disk may be (85). Beyond it unused images go whatever
	// their age, until the disk is freePercent below it.
	DiskPercent int
}

// freePercent is how far below Cleanup.DiskPercent a full disk is brought: one
// image more or less must not begin the next round.
const freePercent = 5

func (c Cleanup) withDefaults() Cleanup {
	c.Interval = cmp.Or(max(c.Interval, 0), 30*time.Minute)
	c.MinimumAge = cmp.Or(max(c.MinimumAge, 0), time.Hour)
	c.PerRound = cmp.Or(max(c.PerRound, 0), 5)
	c.DiskPercent = cmp.Or(max(c.DiskPercent, 0), 85)
	return c
}

const (
	// labelPulled is when the image was last found newer in its registry, labelUsed
	// when it was last asked for or let go of, as Clean knew it.
	labelPulled = "longshore.dev/pulled"
	labelUsed   = "longshore.dev/used"
)

// unusedImage is an image that nobody uses now.
type unusedImage struct {
	name         string
	pulled, used time.Time
}

// tooOld chooses what a round removes by age: the least recently used first.
func tooOld(unused []unusedImage, rules Cleanup, now time.Time) []unusedImage {
	var old []unusedImage
	for _, u := range unused {
		if now.Sub(u.pulled) >= rules.MinimumAge && now.Sub(u.used) >= rules.MinimumAge {
			old = append(old, u)
		}
	}
	leastUsedFirst(old)
	return old[:min(len(old), rules.PerRound)]
}

func leastUsedFirst(list []unusedImage) {
	slices.SortFunc(list, func(a, b unusedImage) int {
		return cmp.Or(a.used.Compare(b.used), a.pulled.Compare(b.pulled), cmp.Compare(a.name, b.name))
	})
}

// usage tells when images were used. The zero value is ready.
type usage struct {
	mu sync.Mutex
	// pulling counts the calls of Pull that run, by name; what they find must be
	// there when they return.
	pulling map[string]int
	names   map[string]time.Time // when a Pull last ended
	chains  map[string]time.Time // when a root file system over the chain last went
	rounds  time.Time            // when the last round by age was
}

// begin protects name from Clean until the returned function is called.
func (u *usage) begin(name string, now func() time.Time) (end func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.pulling == nil {
		u.pulling, u.names, u.chains = map[string]int{}, map[string]time.Time{}, map[string]time.Time{}
	}
	u.pulling[name]++
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.pulling[name]--; u.pulling[name] == 0 {
			delete(u.pulling, name)
		}
		u.names[name] = now()
	}
}

// letGo notes that a root file system over chain went.
func (u *usage) letGo(chain string, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.chains == nil {
		u.pulling, u.names, u.chains = map[string]int{}, map[string]time.Time{}, map[string]time.Time{}
	}
	u.chains[chain] = now
}

// Clean implements Store.
func (s *Local) Clean(ctx context.Context, inUse func() []string) ([]string, error) {
	rules := s.opts.Cleanup
	if rules.Disabled {
		return nil, nil
	}
	ctx, done := s.context(ctx)
	defer done()
	s.cleaning.Lock()
	defer s.cleaning.Unlock()
	now := s.opts.Now()
	unused, err := s.unused(ctx, inUse)
	if err != nil {
		return nil, err
	}
	var removed []string
	if s.uses.due(now, rules.Interval) {
		for _, u := range tooOld(unused, rules, now) {
			gone, err := s.removeUnused(ctx, u.name, now, inUse)
			if err != nil {
				return removed, err
			}
			if gone {
				removed = append(removed, familiar(u.name))
				unused = slices.DeleteFunc(unused, func(o unusedImage) bool { return o.name == u.name })
			}
		}
	}
	more, err := s.makeRoom(ctx, unused, now, inUse)
	return append(removed, more...), err
}

// due tells whether a round by age is due, and begins it.
func (u *usage) due(now time.Time, every time.Duration) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.rounds.IsZero() && now.Sub(u.rounds) < every {
		return false
	}
	u.rounds = now
	return true
}

// unused lists what may be removed. It writes down when images were used, for the
// next process.
func (s *Local) unused(ctx context.Context, inUse func() []string) ([]unusedImage, error) {
	all, err := s.images.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("clean up images: %w", err)
	}
	var list []unusedImage
	names, chains := map[string]bool{}, map[string]bool{}
	for _, rec := range all {
		names[rec.Name], chains[rec.Labels[labelChain]] = true, true
		if rec.Labels[labelImported] != "" {
			continue // nobody could fetch it again
		}
		u := unusedImage{name: rec.Name, pulled: labelTime(rec, labelPulled, rec.UpdatedAt)}
		u.used = s.uses.last(rec, u.pulled)
		if u.used.Sub(labelTime(rec, labelUsed, time.Time{})) > time.Minute {
			rec.Labels[labelUsed] = u.used.UTC().Format(time.RFC3339)
			if _, err := s.images.Update(ctx, rec, "labels."+labelUsed); err != nil && !errdefs.IsNotFound(err) {
				return nil, fmt.Errorf("clean up images: %w", err)
			}
		}
		if !s.inUse(rec, inUse) {
			list = append(list, u)
		}
	}
	s.uses.forget(names, chains)
	return list, nil
}

func labelTime(rec images.Image, label string, otherwise time.Time) time.Time {
	if t, err := time.Parse(time.RFC3339, rec.Labels[label]); err == nil {
		return t
	}
	return otherwise
}

// last is when the image was last used, at least since it was pulled.
func (u *usage) last(rec images.Image, pulled time.Time) time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	last := labelTime(rec, labelUsed, pulled)
	for _, t := range []time.Time{pulled, u.names[rec.Name], u.chains[rec.Labels[labelChain]]} {
		if t.After(last) {
			last = t
		}
	}
	return last
}

// forget drops what is known of images that are gone.
func (u *usage) forget(names, chains map[string]bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for name := range u.names {
		if !names[name] {
			delete(u.names, name)
		}
	}
	for chain := range u.chains {
		if !chains[chain] {
			delete(u.chains, chain)
		}
	}
}

// inUse tells whether the image lies under a root file system, or is one that the
// caller names.
func (s *Local) inUse(rec images.Image, named func() []string) bool {
	s.rootfs.mu.Lock()
	for _, chain := range s.rootfs.keys {
		if chain == rec.Labels[labelChain] {
			s.rootfs.mu.Unlock()
			return true
		}
	}
	s.rootfs.mu.Unlock()
	return slices.ContainsFunc(named(), func(ref string) bool {
		name, err := normalize(ref)
		return err == nil && name == rec.Name
	})
}

// removeUnused removes the record of an image, unless somebody began to use it
// since the round began.
func (s *Local) removeUnused(ctx context.Context, name string, began time.Time, inUse func() []string) (bool, error) {
	s.uses.mu.Lock()
	defer s.uses.mu.Unlock()
	if s.uses.pulling[name] > 0 || !s.uses.names[name].Before(began) {
		return false, nil
	}
	rec, err := s.images.Get(ctx, name)
	if errdefs.IsNotFound(err) || err == nil && s.inUse(rec, inUse) {
		return false, nil
	}
	if err == nil {
		err = s.images.Delete(ctx, name)
	}
	if err != nil {
		return false, fmt.Errorf("clean up image %s: %w", familiar(name), err)
	}
	s.opts.Log.Info("an unused image is removed", "image", familiar(name))
	s.kick()
	return true, nil
}

// makeRoom removes unused images, the least recently used first, while the disk is
// too full. Layers that images share go with the last of them, so that the disk is
// looked at after each.
func (s *Local) makeRoom(ctx context.Context, unused []unusedImage, began time.Time, inUse func() []string) ([]string, error) {
	percent, err := s.diskUsed(s.opts.Root)
	if err != nil || percent <= float64(s.opts.Cleanup.DiskPercent) {
		return nil, err
	}
	leastUsedFirst(unused)
	var removed []string
	err = s.Collect(ctx) // what is garbage already may suffice
	for _, u := range unused {
		if err != nil {
			break
		}
		if percent, err = s.diskUsed(s.opts.Root); err != nil || percent <= float64(s.opts.Cleanup.DiskPercent-freePercent) {
			return removed, err
		}
		var gone bool
		if gone, err = s.removeUnused(ctx, u.name, began, inUse); gone {
			removed = append(removed, familiar(u.name))
			err = errors.Join(err, s.Collect(ctx))
		}
	}
	if percent, e := s.diskUsed(s.opts.Root); e == nil && percent > float64(s.opts.Cleanup.DiskPercent) {
		s.opts.Log.Warn("the disk is too full, and no unused image is left to remove; free space or move the data directory",
			"directory", s.opts.Root, "used_percent", int(percent), "threshold_percent", s.opts.Cleanup.DiskPercent)
	}
	return removed, err
}

// diskUsed is how full dir's file system is, in percent of what we may use: the
// fuller of its space and its inodes.
func diskUsed(dir string) (float64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, fmt.Errorf("look at the disk of %s: %w", dir, err)
	}
	share := func(total, free, ours uint64) float64 {
		if used := total - free; used+ours > 0 {
			return 100 * float64(used) / float64(used+ours)
		}
		return 0
	}
	return max(share(fs.Blocks, fs.Bfree, fs.Bavail), share(fs.Files, fs.Ffree, fs.Ffree)), nil
}
