package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// exitTerminated is what a program killed by SIGTERM looks like: 128+15.
const exitTerminated = 143

func main() {
	if os.Getpid() == 1 {
		go reap()
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// usageError is a wrong command line: exit code 2.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

// exitCode ends the program with a code and no message.
type exitCode int

func (e exitCode) Error() string { return "exit " + strconv.Itoa(int(e)) }

// run runs one command and returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	err := dispatch(args, stdout)
	var code exitCode
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &usage):
		fmt.Fprintln(stderr, "sample:", usage.text)
		return 2
	}
	fmt.Fprintln(stderr, "sample:", err)
	return 1
}

func dispatch(args []string, out io.Writer) error {
	if len(args) == 0 {
		port := os.Getenv("PORT")
		if port == "" {
			port = "80"
		}
		return serve(out, port)
	}
	name, args := args[0], args[1:]
	for _, c := range commands {
		if c.name != name {
			continue
		}
		if c.args >= 0 && len(args) != c.args {
			return usageError{"usage: " + c.usage}
		}
		return c.run(out, args)
	}
	known := make([]string, len(commands))
	for i, c := range commands {
		known[i] = c.name
	}
	return usageError{fmt.Sprintf("unknown command %q; there are %s", name, strings.Join(known, ", "))}
}

type command struct {
	name  string
	args  int // how many arguments it takes; -1: any
	usage string
	run   func(out io.Writer, args []string) error
}

var commands = []command{
	{"listen", 1, "listen PORT", func(out io.Writer, a []string) error { return serve(out, a[0]) }},
	{"sleep", 1, "sleep SECONDS", sleep},
	{"exit", 1, "exit CODE", exit},
	{"echo", -1, "echo TEXT", echo},
	{"lines", 1, "lines N", lines},
	{"cat", 1, "cat PATH", cat},
	{"env", 0, "env", printEnv},
	{"id", 0, "id", printID},
	{"get", 1, "get URL", get},
	{"write", 2, "write PATH BYTES", write},
	{"burn", 1, "burn cpu|memory", burn},
	{"fork", 1, "fork N", fork},
	{"ignore-term", 0, "ignore-term", ignoreTerm},
}

// untilTerminated returns a context that ends with SIGTERM or SIGINT.
func untilTerminated() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
}

// reap collects the children that the kernel gives to PID 1. Children of our own
// are only ever started with os.StartProcess, whose Wait tolerates ECHILD.
func reap() {
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	for range died {
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if pid <= 0 || err != nil {
				break
			}
		}
	}
}

func sleep(_ io.Writer, args []string) error {
	seconds, err := strconv.ParseFloat(args[0], 64)
	if err != nil || seconds < 0 || seconds > 1e9 {
		return usageError{fmt.Sprintf("sleep: %q is not a number of seconds", args[0])}
	}
	ctx, stop := untilTerminated()
	defer stop()
	return wait(ctx, time.Duration(seconds*float64(time.Second)))
}

// wait waits for d or for the end of ctx, which is being terminated.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return exitCode(exitTerminated)
	}
}

func exit(_ io.Writer, args []string) error {
	code, err := strconv.Atoi(args[0])
	if err != nil || code < 0 || code > 255 {
		return usageError{fmt.Sprintf("exit: %q is not an exit code (0 to 255)", args[0])}
	}
	return exitCode(code)
}
