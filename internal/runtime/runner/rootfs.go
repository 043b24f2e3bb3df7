//go:build linux && cgo

package runner

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/runtime"
	"longshore.dev/longshore/internal/runtime/oci"
)

const (
	// maxUserFile bounds /etc/passwd and /etc/group.
	maxUserFile = 4 << 20
	// maxMountData is the kernel's limit for mount(2)'s options: one page.
	maxMountData = 4095
)

// prepared is a mount namespace with the root file system in it.
type prepared struct {
	namespace *os.File
	user      oci.User
	compat    bool // it has 32-bit programs
}

// prepareRoot makes a mount namespace that holds the host's mounts and, over
// target, the root file system. The container's init joins it and leaves the rest
// behind when it pivots; no other process ever sees these mounts, and they go
// with the last process of the container. shmOf, when not 0, is the process
// whose /dev/shm is mounted over shmTarget.
func prepareRoot(spec runtime.Spec, target string, shmOf int, shmTarget string) (prepared, error) {
	type result struct {
		p   prepared
		err error
	}
	done := make(chan result, 1)
	go func() {
		// Never unlocked: the thread ends with this goroutine, its namespace with the
		// last descriptor.
		goruntime.LockOSThread()
		var r result
		r.err = prepareThread(spec, target, shmOf, shmTarget, &r.p)
		done <- r
	}()
	r := <-done
	return r.p, r.err
}

func prepareThread(spec runtime.Spec, target string, shmOf int, shmTarget string, p *prepared) error {
	shm := -1
	if shmOf != 0 {
		var err error
		if shm, err = cloneShm(shmOf); err != nil {
			return err
		}
		defer unix.Close(shm)
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("detach from the host's mounts: %w", err)
	}
	if err := mountRoot(spec.RootFS, target); err != nil {
		return fmt.Errorf("mount the root file system: %w", err)
	}
	if shm >= 0 {
		if err := unix.MoveMount(shm, "", unix.AT_FDCWD, shmTarget, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("mount the shared memory: %w", err)
		}
	}
	var err error
	if p.user, err = lookupUser(target, spec.User); err != nil {
		return err
	}
	p.compat = hasCompat(target, spec.Args)
	p.namespace, err = os.Open("/proc/thread-self/ns/mnt")
	return err
}

// cloneShm takes a copy of the mount at another container's /dev/shm.
func cloneShm(pid int) (int, error) {
	dir := fmt.Sprintf("/proc/%d", pid)
	ns, err := os.Open(dir + "/ns/mnt")
	if err != nil {
		return -1, fmt.Errorf("share the shared memory: %w", err)
	}
	defer ns.Close()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return -1, fmt.Errorf("share the shared memory: %w", err)
	}
	own, err := os.Open("/proc/thread-self/ns/mnt")
	if err != nil {
		return -1, fmt.Errorf("share the shared memory: %w", err)
	}
	defer own.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
		return -1, fmt.Errorf("join the mount namespace of process %d: %w", pid, err)
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, "/dev/shm", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNS); back != nil {
		err = errors.Join(err, back)
	}
	if err != nil {
		return -1, fmt.Errorf("share the shared memory: %w", err)
	}
	return fd, nil
}

func mountRoot(root runtime.RootFS, target string) error {
	flags, data := mountOptions(root.Options)
	switch root.Type {
	case "bind":
		if err := unix.Mount(root.Source, target, "", unix.MS_BIND|flags&unix.MS_REC, ""); err != nil {
			return fmt.Errorf("bind %s: %w", root.Source, err)
		}
		if rest := flags &^ (unix.MS_BIND | unix.MS_REC); rest != 0 {
			return unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|rest, "")
		}
		return nil
	case "overlay":
		return mountOverlay(root.Source, target, flags, data)
	}
	return fmt.Errorf("file system type %q is not one of overlay, bind", root.Type)
}

var mountFlags = map[string]uintptr{
	"ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC,
	"noatime": unix.MS_NOATIME, "relatime": unix.MS_RELATIME, "bind": unix.MS_BIND,
	"rbind": unix.MS_BIND | unix.MS_REC, "rw": 0, "defaults": 0,
}

