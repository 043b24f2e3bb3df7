package store

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Options of a DB; the zero value is good.
type Options struct {
	// Log gets what operators should know (nil: nothing is logged).
	Log *slog.Logger
	// Jitter returns a number in [0,1) that spreads retries (nil: random).
	Jitter func() float64
	// MaxAttempts bounds how often Update tries (0: 64).
	MaxAttempts int
	// CommitTimeout bounds one commit (0: 15 s).
	CommitTimeout time.Duration
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Jitter == nil {
		o.Jitter = rand.Float64
	}
	if o.MaxAttempts <= 0 {
		o.MaxAttempts = 64
	}
	if o.CommitTimeout <= 0 {
		o.CommitTimeout = 15 * time.Second
	}
	return o
}

// DB is the typed store over a KV.
type DB struct {
	kv   KV
	opts Options

	declared sync.Mutex
	started  bool
	tables   []*table
	byName   map[string]*table

	current  atomic.Pointer[Snapshot]
	shown    gate // the view has reached a revision
	notified gate // subscribers have been told up to a revision
	notices  chan notice

	cutting   sync.RWMutex // held for reading by commits
	requests  chan *request
	joint     chan *member                        // for UpdateJointly
	turns     chan struct{}                       // held by the one update whose turn it is after conflicts
	contested atomic.Pointer[map[string]struct{}] // the keys that it touches

	stop     chan struct{}
	stopOnce sync.Once
	failed   atomic.Pointer[error]
	running  sync.WaitGroup
}

// New returns a DB over kv, which it does not own. Declare the tables and
// indexes on it, then Start it.
func New(kv KV, opts Options) *DB {
	return &DB{
		kv:       kv,
		opts:     opts.withDefaults(),
		byName:   make(map[string]*table),
		notices:  make(chan notice, maxNotices),
		requests: make(chan *request, maxGroup),
		joint:    make(chan *member, maxJoint),
		turns:    make(chan struct{}, 1),
		stop:     make(chan struct{}),
	}
}

func (db *DB) declare(t *table) {
	db.mustNotRun("NewTable " + t.name)
	if db.byName[t.name] != nil {
		panic("store: table " + t.name + " is declared twice")
	}
	t.position = len(db.tables)
	db.tables = append(db.tables, t)
	db.byName[t.name] = t
}

func (db *DB) mustNotRun(what string) {
	db.declared.Lock()
	defer db.declared.Unlock()
	if db.started {
		panic("store: " + what + " after Start")
	}
}

// Start loads the snapshot and follows the watch until Close. ctx bounds the
// loading only. It fails with ErrNewerFormat or ErrDamaged, naming the record,
// when a record cannot be read.
func (db *DB) Start(ctx context.Context) error {
	db.declared.Lock()
	if db.started {
		db.declared.Unlock()
		return fmt.Errorf("store: started twice")
	}
	db.started = true
	db.declared.Unlock()

	empty := &Snapshot{}
	for _, t := range db.tables {
		empty.tables = append(empty.tables, newTableView(t))
	}
	snap, _, err := db.load(ctx, empty)
	if err != nil {
		return fmt.Errorf("store: load: %w", err)
	}
	db.current.Store(snap)
	db.shown.advance(snap.revision)
	db.notified.advance(snap.revision)

	db.running.Go(db.follow)
	db.running.Go(db.commitLoop)
	db.running.Go(db.jointLoop)
	db.running.Go(db.notifyLoop)
	return nil
}

// Close ends the watch, the commits and the notifications, and waits for them.
// It does not close the KV.
func (db *DB) Close() error {
	db.shutDown(ErrClosed)
	db.running.Wait()
	return nil
}

// Stopped is closed when the DB was closed, or has failed and serves no more
// updates: for instance when a newer program wrote a record that this one
// cannot read. Err tells which.
func (db *DB) Stopped() <-chan struct{} { return db.stop }

// Err is nil while the DB runs, ErrClosed after Close, or why it failed.
func (db *DB) Err() error {
	if err := db.failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (db *DB) shutDown(err error) {
	db.stopOnce.Do(func() {
		db.failed.Store(&err)
		db.shown.fail(err)
		db.notified.fail(err)
		close(db.stop)
	})
}

// Snapshot returns the present state of all tables: a pointer is read, nothing
// is copied. Before Start it is empty.
func (db *DB) Snapshot() *Snapshot {
	if s := db.current.Load(); s != nil {
		return s
	}
	empty := &Snapshot{}
	for _, t := range db.tables {
		empty.tables = append(empty.tables, newTableView(t))
	}
	return empty
}

// Sync waits until subscribers have been told of everything that Snapshot now
// shows. It is for simulations and tests; a subscriber must not call it.
func (db *DB) Sync(ctx context.Context) error {
	return db.notified.wait(ctx, db.Snapshot().revision)
}

// untilStop returns a context that ends with the DB.
func (db *DB) untilStop() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		select {
		case <-db.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}
