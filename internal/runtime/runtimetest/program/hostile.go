package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hostile are the tricks of containers that try to get out.
var hostile = map[string]func([]string) int{
	"open":         open,
	"fds":          fds,
	"node":         node,
	"swap":         swap,
	"overwrite":    overwrite,
	"mounts":       mounts,
	"userns":       userns,
	"shocker":      shocker,
	"tiocsti":      tiocsti,
	"setid":        setid,
	"packet":       packet,
	"connect":      connect,
	"statfs":       statfs,
	"inheritable":  inheritable,
	"holdns":       holdNamespace,
	"givens":       giveNamespace,
	"ptrace-other": ptraceOther,
}

func say(what string, err error) {
	if err == nil {
		fmt.Println(what + ": done")
		return
	}
	fmt.Println(what+":", err)
}

// open opens files with the flags r, w or rw, without changing them.
func open(args []string) int {
	flags := map[string]int{"r": unix.O_RDONLY, "w": unix.O_WRONLY, "rw": unix.O_RDWR}[args[0]]
	for _, path := range args[1:] {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err == nil {
			_ = unix.Close(fd)
		}
		say("open "+path, err)
	}
	return 0
}

// fds says what every open descriptor is, the working directory and the executable,
// and whether one of the host's files, named without the first slash, is above.
func fds(args []string) int {
	buf := make([]byte, 4096)
	for fd := range 1024 {
		if n, err := unix.Readlink(fmt.Sprint("/proc/self/fd/", fd), buf); err == nil {
			fmt.Printf("fd %d %s\n", fd, buf[:n])
		}
	}
	for _, name := range []string{"cwd", "root", "exe"} {
		n, err := unix.Readlink("/proc/self/"+name, buf)
		if err != nil {
			fmt.Println(name, err)
			continue
		}
		fmt.Printf("%s %s\n", name, buf[:n])
	}
	// From a directory of the host one gets above the root with any number of "..".
	for _, marker := range args {
		for up, n := ".", 0; n < 40; up, n = up+"/..", n+1 {
			if _, err := os.Lstat(up + "/" + marker); err == nil {
				fmt.Println("escaped to", up)
			}
		}
	}
	return 0
}

// node makes device nodes "b:major:minor" or "c:…" and opens them.
func node(args []string) int {
	for _, a := range args {
		f := strings.Split(a, ":")
		kind := uint32(unix.S_IFCHR)
		if f[0] == "b" {
			kind = unix.S_IFBLK
		}
		major, _ := strconv.Atoi(f[1])
		minor, _ := strconv.Atoi(f[2])
		path := "/tmp/node-" + strings.ReplaceAll(a, ":", "-")
		say("mknod "+a, unix.Mknod(path, kind|0o600, int(unix.Mkdev(uint32(major), uint32(minor)))))
		for name, flags := range map[string]int{"read": unix.O_RDONLY, "write": unix.O_WRONLY} {
			fd, err := unix.Open(path, flags|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
			if err == nil {
				_ = unix.Close(fd)
			}
			say(name+" "+a, err)
		}
	}
	return 0
}

// swap exchanges two names for each other as fast as it can.
func swap(args []string) int {
	fmt.Println("ready")
	for {
		if err := unix.Renameat2(unix.AT_FDCWD, args[0], unix.AT_FDCWD, args[1], unix.RENAME_EXCHANGE); err != nil {
			fmt.Println(err)
			return 1
		}
	}
}

// overwrite waits for processes other than its own and tries to write to their
// executables, by their links and by descriptors that it keeps.
func overwrite([]string) int {
	own, _ := os.Readlink("/proc/self/exe")
	seen := map[string]bool{}
	fmt.Println("ready")
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		entries, _ := os.ReadDir("/proc")
		for _, e := range entries {
			exe := "/proc/" + e.Name() + "/exe"
			if _, err := strconv.Atoi(e.Name()); err != nil {
				continue
			}
			name, err := os.Readlink(exe)
			if err != nil || name == own {
				continue
			}
			fd, err := unix.Open(exe, unix.O_PATH|unix.O_CLOEXEC, 0)
			if err != nil {
				continue
			}
			if !seen[name] {
				seen[name] = true
				fmt.Println("saw", name)
			}
			tryToWrite(fd, name)
		}
	}
	return 0
}

