package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func echo(out io.Writer, args []string) error {
	_, err := fmt.Fprintln(out, strings.Join(args, " "))
	return err
}

func lines(out io.Writer, args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil || n < 0 {
		return usageError{fmt.Sprintf("lines: %q is not a number", args[0])}
	}
	w := bufio.NewWriterSize(out, 64<<10)
	for i := 1; i <= n; i++ {
		if _, err := fmt.Fprintf(w, "line %d\n", i); err != nil {
			return err
		}
	}
	return w.Flush()
}

func cat(out io.Writer, args []string) error {
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(out, f)
	return err
}

func printEnv(out io.Writer, _ []string) error {
	env := slices.Sorted(slices.Values(os.Environ()))
	_, err := fmt.Fprint(out, strings.Join(append(env, ""), "\n"))
	return err
}

// printID prints uid=… gid=… groups=… and the capability sets, one a line.
func printID(out io.Writer, _ []string) error {
	groups, err := os.Getgroups()
	if err != nil {
		return err
	}
	list := make([]string, len(groups))
	for i, g := range groups {
		list[i] = strconv.Itoa(g)
	}
	fmt.Fprintf(out, "uid=%d gid=%d groups=%s\n", os.Getuid(), os.Getgid(), strings.Join(list, ","))
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		for _, name := range []string{"Cap", "NoNewPrivs", "Seccomp:"} {
			if strings.HasPrefix(line, name) {
				fmt.Fprint(out, strings.ReplaceAll(line, ":\t", "="))
			}
		}
	}
	return nil
}

func get(out io.Writer, args []string) error {
	ctx, stop := untilTerminated()
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, args[0], nil)
	if err != nil {
		return usageError{"get: " + err.Error()}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(out, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode >= 400 {
		return fmt.Errorf("get: %s answered %s", args[0], resp.Status)
	}
	return nil
}

func write(_ io.Writer, args []string) error {
	n, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil || n < 0 {
		return usageError{fmt.Sprintf("write: %q is not a number of bytes", args[1])}
	}
	f, err := os.Create(args[0])
	if err != nil {
		return err
	}
	if _, err := io.CopyN(f, zeros{}, n); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func burn(out io.Writer, args []string) error {
	ctx, stop := untilTerminated()
	defer stop()
	switch args[0] {
	case "cpu":
		for range runtime.NumCPU() {
			go func() {
				for x := uint64(1); ctx.Err() == nil; {
					for range 1 << 20 {
						x = x*6364136223846793005 + 1
					}
				}
			}()
		}
	case "memory":
		go func() {
			var kept [][]byte
			for ctx.Err() == nil {
				block := make([]byte, 4<<20)
				for i := 0; i < len(block); i += os.Getpagesize() {
					block[i] = 1 // a page counts once it is touched
				}
				kept = append(kept, block)
			}
			runtime.KeepAlive(kept)
		}()
	default:
		return usageError{"usage: burn cpu|memory"}
	}
	fmt.Fprintln(out, "burning", args[0])
	<-ctx.Done()
	return exitCode(exitTerminated)
}

// fork starts children that sleep, prints their pids and waits for the signal to stop.
func fork(out io.Writer, args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil || n < 1 || n > 10_000 {
		return usageError{fmt.Sprintf("fork: %q is not a number of children", args[0])}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	ctx, stop := untilTerminated()
	defer stop()
	for i := range n {
		child, err := os.StartProcess(self, []string{self, "sleep", "1000000"}, &os.ProcAttr{Files: []*os.File{nil, os.Stdout, os.Stderr}})
		if err != nil {
			return fmt.Errorf("fork: child %d: %w", i+1, err)
		}
		defer func() {
			_ = child.Signal(syscall.SIGTERM)
			_, _ = child.Wait()
		}()
		fmt.Fprintf(out, "child %d\n", child.Pid)
	}
	<-ctx.Done()
	return exitCode(exitTerminated)
}

func ignoreTerm(out io.Writer, _ []string) error {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT)
	fmt.Fprintln(out, "ignoring SIGTERM")
	for s := range told {
		fmt.Fprintln(out, "ignored", s)
	}
	return nil
}
