package boltfile

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lockPatience is how long a held lock is tried: a killed process's lock may
// outlive it for a moment, in a child that it was just starting.
const lockPatience = 2 * time.Second

// tryLock takes bbolt's lock for reading; closing the file gives it back.
func tryLock(f *os.File) error {
	for deadline := time.Now().Add(lockPatience); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}