func mountOptions(options []string) (flags uintptr, data []string) {
	for _, o := range options {
		if f, ok := mountFlags[o]; ok {
			flags |= f
		} else {
			data = append(data, o)
		}
	}
	return flags, data
}

// mountOverlay names the lower directories relative to the one they share, when
// an image has so many layers that their full names do not fit.
func mountOverlay(source, target string, flags uintptr, options []string) error {
	data := strings.Join(options, ",")
	if len(data) > maxMountData {
		for i, o := range options {
			lower, ok := strings.CutPrefix(o, "lowerdir=")
			if !ok {
				continue
			}
			base, names := relativeTo(strings.Split(lower, ":"))
			// The thread's own working directory: unshare has detached it from the others'.
			if err := unix.Chdir(base); err != nil {
				return &os.PathError{Op: "chdir", Path: base, Err: err}
			}
			options[i] = "lowerdir=" + strings.Join(names, ":")
		}
		data = strings.Join(options, ",")
	}
	if len(data) > maxMountData {
		return fmt.Errorf("the image has too many layers: %d bytes of mount options, the kernel takes %d", len(data), maxMountData)
	}
	if source == "" {
		source = "overlay"
	}
	return unix.Mount(source, target, "overlay", flags, data)
}

// relativeTo finds the deepest directory above all paths and their names below it.
func relativeTo(paths []string) (base string, names []string) {
	base = filepath.Dir(paths[0])
	for _, p := range paths {
		for base != "/" && !strings.HasPrefix(p, base+"/") {
			base = filepath.Dir(base)
		}
	}
	for _, p := range paths {
		names = append(names, strings.TrimPrefix(strings.TrimPrefix(p, base), "/"))
	}
	return base, names
}

// lookupUser resolves a Spec's User in the files below root, which are the
// image's and not to be trusted: no link leads out of root.
func lookupUser(root, spec string) (oci.User, error) {
	passwd, err := openInRoot(root, "/etc/passwd")
	if err != nil {
		return oci.User{}, err
	}
	defer passwd.Close()
	group, err := openInRoot(root, "/etc/group")
	if err != nil {
		return oci.User{}, err
	}
	defer group.Close()
	u, err := user.GetExecUser(spec, &user.ExecUser{Home: "/"}, passwd, group)
	if err != nil {
		return oci.User{}, fmt.Errorf("find user %q in the image: %w", spec, err)
	}
	return oci.User{UID: u.Uid, GID: u.Gid, Groups: u.Sgids, Home: u.Home}, nil
}

// openInRoot opens a regular file, or nothing when it does not exist.
func openInRoot(root, path string) (io.ReadCloser, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: root, Err: err}
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, path, &unix.OpenHow{
		// Not blocking, for it could be a pipe.
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return io.NopCloser(strings.NewReader("")), nil
	}
	if err != nil {
		return nil, fmt.Errorf("open %s of the image: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("open %s of the image: %w", path, err)
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(f, maxUserFile), f}, nil
}

// compatLoaders are there in an image that has dynamic 32-bit programs.
var compatLoaders = []string{
	"/lib/ld-linux.so.2", "/lib/ld-musl-i386.so.1", "/lib/ld-linux-armhf.so.3", "/lib/ld-musl-armhf.so.1",
}

// hasCompat tells whether an image can run 32-bit programs: it has a loader for
// them, or its command is one itself.
func hasCompat(root string, args []string) bool {
	for _, path := range compatLoaders {
		if elfClass(root, path) != 0 {
			return true
		}
	}
	if len(args) == 0 {
		return false
	}
	if strings.Contains(args[0], "/") {
		return elfClass(root, args[0]) == elfClass32
	}
	for _, dir := range filepath.SplitList(strings.TrimPrefix(oci.DefaultPath, "PATH=")) {
		if class := elfClass(root, filepath.Join(dir, args[0])); class != 0 {
			return class == elfClass32
		}
	}
	return false
}

const elfClass32 = 1

// elfClass reads an executable's class from its first bytes: 0 when it is none.
func elfClass(root, path string) byte {
	f, err := openInRoot(root, path)
	if err != nil {
		return 0
	}
	defer f.Close()
	var head [5]byte
	if _, err := io.ReadFull(f, head[:]); err != nil || string(head[:4]) != "\x7fELF" {
		return 0
	}
	return head[4]
}
