package tcp

import (
	"context"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// idle is how long a connection is silent before it is probed.
	idle = 15 * time.Second
	// patience is how long the kernel waits for an acknowledgement.
	patience = 20 * time.Second
)

// Noticed is within which time a connection to a peer that vanished fails.
const Noticed = idle + patience

// keepAlive's count is without effect beside the user timeout, but for systems
// that do not know the latter.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: idle, Interval: 5 * time.Second, Count: 4}

// Listen listens on a TCP address.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	config := net.ListenConfig{KeepAliveConfig: keepAlive, Control: control}
	return config.Listen(ctx, "tcp", address)
}

// Dialer dials TCP addresses.
func Dialer() *net.Dialer {
	return &net.Dialer{Timeout: 10 * time.Second, KeepAliveConfig: keepAlive, Control: control}
}

// control bounds the wait for acknowledgements; accepted connections inherit it
// from their listener.
func control(_, _ string, c syscall.RawConn) error {
	var err error
	if outer := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(patience.Milliseconds()))
	}); outer != nil {
		return outer
	}
	return err
}
