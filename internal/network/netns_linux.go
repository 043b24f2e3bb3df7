package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// netlinkTimeout bounds every wait for the kernel's answer; the kernel's own lock
// is held for long by mass removals only.
const netlinkTimeout = 30 * time.Second

// routeHandle opens a route socket in the calling thread's namespace.
func routeHandle() (*netlink.Handle, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	if err := h.SetSocketTimeout(netlinkTimeout); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// inFreshThread runs fn on a thread whose namespace fn may change. The thread
// returns to host afterwards; one that cannot ends, so that no other goroutine
// ever runs in the wrong namespace.
func inFreshThread(host int, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := fn()
		if serr := unix.Setns(host, unix.CLONE_NEWNET); serr != nil {
			// Still locked: the runtime ends the thread with this goroutine.
			done <- errors.Join(err, fmt.Errorf("return to the host's network namespace: %w", serr))
			return
		}
		runtime.UnlockOSThread()
		done <- err
	}()
	return <-done
}

// threadNetNS is the calling thread's network namespace.
const threadNetNS = "/proc/thread-self/ns/net"

// makeNamespace makes a namespace, mounts it at path, and returns a route socket
// in it.
func makeNamespace(host int, path string) (*netlink.Handle, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("network: make the namespace's mount point: %w", err)
	}
	_ = f.Close()
	var h *netlink.Handle
	err = inFreshThread(host, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return missing(fmt.Errorf("make a network namespace: %w", err), "network namespaces (CONFIG_NET_NS)")
		}
		if err := unix.Mount(threadNetNS, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount the network namespace at %s: %w", path, err)
		}
		for _, s := range insideSysctls {
			if err := sysctlIfPresent(s.path, s.value); err != nil {
				return err
			}
		}
		var err error
		h, err = routeHandle()
		return err
	})
	if err != nil {
		if h != nil {
			h.Close()
		}
		return nil, fmt.Errorf("network: %w", err)
	}
	return h, nil
}

// insideSysctls are set in every namespace: links speak IPv4 only, and, as under
// Docker, an unprivileged process may open any port and ping.
var insideSysctls = []struct{ path, value string }{
	{"ipv6/conf/default/disable_ipv6", "1"},
	{"ipv4/ip_unprivileged_port_start", "0"},
	{"ipv4/ping_group_range", "0 2147483647"},
}

// isNamespace tells whether a namespace is mounted at path.
func isNamespace(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && int64(st.Type) == unix.NSFS_MAGIC
}

// removeNamespace unmounts what is at path and removes the file. The namespace
// goes when the last process in it has.
func removeNamespace(path string) error {
	for isNamespace(path) {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("network: unmount %s: %w", path, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("network: remove the namespace's mount point: %w", err)
	}
	return nil
}
