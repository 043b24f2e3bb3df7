package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	name, args := filepath.Base(os.Args[0]), os.Args[1:]
	command, ok := map[string]func([]string) int{
		"exit":   func(a []string) int { return number(a, 0, 0) },
		"sleep":  sleep,
		"echo":   func(a []string) int { fmt.Println(strings.Join(a, " ")); return 0 },
		"err":    func(a []string) int { fmt.Fprintln(os.Stderr, strings.Join(a, " ")); return 0 },
		"spam":   spam,
		"lines":  lines,
		"trap":   trap,
		"ignore": ignore,
		"env":    func([]string) int { fmt.Println(strings.Join(os.Environ(), "\n")); return 0 },
		"cwd":    func([]string) int { dir, _ := os.Getwd(); fmt.Println(dir); return 0 },
		"id":     id,
		"cat":    cat,
		"ls":     ls,
		"stat":   stat,
		"write":  write,
		"alloc":  alloc,
		"forks":  forks,
		"orphan": orphan,
		"signal": func(a []string) int { _ = syscall.Kill(os.Getpid(), syscall.Signal(number(a, 0, 9))); select {} },
		"call":   call,
		"slack":  slack,
	}[name]
	for _, more := range []map[string]func([]string) int{hostile, misbehaving} {
		if !ok {
			command, ok = more[name]
		}
	}
	if !ok {
		fmt.Fprintln(os.Stderr, "unknown command", name)
		os.Exit(2)
	}
	os.Exit(command(args))
}

func number(args []string, i, otherwise int) int {
	if len(args) <= i {
		return otherwise
	}
	n, err := strconv.Atoi(args[i])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return n
}

func sleep(args []string) int {
	d, err := strconv.ParseFloat(strings.Join(args, ""), 64)
	if err != nil {
		return 2
	}
	time.Sleep(time.Duration(d * float64(time.Second)))
	return 0
}

// spam writes so many bytes in lines of 100.
func spam(args []string) int {
	out := bufio.NewWriterSize(os.Stdout, 64<<10)
	line := strings.Repeat("x", 99) + "\n"
	for left := number(args, 0, 0); left > 0; left -= len(line) {
		_, _ = out.WriteString(line[:min(left, len(line))])
	}
	if out.Flush() != nil {
		return 1
	}
	return 0
}

// lines writes numbered lines, one write each.
func lines(args []string) int {
	for i := range number(args, 0, 0) {
		fmt.Println("line", i)
	}
	return 0
}

// trap says ready, waits for SIGTERM, says so, and exits with the code.
func trap(args []string) int {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGTERM)
	fmt.Println("ready")
	<-ch
	fmt.Println("terminated")
	return number(args, 0, 0)
}

// ignore says ready and takes no notice of SIGTERM.
func ignore([]string) int {
	signal.Ignore(syscall.SIGTERM)
	fmt.Println("ready")
	for {
		time.Sleep(time.Hour)
	}
}

func id([]string) int {
	groups, _ := os.Getgroups()
	host, _ := os.Hostname()
	fmt.Printf("uid=%d gid=%d groups=%v host=%s pid=%d\n", os.Getuid(), os.Getgid(), groups, host, os.Getpid())
	return 0
}

func cat(args []string) int {
	code := 0
	for _, name := range args {
		f, err := os.Open(name)
		if err == nil {
			_, err = io.Copy(os.Stdout, f)
		}
		if err != nil {
			fmt.Println(err)
			code = 1
		}
	}
	return code
}

func ls(args []string) int {
	entries, err := os.ReadDir(args[0])
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for _, e := range entries {
		fmt.Println(e.Name())
	}
	return 0
}

func stat(args []string) int {
	for _, name := range args {
		info, err := os.Stat(name)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println(name, info.Mode(), info.Size())
	}
	return 0
}

func write(args []string) int {
	if err := os.WriteFile(args[0], []byte(strings.Join(args[1:], " ")), 0o644); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// alloc touches so many megabytes.
func alloc(args []string) int {
	block := make([]byte, number(args, 0, 0)<<20)
	for i := 0; i < len(block); i += 4096 {
		block[i] = 1
	}
	fmt.Println("allocated", len(block))
	return 0
}

// forks starts children until it cannot, and tells how many it had.
func forks(args []string) int {
	started := 0
	for ; started < number(args, 0, 0); started++ {
		if err := exec.Command("/bin/sleep", "60").Start(); err != nil {
			fmt.Println("refused:", err)
			break
		}
	}
	fmt.Println("started", started)
	return 0
}

// orphan leaves a process of a session of its own behind, says its pid, and
// sleeps.
func orphan([]string) int {
	child := exec.Command("/bin/sleep", "1000")
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("orphan", child.Process.Pid)
	time.Sleep(1000 * time.Second)
	return 0
}

// slack tells by how many nanoseconds the kernel may delay this process's timers,
// now and when the process asks for the default.
func slack([]string) int {
	const prSetTimerSlack, prGetTimerSlack = 29, 30
	runtime.LockOSThread() // it is a thread's own
	now, _, _ := syscall.RawSyscall(syscall.SYS_PRCTL, prGetTimerSlack, 0, 0)
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, prSetTimerSlack, 0, 0)
	byDefault, _, _ := syscall.RawSyscall(syscall.SYS_PRCTL, prGetTimerSlack, 0, 0)
	fmt.Printf("%d %d\n", now, byDefault)
	return 0
}

// call makes system calls by number and says how each ended.
func call(args []string) int {
	for _, a := range args {
		n, err := strconv.ParseUint(a, 10, 64)
		if err != nil {
			return 2
		}
		_, _, errno := syscall.Syscall6(uintptr(n), ^uintptr(0), ^uintptr(0), ^uintptr(0), 0, 0, 0)
		fmt.Printf("%d: %v\n", n, errno)
	}
	return 0
}
