package fake

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"longshore.dev/longshore/internal/runtime"
)

// Program is what a container runs. It returns the exit code, and returns soon
// after ctx ends: then the container was killed and the code is not looked at.
type Program func(ctx context.Context, p *Process) int

// Process is what a Program has to work with.
type Process struct {
	Args  []string // without the program's name
	Env   []string
	Now   func() time.Time
	After func(time.Duration) <-chan time.Time

	ctx context.Context
	run Program
	out *spool

	mu       sync.Mutex
	handlers map[int]chan int
}

// Print writes to a stream; it may block as a real container's write would.
func (p *Process) Print(stream runtime.Stream, text string) {
	p.out.write(p.ctx, stream, []byte(text))
}

// Notify makes the signal arrive in the returned channel instead of ending the
// program.
func (p *Process) Notify(signal int) <-chan int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.handlers == nil {
		p.handlers = map[int]chan int{}
	}
	ch := make(chan int, 8)
	p.handlers[signal] = ch
	return ch
}

// deliver reports whether the program handles the signal.
func (p *Process) deliver(signal int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	ch, ok := p.handlers[signal]
	if ok {
		select {
		case ch <- signal:
		default:
		}
	}
	return ok
}

func builtins() map[string]Program {
	return map[string]Program{
		"exit": func(_ context.Context, p *Process) int { return p.number(0) },
		"echo": func(_ context.Context, p *Process) int {
			p.Print(runtime.Stdout, strings.Join(p.Args, " ")+"\n")
			return 0
		},
		"err": func(_ context.Context, p *Process) int {
			p.Print(runtime.Stderr, strings.Join(p.Args, " ")+"\n")
			return 0
		},
		"env": func(_ context.Context, p *Process) int {
			p.Print(runtime.Stdout, strings.Join(p.Env, "\n")+"\n")
			return 0
		},
		"sleep":  sleep,
		"trap":   trap,
		"ignore": ignore,
		"lines":  lines,
		"spam":   spam,
	}
}

func (p *Process) number(i int) int {
	if len(p.Args) <= i {
		return 0
	}
	n, err := strconv.Atoi(p.Args[i])
	if err != nil {
		p.Print(runtime.Stderr, err.Error()+"\n")
		return 2
	}
	return n
}

func sleep(ctx context.Context, p *Process) int {
	seconds, err := strconv.ParseFloat(strings.Join(p.Args, ""), 64)
	if err != nil {
		return 2
	}
	select {
	case <-ctx.Done():
	case <-p.After(time.Duration(seconds * float64(time.Second))):
	}
	return 0
}

func trap(ctx context.Context, p *Process) int {
	term := p.Notify(15)
	p.Print(runtime.Stdout, "ready\n")
	select {
	case <-ctx.Done():
	case <-term:
		p.Print(runtime.Stdout, "terminated\n")
	}
	return p.number(0)
}

func ignore(ctx context.Context, p *Process) int {
	p.Notify(15)
	p.Print(runtime.Stdout, "ready\n")
	<-ctx.Done()
	return 0
}

func lines(ctx context.Context, p *Process) int {
	for i := range p.number(0) {
		if ctx.Err() != nil {
			break
		}
		p.Print(runtime.Stdout, fmt.Sprintln("line", i))
	}
	return 0
}

func spam(ctx context.Context, p *Process) int {
	line := strings.Repeat("x", 99) + "\n"
	for left := p.number(0); left > 0 && ctx.Err() == nil; left -= len(line) {
		p.Print(runtime.Stdout, line[:min(left, len(line))])
	}
	return 0
}
