package etcdkv

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver"

	"longshore.dev/longshore/internal/store"
)

const (
	maintainEvery = time.Second
	// lookEvery is how often the file's size is looked at.
	lookEvery = 30 * time.Second
	// maintainTimeout bounds one compaction or defragmentation.
	maintainTimeout = 2 * time.Minute

	// A file is defragmented when it is at least this large, less than 40% of
	// it is in use, and the last time was long ago: it blocks writes meanwhile.
	defragMinBytes = 64 << 20
	defragEvery    = 10 * time.Minute

	minRepairPause = 2 * time.Second
	maxRepairPause = 5 * time.Minute
)

// maintenance keeps the embedded member's file small.
type maintenance struct {
	server       *etcdserver.EtcdServer
	quota        int64
	historyAge   time.Duration
	historyBytes int64
	defragMin    int64
	lookEvery    time.Duration
	log          *slog.Logger
	now          func() time.Time
	wakeup       chan struct{}
	// reserve sets disk space aside for what etcd has still to write.
	reserve func() error

	marks       []mark
	compacted   mark
	looked      time.Time
	defragged   time.Time
	repairAt    time.Time
	repairPause time.Duration
}

// mark is a point in the store's history.
type mark struct {
	at       time.Time
	revision int64
	written  int64 // bytes committed until then
}

func newMaintenance(server *etcdserver.EtcdServer, dir *dataDir, o Embedded) *maintenance {
	return &maintenance{
		server: server, reserve: dir.reserve, quota: o.QuotaBytes, historyAge: o.HistoryAge, historyBytes: o.HistoryBytes,
		defragMin: o.defragMin, lookEvery: o.lookEvery, log: o.Log, now: o.Now, wakeup: make(chan struct{}, 1),
	}
}

// wake asks for maintenance now, because a write was refused for lack of space.
func (m *maintenance) wake() {
	select {
	case m.wakeup <- struct{}{}:
	default:
	}
}

// maintain runs until the KV is closed.
func (kv *KV) maintain() {
	m := kv.maintenance
	for kv.sleep(maintainEvery, m.wakeup) {
		now := m.now()
		if kv.room() != nil {
			continue // to forget is to write, too
		}
		_ = m.reserve() // the start has said why it can't
		kv.compactHistory(now)
		if m.full() { // perhaps since an earlier run
			kv.repairIfDue(now)
		} else if now.Sub(m.looked) >= m.lookEvery {
			m.looked = now
			kv.defragIfMostlyFree(now)
		}
	}
}

func (kv *KV) maintenanceContext() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), maintainTimeout)
	ctx, unbind := kv.bound(ctx)
	return ctx, func() { unbind(); cancel() }
}

// compactHistory notes where the store is now, and forgets what is older than
// the bounds allow.
func (kv *KV) compactHistory(now time.Time) {
	m := kv.maintenance
	here := mark{at: now, revision: m.server.KV().Rev(), written: kv.written.Load()}
	target, rest, due := m.plan(append(m.marks, here))
	m.marks = rest
	if !due {
		return
	}
	ctx, cancel := kv.maintenanceContext()
	defer cancel()
	err := kv.Compact(ctx, target.revision)
	if err != nil && !errors.Is(err, store.ErrCompacted) {
		if kv.Err() == nil {
			m.log.Warn("store: compaction failed", "error", err)
		}
		return
	}
	m.compacted = target
}

// plan finds the latest mark that is outside the bounds, and drops the marks up
// to it. It is due when enough has gathered to be worth a compaction.
func (m *maintenance) plan(marks []mark) (target mark, rest []mark, due bool) {
	here := marks[len(marks)-1]
	rest = marks
	for len(rest) > 1 {
		old := rest[0]
		if here.at.Sub(old.at) < m.historyAge && here.written-old.written < m.historyBytes {
			break
		}
		target, rest = old, rest[1:]
	}
	if target.revision <= m.compacted.revision {
		return target, rest, false
	}
	worth := target.at.Sub(m.compacted.at) >= m.historyAge/5 || target.written-m.compacted.written >= m.historyBytes/4
	if !worth {
		return target, append([]mark{target}, rest...), false
	}
	return target, rest, true
}

func (kv *KV) defragIfMostlyFree(now time.Time) {
	m := kv.maintenance
	size, used := m.server.Backend().Size(), m.server.Backend().SizeInUse()
	if size < m.defragMin || used*10 > size*4 || now.Sub(m.defragged) < defragEvery {
		return
	}
	m.defragged = now
	m.log.Info("store: giving freed space back to the disk", "bytes", size, "used", used)
	if err := m.server.Defragment(); err != nil && kv.Err() == nil {
		m.log.Warn("store: defragmentation failed", "error", err)
	}
}

// full reports whether etcd refuses writes for lack of space.
func (m *maintenance) full() bool {
	for _, a := range m.server.Alarms() {
		if a.Alarm == etcdserverpb.AlarmType_NOSPACE {
			return true
		}
	}
	return false
}

// repairIfDue spaces attempts that do not help ever further apart, since each
// blocks the store for a while.
func (kv *KV) repairIfDue(now time.Time) {
	m := kv.maintenance
	if now.Before(m.repairAt) {
		return
	}
	if kv.repairSpace() {
		m.repairPause, m.repairAt = 0, time.Time{}
		return
	}
	m.repairPause = min(max(2*m.repairPause, minRepairPause), maxRepairPause)
	m.repairAt = now.Add(m.repairPause)
}

// repairSpace makes a full store writable again if its history or free pages
// were what filled it, and reports whether it did.
func (kv *KV) repairSpace() bool {
	m := kv.maintenance
	ctx, cancel := kv.maintenanceContext()
	defer cancel()
	if err := kv.Compact(ctx, m.server.KV().Rev()); err != nil && !errors.Is(err, store.ErrCompacted) {
		m.log.Error("store: full, and compaction failed", "error", err)
		return false
	}
	if err := m.server.Defragment(); err != nil {
		m.log.Error("store: full, and defragmentation failed", "error", err)
		return false
	}
	size := m.server.Backend().Size()
	if size > m.quota*9/10 {
		m.log.Error("store: full, and nothing can be reclaimed: raise the quota", "bytes", size, "quota", m.quota)
		return false
	}
	if _, err := kv.client.AlarmDisarm(ctx, &clientv3.AlarmMember{}); err != nil {
		m.log.Error("store: space was reclaimed, but the alarm stays", "error", err)
		return false
	}
	m.log.Warn("store: the quota was reached, space has been reclaimed", "bytes", size, "quota", m.quota)
	return true
}
