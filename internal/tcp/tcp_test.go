package tcp

import (
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestBothEndsNotice looks at what the kernel was told; that it acts on it is seen
// by the fleet's test, which cuts a network.
func TestBothEndsNotice(t *testing.T) {
	listener, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dialed, err := Dialer().DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer dialed.Close()
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	for name, conn := range map[string]net.Conn{"dialed": dialed, "accepted": accepted} {
		raw, err := conn.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		option := func(level, option int) (value int) {
			if outer := raw.Control(func(fd uintptr) { value, err = unix.GetsockoptInt(int(fd), level, option) }); outer != nil || err != nil {
				t.Fatal(outer, err)
			}
			return value
		}
		if got := option(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); got != int(patience.Milliseconds()) {
			t.Errorf("%s: unacknowledged data is waited for %d ms", name, got)
		}
		if option(unix.SOL_SOCKET, unix.SO_KEEPALIVE) == 0 || option(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE) != int(idle.Seconds()) {
			t.Errorf("%s: an idle connection is not probed after %s", name, idle)
		}
	}
}
