package native_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/runtime"
)

// BenchmarkLifecycle is one container from nothing to nothing, its shim included.
func BenchmarkLifecycle(b *testing.B) { lifecycle(b, false) }

// BenchmarkPrestarted is the same with a shim ready, and a pause in which the
// next one is made ready.
func BenchmarkPrestarted(b *testing.B) { lifecycle(b, true) }

func lifecycle(b *testing.B, prestart bool) {
	m := newMachine(b)
	m.options.Prestart = prestart
	r := m.open(b)
	ctx := context.Background()
	phases := map[string][]time.Duration{}
	timed := func(phase string, f func() error) {
		begin := time.Now()
		if err := f(); err != nil {
			b.Fatal(err)
		}
		phases[phase] = append(phases[phase], time.Since(begin))
	}
	var n int
	spent := meter(b)
	for b.Loop() {
		n++
		b.StopTimer()
		spec := m.spec(fmt.Sprint("c", n), "exit", "0")
		if prestart {
			time.Sleep(100 * time.Millisecond)
		}
		b.StartTimer()
		timed("total", func() error {
			timed("create", func() error { return r.Create(ctx, spec) })
			timed("start", func() error { return r.Start(ctx, spec.ID) })
			timed("exit", func() error { _, err := r.Wait(ctx, spec.ID); return err })
			timed("delete", func() error { return r.Delete(ctx, spec.ID) })
			return nil
		})
		b.StopTimer()
		if err := r.RemoveSpool(ctx, spec.ID); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	spent(b)
	report(b, phases)
}

// meter reports what the processes that ended meanwhile (shims, and what they
// started) and this one cost for each operation: on a busy machine the times say
// more about its other users.
func meter(b *testing.B) (report func(*testing.B)) {
	usage := func() (all [2]unix.Rusage) {
		for i, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
			if err := unix.Getrusage(who, &all[i]); err != nil {
				b.Fatal(err)
			}
		}
		return all
	}
	before := usage()
	return func(b *testing.B) {
		var cpu time.Duration
		var faults, switches int64
		for i, now := range usage() {
			old := before[i]
			cpu += time.Duration(now.Utime.Nano() + now.Stime.Nano() - old.Utime.Nano() - old.Stime.Nano())
			faults += now.Minflt - old.Minflt
			switches += now.Nvcsw + now.Nivcsw - old.Nvcsw - old.Nivcsw
		}
		n := float64(b.N)
		b.ReportMetric(float64(cpu.Microseconds())/1000/n, "cpu-ms/op")
		b.ReportMetric(float64(faults)/n, "faults/op")
		b.ReportMetric(float64(switches)/n, "switches/op")
	}
}

// BenchmarkSecondOfGroup is one more container for a shim that runs.
func BenchmarkSecondOfGroup(b *testing.B) {
	m := newMachine(b)
	r := m.open(b)
	ctx := context.Background()
	first := m.spec("first", "ignore")
	if err := r.Create(ctx, first); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = r.Delete(ctx, "first")
		_ = r.RemoveSpool(ctx, "first")
	})
	phases := map[string][]time.Duration{}
	var n int
	for b.Loop() {
		n++
		spec := m.spec(fmt.Sprint("c", n), "exit", "0")
		spec.Group = first.Group
		begin := time.Now()
		if err := oneLife(ctx, r, spec); err != nil {
			b.Fatal(err)
		}
		phases["total"] = append(phases["total"], time.Since(begin))
	}
	report(b, phases)
}

func oneLife(ctx context.Context, r runtime.Runtime, spec runtime.Spec) error {
	if err := r.Create(ctx, spec); err != nil {
		return err
	}
	if err := r.Start(ctx, spec.ID); err != nil {
		return err
	}
	if _, err := r.Wait(ctx, spec.ID); err != nil {
		return err
	}
	if err := r.Delete(ctx, spec.ID); err != nil {
		return err
	}
	return r.RemoveSpool(ctx, spec.ID)
}

func report(b *testing.B, phases map[string][]time.Duration) {
	for phase, all := range phases {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, phase+"-p50-ms")
		if phase == "total" {
			b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "total-p99-ms")
		}
	}
}

// BenchmarkUnconfined shows what the seccomp profile costs.
func BenchmarkUnconfined(b *testing.B) {
	m := newMachine(b)
	r := m.open(b)
	phases := map[string][]time.Duration{}
	var n int
	for b.Loop() {
		n++
		spec := m.spec(fmt.Sprint("c", n), "exit", "0")
		spec.SeccompUnconfined = true
		begin := time.Now()
		if err := oneLife(context.Background(), r, spec); err != nil {
			b.Fatal(err)
		}
		phases["total"] = append(phases["total"], time.Since(begin))
	}
	report(b, phases)
}

// BenchmarkRunc is the peer: runc run with its own default specification.
func BenchmarkRunc(b *testing.B) {
	needMachine(b)
	runc, err := exec.LookPath("runc")
	if err != nil {
		b.Skip("runc is not installed")
	}
	bundle := b.TempDir()
	spec := exec.Command(runc, "spec")
	spec.Dir = bundle
	if out, err := spec.CombinedOutput(); err != nil {
		b.Fatalf("runc spec: %v %s", err, out)
	}
	data, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		b.Fatal(err)
	}
	config := string(data)
	for old, now := range map[string]string{
		`"terminal": true`: `"terminal": false`, `"sh"`: `"/bin/exit"`, `"path": "rootfs"`: `"path": "` + rootfs + `"`,
	} {
		config = replaceOnce(b, config, old, now)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), []byte(config), 0o644); err != nil {
		b.Fatal(err)
	}
	phases := map[string][]time.Duration{}
	var n int
	spent := meter(b)
	for b.Loop() {
		n++
		begin := time.Now()
		run := exec.Command(runc, "--root", filepath.Join(bundle, "state"), "run", fmt.Sprintf("bench-%d-%d", os.Getpid(), n))
		run.Dir = bundle
		if out, err := run.CombinedOutput(); err != nil {
			b.Fatalf("runc run: %v %s", err, out)
		}
		phases["total"] = append(phases["total"], time.Since(begin))
	}
	spent(b)
	report(b, phases)
}

func replaceOnce(b *testing.B, s, old, now string) string {
	before, after, ok := strings.Cut(s, old)
	if !ok {
		b.Fatalf("runc's specification lacks %s", old)
	}
	return before + now + after
}