func tryToWrite(fd int, name string) {
	path := fmt.Sprint("/proc/self/fd/", fd)
	for range 50 {
		for _, flags := range []int{unix.O_WRONLY, unix.O_RDWR, unix.O_WRONLY | unix.O_TRUNC} {
			w, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
			if err != nil {
				continue
			}
			n, err := unix.Write(w, []byte("#!/bin/evil\n"))
			fmt.Println("overwrote", name, n, err)
			_ = unix.Close(w)
		}
	}
	_ = unix.Close(fd)
}

// mounts tries to change what is mounted.
func mounts([]string) int {
	for _, target := range []string{"/proc/sys", "/sys", "/sys/fs/cgroup", "/proc/sysrq-trigger"} {
		say("remount "+target, unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND, ""))
	}
	for _, kind := range []string{"proc", "sysfs", "tmpfs", "cgroup", "cgroup2", "overlay", "ext4", "debugfs", "devtmpfs"} {
		say("mount "+kind, unix.Mount(kind, "/tmp", kind, 0, ""))
	}
	say("umount /proc/kcore", unix.Unmount("/proc/kcore", unix.MNT_DETACH))
	say("umount /proc/sys", unix.Unmount("/proc/sys", unix.MNT_DETACH))
	say("pivot_root", unix.PivotRoot("/", "/tmp"))
	_, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE)
	say("open_tree", err)
	_, err = unix.Fsopen("tmpfs", 0)
	say("fsopen", err)
	return 0
}

// userns makes namespaces of its own and from within tries to mount cgroups and to
// have the kernel run a program (CVE-2022-0492).
func userns([]string) int {
	for _, n := range []string{"user", "cgroup", "mount", "pid", "net"} {
		flag := map[string]int{"user": unix.CLONE_NEWUSER, "cgroup": unix.CLONE_NEWCGROUP, "mount": unix.CLONE_NEWNS, "pid": unix.CLONE_NEWPID, "net": unix.CLONE_NEWNET}[n]
		child := exec.Command("/bin/exit", "0")
		child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: uintptr(flag)}
		say("clone "+n, child.Run())
	}
	if len(os.Getenv("INNER")) == 0 {
		child := exec.Command("/bin/userns")
		child.Env = []string{"INNER=1"}
		child.Stdout, child.Stderr = os.Stdout, os.Stderr
		child.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
		}
		say("unshare", child.Run())
		return 0
	}
	for _, controller := range []string{"memory", "pids", "cpu", "freezer", "devices", "rdma", "none,name=own"} {
		dir := "/tmp/c-" + strings.Trim(controller, ",=")
		_ = os.MkdirAll(dir, 0o755)
		err := unix.Mount("cgroup", dir, "cgroup", 0, controller)
		say("inner mount "+controller, err)
		if err != nil {
			continue
		}
		say("inner release_agent", os.WriteFile(filepath.Join(dir, "release_agent"), []byte("/escaped"), 0))
	}
	return 0
}

// shocker opens files of the host by handles: the root of a file system is often
// inode 2.
func shocker([]string) int {
	at, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		say("open", err)
		return 1
	}
	for _, inode := range []byte{2, 1, 128} {
		handle := unix.NewFileHandle(1, []byte{inode, 0, 0, 0, 0, 0, 0, 0})
		_, err := unix.OpenByHandleAt(at, handle, unix.O_RDONLY)
		say(fmt.Sprint("open_by_handle_at ", inode), err)
	}
	return 0
}

// tiocsti puts a character into its terminal's input, as if it had been typed.
func tiocsti([]string) int {
	for fd := range 3 {
		c := byte('x')
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCSTI, uintptr(unsafe.Pointer(&c)))
		if errno == 0 {
			fmt.Println("TIOCSTI", fd, "done")
		} else {
			fmt.Println("TIOCSTI", fd, errno)
		}
	}
	return 0
}

