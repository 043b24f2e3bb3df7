package native_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/runtime"
	"longshore.dev/longshore/internal/runtime/runtimetest"
)

// races is how many containers start while an accomplice exchanges names under them.
func races() int {
	if os.Getenv("LONGSHORE_SOAK") != "" {
		return 100
	}
	return 5
}

// race starts an accomplice that exchanges a and b in the volume, and then victims
// that change makes, which may be refused. seen is told what each wrote.
func (n *node) race(volume, a, b string, change func(i int, s *runtime.Spec), seen func(out string)) {
	n.t.Helper()
	accomplice := n.spec("accomplice", "swap", "/volume/"+a, "/volume/"+b)
	accomplice.Mounts = []runtime.Mount{{Destination: "/volume", Source: volume}}
	n.start(accomplice)
	n.await("accomplice", "ready")
	ran := 0
	for i := range races() {
		spec := n.spec(fmt.Sprint("victim", i), "echo", "ran")
		spec.Mounts = []runtime.Mount{{Destination: "/volume", Source: volume}}
		change(i, &spec)
		if n.Create(n.ctx, spec) != nil {
			continue
		}
		ran++
		n.must(n.Start(n.ctx, spec.ID))
		n.deleteLater(spec.ID)
		if _, err := n.Wait(n.ctx, spec.ID); err != nil {
			n.t.Error(err)
		}
		out, errs := runtimetest.Output(n.ctx, n.t, n.Runtime, spec.ID)
		seen(out + errs)
	}
	if status, err := n.Status(n.ctx, "accomplice"); err != nil || status.Phase != runtime.PhaseRunning {
		n.t.Errorf("the accomplice has ended: %+v, %v", status, err)
	}
	n.t.Logf("%d of %d victims ran", ran, races())
}

// TestEscapeCVE202130465: the directory on which a volume is mounted is exchanged
// for a link that leads out, between its check and the mount.
func TestEscapeCVE202130465(t *testing.T) {
	n := newNode(t)
	outside := n.unharmed()
	for _, link := range []string{"../../../../../../.." + outside, "/"} {
		volume, evil := t.TempDir(), t.TempDir()
		n.must(os.Mkdir(filepath.Join(volume, "a"), 0o755))
		n.must(os.Symlink(link, filepath.Join(volume, "b")))
		n.must(os.WriteFile(filepath.Join(evil, "of-the-attacker"), nil, 0o644))
		n.t.Run(strings.ReplaceAll(link, "/", "_"), func(t *testing.T) {
			n := &node{Runtime: n.Runtime, machine: n.machine, t: t, ctx: t.Context()}
			n.race(volume, "a", "b", func(i int, s *runtime.Spec) {
				s.Args = []string{"stat", "/bin/program", outside + "/marker"}
				s.Mounts = append(s.Mounts, runtime.Mount{Destination: "/volume/a", Source: evil})
			}, func(out string) {
				wantText(t, "a victim's root", out, "/bin/program -", "stat "+outside+"/marker: no such file")
			})
		})
	}
}

// TestEscapeCVE202445310: the mount point that has to be made in a shared volume is
// made on the host instead, as a directory or a file.
func TestEscapeCVE202445310(t *testing.T) {
	n := newNode(t)
	outside := n.unharmed()
	volume, file := t.TempDir(), filepath.Join(t.TempDir(), "file")
	n.must(os.Mkdir(filepath.Join(volume, "a"), 0o777))
	n.must(os.Symlink("../../../../../../.."+outside, filepath.Join(volume, "b")))
	n.must(os.WriteFile(file, nil, 0o644))
	n.race(volume, "a", "b", func(i int, s *runtime.Spec) {
		s.Mounts = append(s.Mounts,
			runtime.Mount{Destination: fmt.Sprintf("/volume/a/d%d/e/f", i), Type: "tmpfs"},
			runtime.Mount{Destination: fmt.Sprintf("/volume/a/f%d/file", i), Source: file})
	}, func(string) {})
}

