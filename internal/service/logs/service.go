package logs

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"sync"
	"time"

	"longshore.dev/longshore/internal/bulk"
	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

// Deps is what the room needs. All but Log are required.
type Deps struct {
	DB     *store.DB
	Events bulk.Logs
	Now    func() time.Time
	// NewID returns an id that was never returned before, of at most 128 bytes
	// without "/".
	NewID func() string
	Log   *slog.Logger
}

// Service is the CloudWatch Logs room.
type Service struct {
	tables
	db     *store.DB
	events bulk.Logs
	now    func() time.Time
	id     func() string
	log    *slog.Logger

	// writing is held for reading while events are appended to a group, and taken
	// by the sweep before it deletes events: an append that saw the stream before
	// it was deleted cannot land after its events were.
	writing [64]sync.RWMutex
	seed    maphash.Seed
	kick    chan struct{}
}

// New builds the room and declares its tables on deps.DB, which must not have
// been started yet.
func New(deps Deps) (*Service, error) {
	if deps.DB == nil || deps.Events == nil || deps.Now == nil || deps.NewID == nil {
		return nil, errors.New("logs: Deps.DB, Events, Now and NewID are required")
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	return &Service{
		tables: declareTables(deps.DB),
		db:     deps.DB, events: deps.Events, now: deps.Now, id: deps.NewID, log: deps.Log,
		seed: maphash.MakeSeed(), kick: make(chan struct{}, 1),
	}, nil
}

// scopeOf returns the account and region that a call acts in.
func scopeOf(ctx context.Context) store.Scope {
	c := wire.CallFrom(ctx)
	return store.Scope{Account: c.Account, Region: c.Region}
}

// writingTo returns the lock of a group's appends.
func (s *Service) writingTo(group string) *sync.RWMutex {
	return &s.writing[maphash.String(s.seed, group)%uint64(len(s.writing))]
}

func (s *Service) nowMillis() int64 { return s.now().UnixMilli() }
