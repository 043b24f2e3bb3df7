package spool

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Watcher wakes the readers of many spools through one inotify instance, of
// which the kernel grants each user only a few.
type Watcher struct {
	file *os.File
	done chan struct{}

	mu   sync.Mutex
	subs map[int32]map[chan struct{}]bool // by watch descriptor
}

// NewWatcher starts a watcher. Close ends it.
func NewWatcher() (*Watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch files: %w", err)
	}
	w := &Watcher{
		file: os.NewFile(uintptr(fd), "inotify"),
		done: make(chan struct{}),
		subs: map[int32]map[chan struct{}]bool{},
	}
	go w.run()
	return w, nil
}

// Close stops the watcher. Readers then poll.
func (w *Watcher) Close() error {
	err := w.file.Close()
	<-w.done
	return err
}

// Watch returns a channel that receives after something in dir has changed.
// Changes may be merged. cancel ends it.
func (w *Watcher) Watch(dir string) (wake <-chan struct{}, cancel func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	wd, err := w.control(func(fd int) (int, error) {
		return unix.InotifyAddWatch(fd, dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_DELETE_SELF|unix.IN_ONLYDIR)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	ch := make(chan struct{}, 1)
	if w.subs[wd] == nil {
		w.subs[wd] = map[chan struct{}]bool{}
	}
	w.subs[wd][ch] = true
	var once sync.Once
	return ch, func() { once.Do(func() { w.forget(wd, ch) }) }, nil
}

func (w *Watcher) forget(wd int32, ch chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.subs[wd], ch)
	if len(w.subs[wd]) == 0 {
		delete(w.subs, wd)
		_, _ = w.control(func(fd int) (int, error) {
			return unix.InotifyRmWatch(fd, uint32(wd))
		})
	}
}

// control runs f on the descriptor without taking it out of the poller.
func (w *Watcher) control(f func(fd int) (int, error)) (int32, error) {
	conn, err := w.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	var n int
	var ferr error
	err = conn.Control(func(fd uintptr) { n, ferr = f(int(fd)) })
	return int32(n), errors.Join(err, ferr)
}

func (w *Watcher) run() {
	defer close(w.done)
	buf := make([]byte, 16<<10)
	for {
		n, err := w.file.Read(buf)
		if err != nil {
			return
		}
		w.dispatch(buf[:n])
	}
}

func (w *Watcher) dispatch(buf []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(buf) >= unix.SizeofInotifyEvent {
		event := (*unix.InotifyEvent)(unsafe.Pointer(&buf[0]))
		buf = buf[min(len(buf), unix.SizeofInotifyEvent+int(event.Len)):]
		if event.Mask&unix.IN_Q_OVERFLOW != 0 {
			for _, subs := range w.subs {
				wakeAll(subs)
			}
		}
		wakeAll(w.subs[event.Wd])
	}
}

func wakeAll(subs map[chan struct{}]bool) {
	for ch := range subs {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}
