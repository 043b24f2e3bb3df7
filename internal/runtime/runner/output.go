//go:build linux && cgo

package runner

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/utils"
	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/runtime"
	"longshore.dev/longshore/internal/runtime/spool"
)

// output carries a container's output from its pipes (or its terminal) into the
// spool.
type output struct {
	writer  *spool.Writer
	child   []*os.File // the container's ends, closed here once it runs
	console *os.File   // our end of the socket over which the terminal comes
	stdin   *os.File   // held open for a container that reads from it
	sources []source
	copying sync.WaitGroup
	once    sync.Once
}

type source struct {
	stream runtime.Stream
	file   *os.File
}

// connect gives the process its standard streams.
func connect(p *libcontainer.Process, spec runtime.Spec, w *spool.Writer) (o *output, err error) {
	o = &output{writer: w}
	defer func() {
		if err != nil {
			o.abort()
		}
	}()
	if spec.Terminal {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("make the terminal's socket: %w", err)
		}
		o.console = os.NewFile(uintptr(pair[0]), "console")
		p.ConsoleSocket = os.NewFile(uintptr(pair[1]), "console")
		o.child = append(o.child, p.ConsoleSocket)
		return o, nil
	}
	if spec.OpenStdin {
		read, write, err := pipe()
		if err != nil {
			return nil, err
		}
		o.stdin, o.child = write, append(o.child, read)
		p.Stdin = read
	}
	if spec.Output.Discard {
		return o, nil // nil streams are /dev/null
	}
	for _, stream := range []runtime.Stream{runtime.Stdout, runtime.Stderr} {
		read, write, err := pipe()
		if err != nil {
			return nil, err
		}
		o.sources = append(o.sources, source{stream, read})
		o.child = append(o.child, write)
		if stream == runtime.Stdout {
			p.Stdout = write
		} else {
			p.Stderr = write
		}
	}
	return o, nil
}

// pipe makes a pipe whose read end is polled and whose write end blocks, as
// programs expect of their standard streams.
func pipe() (read, write *os.File, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("make a pipe: %w", err)
	}
	if err := unix.SetNonblock(p[0], true); err != nil {
		return nil, nil, fmt.Errorf("make a pipe: %w", err)
	}
	return os.NewFile(uintptr(p[0]), "pipe"), os.NewFile(uintptr(p[1]), "pipe"), nil
}

// run begins to copy. The container's init has been made.
func (o *output) run() error {
	if o.console != nil {
		master, err := utils.RecvFile(o.console)
		_ = o.console.Close()
		o.console = nil
		if err != nil {
			return fmt.Errorf("receive the terminal: %w", err)
		}
		fd, err := unix.FcntlInt(master.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		_ = master.Close()
		if err != nil {
			return fmt.Errorf("receive the terminal: %w", err)
		}
		if err := unix.SetNonblock(fd, true); err != nil {
			return fmt.Errorf("receive the terminal: %w", err)
		}
		o.sources = append(o.sources, source{runtime.Stdout, os.NewFile(uintptr(fd), "terminal")})
	}
	for _, s := range o.sources {
		o.copying.Go(func() { o.writer.Copy(s.stream, s.file) })
	}
	return nil
}

func (o *output) closeChild() {
	for _, f := range o.child {
		_ = f.Close()
	}
	o.child = nil
}

// finish reads what is left after the container's exit, for at most grace when a
// process outside holds the pipes, and ends the spool. Later calls wait for it.
func (o *output) finish(grace time.Duration) {
	o.writer.Drain()
	deadline := time.Now().Add(grace)
	if grace == 0 {
		deadline = time.Now().Add(100 * time.Millisecond)
	}
	for _, s := range o.sources {
		_ = s.file.SetReadDeadline(deadline)
	}
	o.copying.Wait()
	o.once.Do(func() {
		if err := o.writer.End(); err != nil {
			fmt.Fprintln(os.Stderr, "longshore-runner: end the spool:", err)
		}
		o.close()
	})
}

// abort closes everything of a container that was never started.
func (o *output) abort() {
	o.closeChild()
	o.once.Do(func() {
		_ = o.writer.End()
		for _, s := range o.sources {
			_ = s.file.Close()
		}
		o.copying.Wait()
		o.close()
	})
}

func (o *output) close() {
	for _, f := range []*os.File{o.console, o.stdin} {
		if f != nil {
			_ = f.Close()
		}
	}
	for _, s := range o.sources {
		_ = s.file.Close()
	}
}