// setid becomes another user, and says what it may still do.
func setid(args []string) int {
	uid := number(args, 0, 1000)
	say("setgid", syscall.Setgid(uid))
	say("setuid", syscall.Setuid(uid))
	say("setuid 0", syscall.Setuid(0))
	say("write /etc/passwd", os.WriteFile("/etc/passwd", nil, 0o644))
	fmt.Println("ready")
	time.Sleep(1000 * time.Second)
	return 0
}

// packet makes sockets that see more than their own traffic.
func packet([]string) int {
	for name, s := range map[string][3]int{
		"raw": {unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP}, "vsock": {unix.AF_VSOCK, unix.SOCK_STREAM, 0},
		"netlink": {unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE},
	} {
		fd, err := unix.Socket(s[0], s[1], s[2])
		if err == nil {
			_ = unix.Close(fd)
		}
		say("socket "+name, err)
	}
	return 0
}

// connect tries unix sockets, "@" for abstract ones, and says how each answered.
func connect(args []string) int {
	for _, name := range args {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			say("socket", err)
			return 1
		}
		say("connect "+name, unix.Connect(fd, &unix.SockaddrUnix{Name: name}))
		_ = unix.Close(fd)
	}
	f, err := os.Open("/proc/net/unix")
	if err != nil {
		return 1
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if i := strings.IndexByte(s.Text(), '@'); i >= 0 {
			fmt.Println("abstract", s.Text()[i:])
		}
	}
	return 0
}

// statfs says the type of the file system at each path.
func statfs(args []string) int {
	for _, path := range args {
		var st unix.Statfs_t
		if err := unix.Statfs(path, &st); err != nil {
			say("statfs "+path, err)
			continue
		}
		fmt.Printf("statfs %s %#x\n", path, st.Type)
	}
	return 0
}

// inheritable prints the capability sets of a program that it runs.
func inheritable([]string) int {
	child := exec.Command("/bin/cat", "/proc/self/status")
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	say("child", child.Run())
	return 0
}

// holdNamespace takes a descriptor from a socket and keeps it.
func holdNamespace(args []string) int {
	_ = os.Remove(args[0])
	l, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		err = errors.Join(unix.Bind(l, &unix.SockaddrUnix{Name: args[0]}), unix.Listen(l, 1))
	}
	if err != nil {
		say("listen", err)
		return 1
	}
	fmt.Println("listening")
	conn, _, err := unix.Accept(l)
	if err != nil {
		say("accept", err)
		return 1
	}
	oob := make([]byte, 64)
	_, n, _, _, err := unix.Recvmsg(conn, make([]byte, 1), oob, 0)
	if err != nil || n == 0 {
		say("receive", err)
		return 1
	}
	fmt.Println("holding")
	time.Sleep(1000 * time.Second)
	return 0
}

// giveNamespace sends its network namespace over a socket.
func giveNamespace(args []string) int {
	ns, err := unix.Open("/proc/self/ns/net", unix.O_RDONLY, 0)
	if err != nil {
		say("open", err)
		return 1
	}
	for range 1000 {
		conn, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err == nil {
			err = unix.Connect(conn, &unix.SockaddrUnix{Name: args[0]})
		}
		if err == nil {
			err = unix.Sendmsg(conn, []byte("x"), unix.UnixRights(ns), nil, 0)
		}
		if err == nil {
			fmt.Println("given")
			time.Sleep(1000 * time.Second)
			return 0
		}
		_ = unix.Close(conn)
		time.Sleep(10 * time.Millisecond)
	}
	fmt.Println("nobody takes it")
	return 1
}

// ptraceOther tries to trace, and to look into, the processes.
func ptraceOther(args []string) int {
	for i := range args {
		pid := number(args, i, 0)
		if err := unix.PtraceAttach(pid); err == nil {
			_ = unix.PtraceDetach(pid)
			fmt.Println("traced", pid)
		}
		if _, err := os.ReadDir(fmt.Sprint("/proc/", pid, "/root/")); err == nil {
			fmt.Println("looked into", pid)
		}
		if _, err := os.ReadFile(fmt.Sprint("/proc/", pid, "/environ")); err == nil {
			fmt.Println("read the environment of", pid)
		}
	}
	fmt.Println("tried", len(args))
	return 0
}
