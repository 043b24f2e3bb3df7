package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// engine is a Docker engine: the one that runs here, or one of our own.
type engine struct {
	docker string   // the client
	dir    string   // of an engine of our own
	flags  []string // before its command
	daemon *exec.Cmd
	ended  chan struct{} // closed when daemon has
}

// dockers are docker run with networks that the engine has, or a row that says why
// there is none.
func (b *bench) dockers(rootfs string) []contender {
	e, networks, err := b.openEngine()
	if err != nil {
		return []contender{{name: "peer: docker run -d", failed: err}}
	}
	var all []contender
	for _, network := range networks {
		all = append(all, e.contender(rootfs, network))
	}
	last := &all[len(all)-1]
	forget := last.close
	last.close = func() error {
		var err error
		if forget != nil {
			err = forget()
		}
		return errors.Join(err, e.close())
	}
	return all
}

// openEngine finds the engine that runs here, or starts one with directories and a
// socket of its own, that leaves the machine's network and firewall alone.
func (b *bench) openEngine() (e *engine, networks []string, err error) {
	e = &engine{}
	if e.docker, err = exec.LookPath("docker"); err != nil {
		return nil, nil, errors.New("no docker here")
	}
	if e.command("version", "--format", "{{.Server.Version}}").Run() == nil {
		return e, []string{"bridge", "none"}, nil
	}
	daemon, err := exec.LookPath("dockerd")
	if err != nil {
		return nil, nil, errors.New("no engine runs here, and there is no dockerd to start")
	}
	dir := filepath.Join(b.dir, "docker")
	e.dir = dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, nil, err
	}
	defer log.Close()
	socket := "unix://" + filepath.Join(dir, "socket")
	e.flags = []string{"--host", socket}
	e.daemon = exec.Command(daemon, "--host", socket, "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "pid"), "--iptables=false", "--bridge=none")
	e.daemon.Stdout, e.daemon.Stderr = log, log
	e.daemon.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := e.daemon.Start(); err != nil {
		return nil, nil, err
	}
	e.ended = make(chan struct{})
	go func() {
		_ = e.daemon.Wait()
		close(e.ended)
	}()
	for deadline := time.Now().Add(commandLimit); ; time.Sleep(100 * time.Millisecond) {
		if e.command("version", "--format", "{{.Server.Version}}").Run() == nil {
			return e, []string{"host", "none"}, nil
		}
		select {
		case <-e.ended:
		default:
			if time.Now().Before(deadline) {
				continue
			}
		}
		said, _ := os.ReadFile(log.Name())
		return nil, nil, errors.Join(fmt.Errorf("dockerd does not start: %s", said[max(0, len(said)-200):]), e.close())
	}
}

func (e *engine) command(args ...string) *exec.Cmd {
	return exec.Command(e.docker, append(e.flags[:len(e.flags):len(e.flags)], args...)...)
}

// close ends an engine of our own, and with it the containerd that it has started.
func (e *engine) close() error {
	if e.daemon == nil {
		return nil
	}
	var err error
	_ = e.daemon.Process.Signal(syscall.SIGTERM)
	select {
	case <-e.ended:
	case <-time.After(commandLimit):
		_ = e.daemon.Process.Kill()
		<-e.ended
		err = errors.New("dockerd had to be killed")
	}
	// It leaves the namespaces of its networks mounted.
	mounted, _ := filepath.Glob(filepath.Join(e.dir, "exec", "netns", "*"))
	for _, path := range mounted {
		err = errors.Join(err, unix.Unmount(path, unix.MNT_DETACH))
	}
	return err
}

// contender is docker run with one network.
func (e *engine) contender(rootfs, network string) contender {
	c := contender{name: "peer: docker run -d, " + network}
	image := fmt.Sprintf("longshore-bench:%d-%s", os.Getpid(), network)
	archive := exec.Command("tar", "-C", rootfs, "-c", ".")
	load := e.command("import", "-", image)
	if load.Stdin, c.failed = archive.StdoutPipe(); c.failed != nil {
		return c
	}
	if c.failed = archive.Start(); c.failed != nil {
		return c
	}
	if c.failed = errors.Join(quietly(load), archive.Wait()); c.failed != nil {
		return c
	}
	var samples times
	c.once = func(context.Context) error {
		name := fmt.Sprintf("longshore-bench-%d-%s-%d", os.Getpid(), network, len(samples))
		err := samples.take(func() error {
			return quietly(e.command("run", "--detach", "--network", network, "--name", name, image, "/sample", "sleep", "600"))
		})
		return errors.Join(err, quietly(e.command("rm", "--force", name)))
	}
	c.rows = func() []row {
		r := latency(c.name, samples, true)
		r.Floor, r.Peer, r.Note = floorRow, runcRow, "the same program, its image local; until the client returns"
		if e.daemon != nil {
			r.Note += "; an engine of the benchmark's own, without bridge and firewall"
		}
		return []row{r}
	}
	c.close = func() error { return quietly(e.command("rmi", "--force", image)) }
	return c
}