// TestEscapeCVE201919921: /proc of the image leads into a volume, where an accomplice
// exchanges a directory for a link, so that limits and labels are written to its
// files (also CVE-2025-52881, with a kernel parameter as what is written).
func TestEscapeCVE201919921(t *testing.T) {
	n := newNode(t)
	n.unharmed()
	volume := t.TempDir()
	fake := filepath.Join(volume, "a", "sys", "net", "ipv4", "ip_unprivileged_port_start")
	n.must(os.MkdirAll(filepath.Dir(fake), 0o755))
	n.must(os.WriteFile(fake, []byte("untouched"), 0o666))
	n.must(os.MkdirAll(filepath.Join(volume, "b", "self"), 0o755))
	n.must(os.Symlink("/proc", filepath.Join(volume, "c")))
	for name, target := range map[string]string{"direct": "/volume/a", "by a link": "/volume/c"} {
		n.t.Run(name, func(t *testing.T) {
			n := &node{Runtime: n.Runtime, machine: n.machine, t: t, ctx: t.Context()}
			n.race(volume, "a", "b", func(i int, s *runtime.Spec) {
				n.must(os.Symlink(target, filepath.Join(upper(*s), "proc")))
				s.Sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "77"}
				s.Args = []string{"statfs", "/proc"}
			}, func(out string) { wantText(t, "a victim's /proc", out, "statfs /proc 0x9fa0") })
		})
	}
	for _, dir := range []string{"a", "b"} {
		if data, err := os.ReadFile(filepath.Join(volume, dir, "sys/net/ipv4/ip_unprivileged_port_start")); err == nil && string(data) != "untouched" {
			t.Errorf("the kernel parameter was written to the attacker's file: %q", data)
		}
	}
}

// TestEscapeCVE202552881: a kernel parameter is written to where the attacker's
// links and mounts lead.
func TestEscapeCVE202552881(t *testing.T) {
	n := newNode(t)
	outside := n.unharmed()
	for i, m := range []runtime.Mount{
		{Destination: "/proc/sys/net/ipv4", Source: outside},
		{Destination: "/proc/sys/net", Type: "tmpfs"},
		{Destination: "/proc/sys/kernel/ns_last_pid", Source: filepath.Join(outside, "marker")},
		{Destination: "/proc/uptime", Source: filepath.Join(outside, "marker")},
	} {
		spec := n.spec(fmt.Sprint("s", i), "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start")
		spec.Sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "77"}
		spec.Mounts = []runtime.Mount{m}
		if out, ran := n.attempt(spec); ran && out != "77\n" {
			t.Errorf("%+v: %q", m, out)
		}
	}
	// Parameters that are the whole machine's are refused.
	for i, name := range []string{"kernel.core_pattern", "kernel.modprobe", "kernel.sysrq", "vm.panic_on_oom", "kernel.../core_pattern", "net/../kernel/core_pattern", "fs.suid_dumpable"} {
		spec := n.spec(fmt.Sprint("k", i), "echo")
		spec.Sysctls = map[string]string{name: "|/evil"}
		if out, ran := n.attempt(spec); ran {
			t.Errorf("%s was set: %s", name, out)
		}
	}
	spec := n.spec("host", "echo")
	spec.NetNS, spec.Sysctls = "host", map[string]string{"net.ipv4.ip_unprivileged_port_start": "77"}
	if out, ran := n.attempt(spec); ran {
		t.Errorf("a parameter of the host's network was set: %s", out)
	}
}

// device makes a character device, for /dev as a volume.
func (n *node) device(path string, major, minor uint32) {
	n.t.Helper()
	n.must(unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(major, minor))))
}

