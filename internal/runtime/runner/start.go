//go:build linux && cgo

package runner

import (
	"os"

	"github.com/opencontainers/runc/libcontainer"
)

// RoomyInit is what a container's init is called when the container has memory to
// spare; TightInit is its name otherwise. libcontainer passes its own name on to it,
// and nothing else that it could read before it allocates.
const (
	RoomyInit = "longshore-runner"
	TightInit = "longshore-runner-tight"
)

// roomyMemory is the least limit, in bytes, within which init may do without a
// garbage collector: it allocates some 5 MB in all.
const roomyMemory = 32 << 20

// initName is what to call the init of a container with these limits on its own
// and on its group's memory, in bytes; 0 is none.
func initName(limits ...int64) string {
	for _, limit := range limits {
		if limit > 0 && limit < roomyMemory {
			return TightInit
		}
	}
	return RoomyInit
}

// startProcess runs libcontainer's init for a process of the container: its first,
// which then waits to be started, or another one.
func (c *container) startProcess(process *libcontainer.Process) error {
	c.shim.startMu.Lock()
	defer c.shim.startMu.Unlock()
	os.Args[0] = initName(c.spec.Resources.MemoryBytes, c.spec.GroupResources.MemoryBytes)
	return c.libc.Start(process)
}
