package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// misbehaving are the ways of containers that are merely badly behaved.
var misbehaving = map[string]func([]string) int{
	"brood":    brood,
	"bomb":     bomb,
	"daemon":   daemon,
	"shut":     shut,
	"garbage":  garbage,
	"oneline":  oneLine,
	"numbered": numbered,
	"zombies":  zombies,
	"rename":   rename,
	"rmroot":   removeRoot,
	"fill":     fill,
	"oomchild": oomChild,
	"score":    score,
	"freeze":   freeze,
	"stopped":  stopped,
}

func forever() int {
	for {
		time.Sleep(time.Hour)
	}
}

// brood starts children that take no notice of SIGTERM, as it does itself.
func brood(args []string) int {
	signal.Ignore(syscall.SIGTERM)
	for range number(args, 0, 100) {
		if err := exec.Command("/bin/ignore").Start(); err != nil {
			fmt.Println("refused:", err)
			return 1
		}
	}
	fmt.Println("ready")
	return forever()
}

// bomb starts itself, again and again, everywhere.
func bomb([]string) int {
	signal.Ignore(syscall.SIGTERM)
	for told := false; ; {
		_, err := syscall.ForkExec("/bin/bomb", []string{"bomb"}, &syscall.ProcAttr{Files: []uintptr{0, 1, 2}})
		if err == nil {
			continue
		}
		if !told {
			told = true
			fmt.Println("refused:", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// daemon leaves a grandchild behind that holds the output, says so, and exits.
func daemon(args []string) int {
	if len(args) > 0 && args[0] == "middle" {
		child := exec.Command("/bin/ignore")
		child.Stdout, child.Stderr = os.Stdout, os.Stderr
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		say("daemon", child.Start())
		return 0
	}
	child := exec.Command("/bin/daemon", "middle")
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	say("middle", child.Run())
	return number(args, 0, 0)
}

// shut closes its standard streams, lives on for a moment, and exits with 5.
func shut([]string) int {
	fmt.Println("closing")
	for fd := range 3 {
		_ = unix.Close(fd)
	}
	time.Sleep(200 * time.Millisecond)
	return 5
}

// garbage writes every byte there is, in every order that is not text.
func garbage([]string) int {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	_, _ = os.Stdout.Write(all)
	_, _ = os.Stdout.WriteString("\nnul \x00 in the middle\n\xff\xfe\xc3\x28 invalid\n\xe2\x82")
	_, _ = os.Stdout.WriteString("\xac joined\n\x1b[2J\x1b]0;title\x07\nend\n")
	return 0
}

// oneLine writes so many bytes without a line end.
func oneLine(args []string) int {
	block := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	for left := number(args, 0, 0); left > 0; left -= len(block) {
		if _, err := os.Stdout.Write(block[:min(left, len(block))]); err != nil {
			return 1
		}
	}
	return 0
}

// numbered writes so many lines of 100 bytes that begin with their number, and "end".
func numbered(args []string) int {
	out := bufio.NewWriterSize(os.Stdout, 64<<10)
	for i := range number(args, 0, 0) {
		fmt.Fprintf(out, "%09d %s\n", i, strings.Repeat("x", 89))
	}
	fmt.Fprintln(out, "end")
	if out.Flush() != nil {
		return 1
	}
	return 0
}

// zombies starts children that end at once, and does not look after them.
func zombies(args []string) int {
	made := 0
	for range number(args, 0, 1000) {
		if _, err := syscall.ForkExec("/bin/exit", []string{"exit"}, &syscall.ProcAttr{}); err != nil {
			fmt.Println("refused:", err)
			break
		}
		made++
	}
	fmt.Println("zombies", made)
	return forever()
}

// rename gives itself a name that looks like the state of a dead process.
func rename(args []string) int {
	signal.Ignore(syscall.SIGTERM)
	for _, task := range tasks() {
		name := append([]byte(strings.Join(args, " ")), 0)
		_ = os.WriteFile("/proc/self/task/"+task+"/comm", name[:len(name)-1], 0)
		say("prctl", unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0))
	}
	fmt.Println("renamed")
	return forever()
}

func tasks() []string {
	entries, _ := os.ReadDir("/proc/self/task")
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// removeRoot deletes everything that it can.
func removeRoot([]string) int {
	entries, _ := os.ReadDir("/")
	for _, e := range entries {
		if e.Name() != "proc" && e.Name() != "sys" && e.Name() != "dev" {
			say("remove /"+e.Name(), os.RemoveAll("/"+e.Name()))
		}
	}
	fmt.Println("removed")
	return forever()
}

// fill writes to a file until it cannot, says why and how much it was.
func fill(args []string) int {
	f, err := os.Create(args[0])
	if err != nil {
		say("create", err)
		return 1
	}
	block := make([]byte, 1<<20)
	for n := 0; ; n++ {
		if _, err := f.Write(block); err != nil {
			fmt.Println("full after", n, "MiB:", err)
			return 28
		}
	}
}

// oomChild lets a child take too much memory, and lives on.
func oomChild(args []string) int {
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0)
	child := exec.Command("/bin/alloc", args...)
	child.SysProcAttr = &syscall.SysProcAttr{}
	if err := child.Start(); err != nil {
		say("start", err)
		return 1
	}
	say("child", child.Wait())
	return 3
}

// score tells how this process and a child of it count when memory runs out, and
// whether they may count for less.
func score(args []string) int {
	raw, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		say("read", err)
		return 1
	}
	fmt.Print("counts ", string(raw))
	say("lower", os.WriteFile("/proc/self/oom_score_adj", []byte("-1"), 0))
	if len(args) > 0 {
		return 0
	}
	child := exec.Command("/bin/score", "child")
	child.Stdout = os.Stdout
	say("child", child.Run())
	return 0
}

// freeze makes a cgroup of its own below the container's, goes in with a child and
// freezes it: only a privileged container can.
func freeze([]string) int {
	dir := "/sys/fs/cgroup/freezer/own"
	if err := os.Mkdir(dir, 0o755); err != nil {
		say("mkdir", err)
		return 1
	}
	child := exec.Command("/bin/ignore")
	say("start", child.Start())
	say("move", os.WriteFile(dir+"/cgroup.procs", []byte(fmt.Sprint(child.Process.Pid)), 0))
	say("freeze", os.WriteFile(dir+"/freezer.state", []byte("FROZEN"), 0))
	fmt.Println("ready")
	return forever()
}

// stopped lets a child trace it, and another stop, and stops itself.
func stopped(args []string) int {
	if len(args) > 0 {
		say("trace", unix.PtraceAttach(os.Getppid()))
		fmt.Println("ready")
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		return forever()
	}
	signal.Ignore(syscall.SIGTERM)
	child := exec.Command("/bin/stopped", "tracer")
	child.Stdout = os.Stdout
	say("start", child.Start())
	_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	return forever()
}
