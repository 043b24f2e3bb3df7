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
const commandLimit = 60 * time.Second

// peers are what starts the same program without us.
func (b *bench) peers() ([]contender, error) {
	rootfs := filepath.Join(b.dir, "rootfs")
	program, err := writeSample(rootfs)
	if err != nil {
		return nil, err
	}
	all := []contender{floor(program), b.runc(rootfs)}
	return append(all, b.dockers(rootfs)...), nil
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

// floor is the least that a container is: new namespaces and a program in them,
// no root file system, no cgroup, nothing recorded.
func floor(program string) contender {
	var samples times
	return contender{
		name: floorRow,
		once: func(context.Context) error {
			cmd := exec.Command(program, "exit", "0")
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWNET,
			}
			return samples.take(cmd.Run)
		},
		rows: func() []row {
			r := latency(floorRow, samples, true)
			r.Note = "clone into new PID, mount, UTS, IPC and network namespaces, exec of the static sample `exit 0`, wait"
			return []row{r}
		},
	}
}

func (b *bench) runc(rootfs string) contender {
	runc, err := exec.LookPath("runc")
	if err != nil {
		return contender{name: runcRow, failed: errors.New("no runc here")}
	}
	root := filepath.Join(b.dir, "runc")
	command := func(args ...string) error {
		return quietly(exec.Command(runc, append([]string{"--root", root}, args...)...))
	}
	var started, lives times
	once := func(context.Context) error {
		id := fmt.Sprintf("longshore-bench-%d-%d", os.Getpid(), len(started))
		stays, err := bundle(filepath.Join(b.dir, "stays"), rootfs, id, "sleep", "600")
		if err != nil {
			return err
		}
		err = started.take(func() error { return command("run", "--detach", "--bundle", stays, id) })
		if err := errors.Join(err, command("delete", "--force", id)); err != nil {
			return err
		}
		ends, err := bundle(filepath.Join(b.dir, "ends"), rootfs, id, "exit", "0")
		if err != nil {
			return err
		}
		return lives.take(func() error { return command("run", "--bundle", ends, id) })
	}
	rows := func() []row {
		run, life := latency(runcRow, started, true), latency("peer: runc run", lives, true)
		run.Floor, life.Floor = floorRow, floorRow
		run.Note = "same program and specification, a namespace instead of a network; until it runs"
		life.Note = "the same with `exit 0`; until all of it is gone"
		return []row{run, life}
	}
	return contender{name: runcRow, once: once, rows: rows}
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
