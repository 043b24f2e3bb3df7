package pebblebulk

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/klauspost/compress/zstd"

	"longshore.dev/longshore/internal/bulk"
)

// Options of Open. The zero value is good.
type Options struct {
	Log *slog.Logger
	// MinFreeBytes is the room on the disk below which writes are refused with
	// bulk.ErrFull, so that the database itself never meets a full disk. Default 64 MiB.
	MinFreeBytes uint64
	// CacheBytes and MemTableBytes bound memory. Default 16 MiB each (and up to four
	// memtables while the disk is behind).
	CacheBytes    int64
	MemTableBytes uint64
	// FS stands in for the disk in tests.
	FS vfs.FS
}

// DB is an open database. Logs and History are its two sides.
type DB struct {
	dir     string
	log     *slog.Logger
	fs      vfs.FS
	minFree uint64
	db      *pebble.DB
	lock    *pebble.Lock
	cache   *pebble.Cache
	writer  *writer
	encoder *zstd.Encoder
	decoder *zstd.Decoder

	// mu is held for reading by everything that uses db, so that Close waits for it.
	mu     sync.RWMutex
	closed bool
}

// Open opens or creates the database in dir. It fails with bulk.ErrLocked when
// another process has it open, and with bulk.ErrDamaged when it cannot be read.
func Open(dir string, opts Options) (*DB, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.FS == nil {
		opts.FS = vfs.Default
	}
	if opts.MinFreeBytes == 0 {
		opts.MinFreeBytes = 64 << 20
	}
	if opts.CacheBytes == 0 {
		opts.CacheBytes = 16 << 20
	}
	if opts.MemTableBytes == 0 {
		opts.MemTableBytes = 16 << 20
	}
	d := &DB{dir: dir, log: opts.Log, fs: opts.FS, minFree: opts.MinFreeBytes}
	if err := d.open(opts); err != nil {
		return nil, fmt.Errorf("open bulk data in %s: %w", dir, err)
	}
	return d, nil
}

func (d *DB) open(opts Options) (err error) {
	if err := d.fs.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	if d.lock, err = pebble.LockDirectory(d.dir, d.fs); err != nil {
		var errno syscall.Errno
		if errors.As(err, &errno) && errno != syscall.EAGAIN && errno != syscall.EACCES {
			return err
		}
		return fmt.Errorf("%w (%v)", bulk.ErrLocked, err)
	}
	d.cache = pebble.NewCache(opts.CacheBytes)
	defer func() {
		if err != nil {
			d.release()
		}
	}()
	if d.encoder, d.decoder, err = newCodec(); err != nil {
		return err
	}
	po := &pebble.Options{
		FS:                          d.fs,
		Lock:                        d.lock,
		Cache:                       d.cache,
		Merger:                      statMerger,
		MemTableSize:                opts.MemTableBytes,
		MemTableStopWritesThreshold: 4,
		MaxOpenFiles:                512,
		FormatMajorVersion:          pebble.FormatNewest,
		Logger:                      pebbleLog{opts.Log},
		EventListener: &pebble.EventListener{
			// Without this a damaged table ends the process; readers get bulk.ErrDamaged.
			DataCorruption: func(info pebble.DataCorruptionInfo) {
				opts.Log.Error("bulk data is damaged", "path", info.Path, "details", info.Details)
			},
		},
	}
	if d.db, err = pebble.Open(d.dir, po); err != nil {
		return readError(err)
	}
	if d.writer, err = startWriter(d); err != nil {
		return errors.Join(err, d.db.Close())
	}
	return nil
}

// release frees what is not Pebble's.
func (d *DB) release() {
	d.cache.Unref()
	if d.decoder != nil {
		d.decoder.Close()
	}
	if err := d.lock.Close(); err != nil {
		d.log.Warn("release the lock of bulk data", "dir", d.dir, "error", err)
	}
}

// Close finishes what is being written and closes the database.
func (d *DB) Close() error {
	d.writer.stop()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	if err := d.writer.failure(); err != nil {
		// Pebble cannot be closed in order after a failed write. The operating system
		// releases the files with the process; what was acknowledged is in the log.
		return err
	}
	err := d.db.Close()
	d.release()
	return err
}

// use keeps the database open until the returned function is called.
func (d *DB) use() (func(), error) {
	d.mu.RLock()
	if d.closed {
		d.mu.RUnlock()
		return nil, bulk.ErrClosed
	}
	return d.mu.RUnlock, nil
}

// Checkpoint makes dir a copy of the database as it is now, of hard links where that
// is possible. It must not exist, and be on the same file system.
func (d *DB) Checkpoint(dir string) error {
	end, err := d.use()
	if err != nil {
		return err
	}
	defer end()
	if err := d.db.Checkpoint(dir, pebble.WithFlushedWAL()); err != nil {
		return fmt.Errorf("copy bulk data to %s: %w", dir, err)
	}
	return nil
}

// Logs returns the log events.
func (d *DB) Logs() *Logs { return &Logs{d} }

// History returns the finished records.
func (d *DB) History() *History { return &History{d} }

// checkFree refuses writes while the disk is nearly full.
func (d *DB) checkFree() error {
	usage, err := d.fs.GetDiskUsage(d.dir)
	if err != nil || usage.AvailBytes >= d.minFree {
		return nil // a file system that cannot tell is not full
	}
	return fmt.Errorf("%w: %d MiB left in %s, below the %d MiB kept free",
		bulk.ErrFull, usage.AvailBytes>>20, d.dir, d.minFree>>20)
}

// readError marks errors that mean damaged data.
func readError(err error) error {
	if err != nil && pebble.IsCorruptionError(err) {
		return fmt.Errorf("%w: %w", bulk.ErrDamaged, err)
	}
	return err
}

// pebbleLog writes Pebble's messages to our log.
type pebbleLog struct{ log *slog.Logger }

// fatalWrite is panicked with when Pebble cannot go on; see writer.commit.
type fatalWrite struct{ message string }

func (f fatalWrite) Error() string { return f.message }

func (l pebbleLog) Infof(format string, args ...any) {}

func (l pebbleLog) Errorf(format string, args ...any) {
	l.log.Error("bulk data: " + fmt.Sprintf(format, args...))
}

// Fatalf must not return. On the writer's goroutine it fails the writes; on one
// of Pebble's own it ends the process, because what is on disk is then unknown
// and only reopening it, which replays the log, is safe.
func (l pebbleLog) Fatalf(format string, args ...any) {
	panic(fatalWrite{fmt.Sprintf(format, args...)})
}
