package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"longshore.dev/longshore/internal/image/sample"
	"longshore.dev/longshore/internal/runtime"
	"longshore.dev/longshore/internal/runtime/oci"
)

// Rows that others are compared with.
const (
	floorRow = "floor: namespaces + exec"
	runcRow  = "peer: runc run -d"
)

// commandLimit is for one command of a peer, which takes less than a second.
const commandLimit = 30 * time.Second

// measurePeers times what starts the same program without us.
func (b *bench) measurePeers(ctx context.Context) error {
	rootfs := filepath.Join(b.dir, "rootfs")
	program, err := writeSample(rootfs)
	if err != nil {
		return err
	}
	if err := b.measureFloor(ctx, program); err != nil {
		return err
	}
	if err := b.measureRunc(ctx, rootfs); err != nil {
		b.add(row{Name: runcRow, Note: clip(err.Error(), 120)})
	}
	if err := b.measureDocker(ctx, rootfs); err != nil {
		b.add(row{Name: "peer: docker run", Note: clip(err.Error(), 120)})
	}
	return nil
}

// writeSample makes a root file system with the sample program in it.
func writeSample(rootfs string) (program string, err error) {
	data, err := sample.Program()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(rootfs, 0o755); err != nil {
		return "", err
	}
	program = filepath.Join(rootfs, "sample")
	return program, os.WriteFile(program, data, 0o755)
}

// measureFloor is the least that a container is: new namespaces and a program in
// them, no root file system, no cgroup, nothing recorded.
func (b *bench) measureFloor(ctx context.Context, program string) error {
	var samples times
	for range b.samples(50, 10) {
		cmd := exec.CommandContext(ctx, program, "exit", "0")
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWNET,
		}
		began := time.Now()
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("a program in bare namespaces: %w", err)
		}
		samples = append(samples, time.Since(began))
	}
	r := latency(floorRow, samples, true)
	r.Note = "clone into new PID, mount, UTS, IPC and network namespaces, exec of the static sample `exit 0`, wait"
	b.add(r)
	return nil
}

func (b *bench) measureRunc(ctx context.Context, rootfs string) error {
	runc, err := exec.LookPath("runc")
	if err != nil {
		return errors.New("no runc here")
	}
	root := filepath.Join(b.dir, "runc")
	command := func(args ...string) *exec.Cmd {
		return exec.Command(runc, append([]string{"--root", root}, args...)...)
	}
	var started, lives times
	for i := range b.samples(50, 5) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		id := fmt.Sprintf("longshore-bench-%d-%d", os.Getpid(), i)
		stays, err := bundle(filepath.Join(b.dir, "stays"), rootfs, id, "sleep", "600")
		if err != nil {
			return err
		}
		began := time.Now()
		err = quietly(command("run", "--detach", "--bundle", stays, id))
		started = append(started, time.Since(began))
		if err := errors.Join(err, quietly(command("delete", "--force", id))); err != nil {
			return err
		}
		ends, err := bundle(filepath.Join(b.dir, "ends"), rootfs, id, "exit", "0")
		if err != nil {
			return err
		}
		began = time.Now()
		if err := quietly(command("run", "--bundle", ends, id)); err != nil {
			return err
		}
		lives = append(lives, time.Since(began))
	}
	for _, r := range []row{latency(runcRow, started, true), latency("peer: runc run", lives, true)} {
		r.Floor = floorRow
		r.Note = "same program and specification, a namespace instead of a network; until it runs"
		if r.Name != runcRow {
			r.Note = "the same with `exit 0`; until all of it is gone"
		}
		b.add(r)
	}
	return nil
}

// bundle writes what runc needs for the container that our runtime would make of
// the same command: the same mounts, capabilities, seccomp filter and limits.
func bundle(dir, rootfs, id string, command ...string) (string, error) {
	spec, _, err := oci.Build(runtime.Spec{
		ID: id, Group: id, Args: append([]string{"/sample"}, command...), Hostname: "bench",
		Resources: runtime.Resources{MemoryBytes: taskMemory << 20, CPUShares: taskCPU},
	}, oci.Host{Arch: goruntime.GOARCH, RootFSPath: rootfs, CgroupPath: "/" + id, Capabilities: ^uint64(0), CgroupV2: cgroupVersion() == "v2"})
	if err != nil {
		return "", err
	}
	// Ours joins namespaces that the agent and the shim have made; runc makes them.
	spec.Linux.Namespaces = nil
	for _, kind := range []specs.LinuxNamespaceType{
		specs.PIDNamespace, specs.MountNamespace, specs.UTSNamespace, specs.IPCNamespace, specs.NetworkNamespace, specs.CgroupNamespace,
	} {
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: kind})
	}
	spec.Version = "1.0.2" // what older versions of runc know
	raw, err := json.Marshal(spec)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "config.json"), raw, 0o600)
}

// quietly runs a command; what it said is in its error. It is not cut short when
// the run is, for it would leave things behind; each is short. The output goes to a
// file because a container may keep it open.
func quietly(cmd *exec.Cmd) error {
	said, err := os.CreateTemp("", "longshore-bench-")
	if err != nil {
		return err
	}
	defer func() { _, _ = said.Close(), os.Remove(said.Name()) }()
	cmd.Stdout, cmd.Stderr = said, said
	// Nor does an interrupt at the terminal reach it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	hung := time.AfterFunc(commandLimit, func() { _ = cmd.Process.Kill() })
	defer hung.Stop()
	if err := cmd.Wait(); err != nil {
		text, _ := os.ReadFile(said.Name())
		return fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, text)
	}
	return nil
}

// measureDocker times docker run with and without a network, where an engine runs.
func (b *bench) measureDocker(ctx context.Context, rootfs string) error {
	docker, err := exec.LookPath("docker")
	if err != nil || exec.CommandContext(ctx, docker, "version", "--format", "{{.Server.Version}}").Run() != nil {
		return errors.New("no engine here")
	}
	image := fmt.Sprintf("longshore-bench:%d", os.Getpid())
	archive := exec.Command("tar", "-C", rootfs, "-c", ".")
	load := exec.Command(docker, "import", "-", image)
	if load.Stdin, err = archive.StdoutPipe(); err != nil {
		return err
	}
	if err := archive.Start(); err != nil {
		return err
	}
	if err := errors.Join(quietly(load), archive.Wait()); err != nil {
		return err
	}
	defer func() { _ = quietly(exec.Command(docker, "rmi", "--force", image)) }()
	for _, network := range []string{"bridge", "none"} {
		var samples times
		for i := range b.samples(20, 3) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			name := fmt.Sprintf("longshore-bench-%d-%s-%d", os.Getpid(), network, i)
			began := time.Now()
			err := quietly(exec.Command(docker, "run", "--detach", "--network", network, "--name", name, image, "/sample", "sleep", "600"))
			samples = append(samples, time.Since(began))
			if err := errors.Join(err, quietly(exec.Command(docker, "rm", "--force", name))); err != nil {
				return err
			}
		}
		r := latency("peer: docker run -d, "+network, samples, true)
		r.Floor, r.Peer, r.Note = floorRow, runcRow, "the same program, its image local; until the client returns"
		b.add(r)
	}
	return nil
}
