package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
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

// resident is what processes have in memory, in MB (10⁶ bytes).
type resident struct {
	rss, pss, anonymous float64
	processes           int
}

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
	settled := settle
	var rss, pss, anonymous []float64
	processes := 0
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
		processes = r.processes
		rss, pss, anonymous = append(rss, r.rss), append(pss, r.pss), append(anonymous, r.anonymous)
	}
	note := fmt.Sprintf("`longshore %s`, %s after its first answer, processes: %d; PSS %s, of it anonymous %s",
		command[0], settled, processes, figure(median(pss)), figure(median(anonymous)))
	b.add(row{Name: name + ", RSS", Unit: "MB", Samples: len(rss), Median: median(rss), Budget: budget, Goal: goal, Note: note})
	return nil
}

// residentOf adds up a process and its descendants.
func residentOf(pid int) (resident, error) {
	r, err := ownMemory(pid)
	if err != nil {
		return r, err
	}
	for _, child := range childrenOf(pid) {
		more, err := residentOf(child)
		if err != nil {
			return r, err
		}
		r.rss, r.pss, r.anonymous, r.processes = r.rss+more.rss, r.pss+more.pss, r.anonymous+more.anonymous, r.processes+more.processes
	}
	return r, nil
}

// ownMemory is what one process holds.
func ownMemory(pid int) (resident, error) {
	r := resident{processes: 1}
	path := fmt.Sprintf("/proc/%d/smaps_rollup", pid)
	for name, into := range map[string]*float64{"Rss": &r.rss, "Pss": &r.pss, "Pss_Anon": &r.anonymous} {
		var kib float64
		if _, err := fmt.Sscanf(field(path, name), "%f kB", &kib); err != nil {
			return r, fmt.Errorf("%s has no %s: %w", path, name, err)
		}
		*into = kib * 1024 / 1e6
	}
	return r, nil
}

// childrenOf are a process's children, none when it has ended.
func childrenOf(pid int) (children []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		raw, _ := os.ReadFile(list) // of a thread that may have ended
		for child := range strings.FieldsSeq(string(raw)) {
			if id, err := strconv.Atoi(child); err == nil {
				children = append(children, id)
			}
		}
	}
	return children
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
