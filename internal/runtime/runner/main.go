//go:build linux && cgo

package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/oomscore"
	"longshore.dev/longshore/internal/runtime/shimrpc"
)

// listenerFD is where native passes the listening socket; the descriptor after
// it holds the group's lock and is only kept open.
const listenerFD = 3

const (
	// memoryLimit makes the collector work harder beyond it; it is no hard bound.
	memoryLimit = 24 << 20
	// settleAfter is when a shim that has created its containers gives back the
	// memory that took: there are many shims, and they mostly wait.
	settleAfter = 2 * time.Second
)

// Main runs the shim described by config (a shimrpc.Config in JSON) until its
// last container is deleted, and returns the process's exit status.
func Main(config string) int {
	debug.SetMemoryLimit(memoryLimit)
	logrus.SetLevel(logrus.WarnLevel)
	if err := run(config); err != nil {
		fmt.Fprintln(os.Stderr, "longshore-runner:", err)
		return 1
	}
	return 0
}

func run(config string) error {
	var cfg shimrpc.Config
	if err := json.Unmarshal([]byte(config), &cfg); err != nil {
		return fmt.Errorf("decode the configuration: %w", err)
	}
	if cfg.Group != "" && !shimrpc.ValidID(cfg.Group) || !shimrpc.ValidID(cfg.Node) {
		return fmt.Errorf("group %q or node %q is not an id", cfg.Group, cfg.Node)
	}
	// A terminal's or the agent's signals are not for us. They must not be ignored
	// outright: containers would inherit that.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGTERM)
	unix.CloseOnExec(listenerFD)
	unix.CloseOnExec(listenerFD + 1)
	file := os.NewFile(listenerFD, "listener")
	listener, err := net.FileListener(file)
	_ = file.Close()
	if err != nil {
		return fmt.Errorf("take the listening socket: %w", err)
	}
	unixListener, ok := listener.(*net.UnixListener)
	if !ok {
		return fmt.Errorf("the listening socket is a %T", listener)
	}
	if err := oomscore.Set(oomscore.Shim); err != nil {
		logrus.WithError(err).Info("this shim counts by its use when the machine runs out of memory")
	}
	s, err := newShim(cfg, time.Now)
	if err != nil {
		return err
	}
	return s.serve(context.Background(), unixListener)
}
