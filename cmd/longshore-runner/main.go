//go:build linux && cgo

package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	_ "github.com/opencontainers/cgroups/devices" // device rules, registered by import
	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // joins namespaces before Go starts

	"longshore.dev/longshore/internal/runtime/runner"
)

// initMemory is below the least memory limit that a container can have (6 MiB).
const initMemory = 5 << 20

func main() {
	// The main thread's namespaces are what /proc/PID shows: keep it out of the
	// work of goroutines that change theirs.
	runtime.LockOSThread()
	switch {
	case len(os.Args) == 2 && os.Args[1] == "init":
		// It lives for milliseconds: collect no garbage, unless the container's memory
		// limit leaves no room for it.
		debug.SetGCPercent(-1)
		if os.Args[0] != runner.RoomyInit {
			debug.SetMemoryLimit(initMemory)
		}
		libcontainer.Init()
	case len(os.Args) == 3 && os.Args[1] == "shim":
		os.Exit(runner.Main(os.Args[2]))
	default:
		fmt.Fprintln(os.Stderr, "longshore-runner is started by longshore and not by hand")
		os.Exit(2)
	}
}
