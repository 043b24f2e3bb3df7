package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// measureMemory reads what idle processes hold, once they have settled.
func measureMemory(ctx context.Context, b *bench) error {
	if err := b.idle(ctx, "idle server", 0, 0, "server"); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		b.add(row{Name: "idle server and node", Note: "needs root"})
		return nil
	}
	return b.idle(ctx, "idle server and node", 90, 60, "up", "--no-sample")
}

// resident is what a process has in memory, in MB (10⁶ bytes).
type resident struct{ rss, pss, anonymous float64 }

func (b *bench) idle(ctx context.Context, name string, budget, goal float64, command ...string) (err error) {
	s, err := b.open(ctx, "memory-"+command[0], command...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	settle := 5 * time.Second
	if b.quick {
		settle = 2 * time.Second
	}
	var rss, pss, anonymous []float64
	for i := range 5 {
		if i > 0 {
			settle = 200 * time.Millisecond
		}
		if err := pause(ctx, settle); err != nil {
			return err
		}
		r, err := residentOf(s.cmd.Process.Pid)
		if err != nil {
			return err
		}
		rss, pss, anonymous = append(rss, r.rss), append(pss, r.pss), append(anonymous, r.anonymous)
	}
	note := fmt.Sprintf("`longshore %s`, 5 s after its first answer; PSS %s, of it anonymous %s", command[0], figure(median(pss)), figure(median(anonymous)))
	b.add(row{Name: name + ", RSS", Unit: "MB", Samples: len(rss), Median: median(rss), Budget: budget, Goal: goal, Note: note})
	return nil
}

func residentOf(pid int) (resident, error) {
	path := fmt.Sprintf("/proc/%d/smaps_rollup", pid)
	var r resident
	for name, into := range map[string]*float64{"Rss": &r.rss, "Pss": &r.pss, "Pss_Anon": &r.anonymous} {
		var kib float64
		if _, err := fmt.Sscanf(field(path, name), "%f kB", &kib); err != nil {
			return r, fmt.Errorf("%s has no %s: %w", path, name, err)
		}
		*into = kib * 1024 / 1e6
	}
	return r, nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
