package etcdkv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"

	"longshore.dev/longshore/internal/store"
)

// Embedded configures a member inside this process.
type Embedded struct {
	// Dir is the data directory, made if it does not exist.
	Dir string
	// QuotaBytes bounds the database file (0: 4 GiB).
	QuotaBytes int64
	// HistoryAge and HistoryBytes bound the history that watches can go back
	// to, whichever is less (0: 5 minutes, 64 MiB).
	HistoryAge   time.Duration
	HistoryBytes int64
	// Log gets warnings (nil: nothing is logged).
	Log *slog.Logger
	// Now is the clock (nil: time.Now).
	Now func() time.Time

	defragMin int64         // 0: defragMinBytes
	lookEvery time.Duration // 0: lookEvery
}

func (o Embedded) withDefaults() Embedded {
	if o.QuotaBytes <= 0 {
		o.QuotaBytes = 4 << 30
	}
	if o.HistoryAge <= 0 {
		o.HistoryAge = 5 * time.Minute
	}
	if o.HistoryBytes <= 0 {
		o.HistoryBytes = 64 << 20
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.defragMin == 0 {
		o.defragMin = defragMinBytes
	}
	if o.lookEvery == 0 {
		o.lookEvery = lookEvery
	}
	return o
}

const (
	embeddedTxnOps       = 16 << 10
	embeddedRequestBytes = store.MaxTxnBytes + 4<<20
	startTimeout         = 2 * time.Minute
	closeTimeout         = 10 * time.Second
	// After a fatal error parts of etcd have ended, and Close may wait for them.
	failedCloseTimeout = time.Second
)

// OpenEmbedded starts a member with no listener on the data directory and
// returns when it serves. Its errors wrap store.ErrLocked, ErrNoSpace,
// ErrDamaged or ErrNewerFormat where they apply, and say what to do.
func OpenEmbedded(ctx context.Context, opts Embedded) (*KV, error) {
	opts = opts.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	dir, err := openDataDir(opts.Dir)
	if err != nil {
		return nil, err
	}
	m := &member{dir: dir, log: opts.Log, failed: make(chan struct{})}
	if err := m.start(ctx, opts); err != nil {
		dir.close()
		return nil, m.startError(err)
	}
	kv := newKV(v3client.New(m.etcd.Server), "", limits{txnOps: embeddedTxnOps, requestBytes: embeddedRequestBytes})
	kv.release = m.close
	kv.room = func() error { return checkSpace(dir.path, spaceRunning) }
	kv.maintenance = newMaintenance(m.etcd.Server, dir, opts)
	if err := dir.reserve(); err != nil {
		opts.Log.Warn("store: no space could be set aside for the database", "error", err)
	}
	kv.running.Go(func() {
		select {
		case <-m.failed:
			kv.shutDown(m.runError())
		case <-m.etcd.Server.StopNotify():
			kv.shutDown(fmt.Errorf("%w: etcd has stopped", store.ErrUnavailable))
		case <-kv.life.Done():
		}
	})
	kv.running.Go(kv.maintain)
	return kv, nil
}

// member is the running etcd and the first thing that broke it.
type member struct {
	dir   *dataDir
	log   *slog.Logger
	etcd  *embed.Etcd
	quiet atomic.Bool

	failOnce sync.Once
	failed   chan struct{}
	cause    error
}

func (m *member) fail(err error) {
	m.failOnce.Do(func() {
		m.cause = err
		close(m.failed)
	})
}

func (m *member) config(opts Embedded, log *zap.Logger) *embed.Config {
	cfg := embed.NewConfig()
	cfg.Name = "longshore"
	cfg.Dir = m.dir.member()
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.ListenClientUrls, cfg.ListenPeerUrls = nil, nil
	cfg.ListenMetricsUrls, cfg.ListenClientHttpUrls = nil, nil
	cfg.EnableGRPCGateway = false
	// One member elects itself: nothing is gained by waiting.
	cfg.TickMs, cfg.ElectionMs = 10, 100
	cfg.QuotaBackendBytes = opts.QuotaBytes
	cfg.MaxTxnOps = embeddedTxnOps
	cfg.MaxRequestBytes = embeddedRequestBytes
	// No follower has to catch up: few log entries are kept in memory and on disk.
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = 2000, 100
	cfg.MaxSnapFiles, cfg.MaxWalFiles = 2, 2
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log)
	return cfg
}

// start runs etcd's start on a goroutine of its own, since a failure may end it.
func (m *member) start(ctx context.Context, opts Embedded) error {
	log := newEtcdLogger(opts.Log, &m.quiet, m.fail)
	cfg := m.config(opts, log)
	started := make(chan error, 1)
	go func() {
		err := errors.New("etcd gave up starting")
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("etcd panicked: %v", p)
			}
			started <- err
		}()
		debug.SetPanicOnFault(true) // a broken file may lead outside its mapping
		if err = checkMember(log, m.dir.member(), m.dir.endedWell); err == nil {
			m.etcd, err = embed.StartEtcd(cfg)
		}
	}()
	select {
	case err := <-started:
		if err != nil {
			m.quiet.Store(true)
			return err
		}
	case <-m.failed:
		// A goroutine that etcd waits for has ended: it would wait for ever.
		m.quiet.Store(true)
		return m.cause
	case <-ctx.Done():
		m.quiet.Store(true)
		return fmt.Errorf("%w: etcd did not start in time: %w", store.ErrUnavailable, ctx.Err())
	}
	select {
	case <-m.etcd.Server.ReadyNotify():
		return nil
	case <-m.failed:
		m.stop()
		return m.cause
	case <-m.etcd.Server.StopNotify():
		m.stop()
		return errors.New("etcd stopped while it started")
	case <-ctx.Done():
		m.stop()
		return fmt.Errorf("%w: etcd was not ready in time: %w", store.ErrUnavailable, ctx.Err())
	}
}

// startError says what a failed start means. What etcd logged as fatal is
// closer to the cause than what it returned.
func (m *member) startError(err error) error {
	select {
	case <-m.failed:
		err = m.cause
	default:
	}
	switch {
	case errors.Is(err, store.ErrUnavailable):
		return err
	case isPermission(err), isDiskFull(err):
		return dirError(m.dir.path, err)
	}
	return fmt.Errorf("%w: the data in %s cannot be read: restore the directory from a backup, or move it away to start empty: %w",
		store.ErrDamaged, m.dir.path, err)
}

func (m *member) runError() error {
	m.log.Error("store: etcd failed", "error", m.cause)
	if isPermission(m.cause) || isDiskFull(m.cause) {
		return dirError(m.dir.path, m.cause)
	}
	return fmt.Errorf("%w: etcd failed: %w", store.ErrUnavailable, m.cause)
}

func (m *member) close() {
	m.stop()
	m.dir.close()
}

// stop waits for etcd, but not for ever.
func (m *member) stop() {
	m.quiet.Store(true)
	limit := closeTimeout
	select {
	case <-m.failed:
		limit = failedCloseTimeout
	default:
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.etcd.Close()
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		m.log.Warn("store: etcd did not close in time", "after", limit)
	}
}
