package main

import (
	"bufio"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/oomscore"
)

// outlast makes this process one of the last that the kernel ends when the machine
// runs out of memory. Who may not ask for that serves all the same.
func outlast(log *slog.Logger) {
	if err := oomscore.Set(oomscore.Main); err != nil {
		log.Info("this process may be ended first when the machine runs out of memory", "reason", err)
	}
}

// settle gives back what starting took and running does not need: free heap, and
// the resident pages of the program itself, most of which are code and tables that
// only the start has used. What is used again comes back from the page cache with
// a soft fault. A kernel that refuses changes nothing.
func settle() {
	debug.FreeOSMemory()
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer maps.Close()
	program, err := os.Executable()
	if err != nil {
		return
	}
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		if from, to, ok := ownPages(lines.Text(), program); ok {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED)
		}
	}
}

// ownPages reads a line of /proc/self/maps: the range of a mapping of the program
// that can't be written, so that all of its pages are those of the file.
func ownPages(line, program string) (from, to uintptr, ok bool) {
	fields := strings.Fields(line)
	if len(fields) != 6 || fields[5] != program || fields[1] != "r-xp" && fields[1] != "r--p" {
		return 0, 0, false
	}
	if n, err := fmt.Sscanf(fields[0], "%x-%x", &from, &to); n != 2 || err != nil || from >= to {
		return 0, 0, false
	}
	return from, to, true
}