// TestEscapeCVE202531133: /dev/null, with which files are masked, is exchanged for a
// link to a kernel file, which then can be written to under the masked file's name.
func TestEscapeCVE202531133(t *testing.T) {
	n := newNode(t)
	n.unharmed()
	volume := t.TempDir()
	dev := filepath.Join(volume, "dev")
	n.must(os.Mkdir(dev, 0o755))
	n.device(filepath.Join(dev, "null"), 1, 3)
	n.must(os.Symlink("/proc/sys/kernel/core_pattern", filepath.Join(dev, "evil")))
	masked := []string{"open", "w", "/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern"}
	attack := func(i int, s *runtime.Spec) {
		s.Mounts = append(s.Mounts, runtime.Mount{Destination: "/dev", Source: dev})
		s.Args = masked
		if i%2 == 1 {
			s.Args = []string{"write", "/proc/kcore", "|/evil"}
		}
	}
	n.race(volume, "dev/null", "dev/evil", attack, func(out string) { wantNo(t, "a victim", out, ": done") })
	// And without a race.
	n.must(n.Delete(n.ctx, "accomplice"))
	n.must(os.Remove(filepath.Join(dev, "null")))
	n.must(os.RemoveAll(filepath.Join(dev, "evil")))
	for i, target := range []string{"/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "zero"} {
		_ = os.Remove(filepath.Join(dev, "null"))
		n.must(os.Symlink(target, filepath.Join(dev, "null")))
		spec := n.spec(fmt.Sprint("still", i), "write", "/proc/kcore", "|/evil")
		spec.Mounts = []runtime.Mount{{Destination: "/dev", Source: dev}}
		if out, ran := n.attempt(spec); ran {
			t.Errorf("/dev/null as a link to %s: ran, %q", target, out)
		}
	}
}

// TestEscapeCVE202552565: /dev/console, on which the terminal is mounted, is a link to
// a kernel file, so that the terminal takes that one's place and masks miss it.
func TestEscapeCVE202552565(t *testing.T) {
	n := newNode(t)
	n.unharmed()
	volume := t.TempDir()
	dev := filepath.Join(volume, "dev")
	n.must(os.MkdirAll(filepath.Join(dev, "pts"), 0o755))
	n.device(filepath.Join(dev, "null"), 1, 3)
	n.must(os.WriteFile(filepath.Join(dev, "console"), nil, 0o600))
	n.must(os.Symlink("/proc/sys/kernel/core_pattern", filepath.Join(dev, "evil")))
	n.race(volume, "dev/console", "dev/evil", func(i int, s *runtime.Spec) {
		s.Mounts = append(s.Mounts, runtime.Mount{Destination: "/dev", Source: dev})
		s.Terminal = true
		s.Args = []string{"open", "w", "/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe"}
	}, func(out string) { wantNo(t, "a victim", out, ": done") })
}

// TestEscapeVolumeLinks: a container path that is a link of the image stays in the
// container; a source path is the host's own, and is followed there, as Docker does.
func TestEscapeVolumeLinks(t *testing.T) {
	n := newNode(t)
	outside := n.unharmed()
	volume := t.TempDir()
	n.must(os.WriteFile(filepath.Join(volume, "file"), []byte("of the volume"), 0o644))
	for i, link := range []string{outside, "../../../../../../../.." + outside, "/proc/1/root" + outside, "/proc/1/cwd" + outside} {
		spec := n.spec(fmt.Sprint("link", i), "cat", "/data/file", outside+"/marker")
		n.must(os.Symlink(link, filepath.Join(upper(spec), "data")))
		spec.Mounts = []runtime.Mount{{Destination: "/data", Source: volume}}
		out, ran := n.attempt(spec)
		wantNo(t, link, out, "of the host")
		if ran && !strings.HasPrefix(out, "of the volume") {
			t.Errorf("%s: %q", link, out)
		}
	}
	source := filepath.Join(t.TempDir(), "source")
	n.must(os.Symlink(volume, source))
	spec := n.spec("source", "cat", "/data/file")
	spec.Mounts = []runtime.Mount{{Destination: "/data", Source: source, Options: []string{"ro"}}}
	if out, _ := n.run(spec); out != "of the volume" {
		t.Errorf("through a source that is a link: %q", out)
	}
}
