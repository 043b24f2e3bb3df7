package iam

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

const (
	// useInterval is how often uses are written; what was used since is lost when
	// the server is killed.
	useInterval = time.Minute
	// maxUses bounds the keys whose uses wait to be written, and useBatch those
	// written at once.
	maxUses  = 10_000
	useBatch = 100
)

// keyUse is stored under the access key id, or the ID of the role whose sessions
// sign, outside of any account. Written by WriteUses only.
type keyUse struct {
	At      time.Time `json:"at"`
	Service string    `json:"service"`
	Region  string    `json:"region"`
	// Account of a role, empty for a key.
	Account string `json:"account,omitempty"`
}

// uses are those that are not written yet.
type uses struct {
	mu    sync.Mutex
	byKey map[string]keyUse
}

func (u *uses) note(id string, use keyUse) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, known := u.byKey[id]; known || len(u.byKey) < maxUses {
		u.byKey[id] = use
	}
}

func (u *uses) get(id string) (keyUse, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	use, ok := u.byKey[id]
	return use, ok
}

// take removes up to n uses.
func (u *uses) take(n int) map[string]keyUse {
	u.mu.Lock()
	defer u.mu.Unlock()
	taken := map[string]keyUse{}
	for id, use := range u.byKey {
		if len(taken) == n {
			break
		}
		taken[id] = use
		delete(u.byKey, id)
	}
	return taken
}

// giveBack returns uses that could not be written, unless there are later ones.
func (u *uses) giveBack(taken map[string]keyUse) {
	u.mu.Lock()
	defer u.mu.Unlock()
	maps.Copy(taken, u.byKey)
	u.byKey = taken
}

// Noting returns an authoriser that asks next, and notes for what access keys are
// used: it is asked about every call whose signature holds.
func (s *Service) Noting(next wire.Authorizer) wire.Authorizer { return noting{next, s} }

type noting struct {
	next wire.Authorizer
	s    *Service
}

// Authorize implements wire.Authorizer.
func (n noting) Authorize(ctx context.Context, req *wire.AuthorizationRequest) error {
	c := req.Call
	use := keyUse{At: c.Time.UTC().Truncate(time.Second), Service: c.Service, Region: c.Region}
	switch p := &c.Principal; {
	case p.Kind == wire.PrincipalRole:
		use.Account = p.AccountID
		n.s.uses.note(p.Session.RoleID, use)
	case p.AccessKeyID != "" && p.Session == nil && (p.Kind == wire.PrincipalUser || p.Kind == wire.PrincipalRoot):
		n.s.uses.note(p.AccessKeyID, use)
	}
	return n.next.Authorize(ctx, req)
}

// lastUse is when and for what a key was last used, as far as is known.
func (s *Service) lastUse(r store.Reader, id string) (keyUse, bool) {
	if use, ok := s.uses.get(id); ok {
		return use, true
	}
	use, ok := s.keyUses.Get(r, store.Scope{}, id)
	if !ok {
		return keyUse{}, false
	}
	return *use, true
}

// Run writes the uses of access keys now and then, until ctx ends.
func (s *Service) Run(ctx context.Context, log *slog.Logger) error {
	ticker := time.NewTicker(useInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := s.WriteUses(ctx); err != nil && ctx.Err() == nil {
				log.Warn("the last uses of access keys could not be written; they will be tried again", "error", err)
			}
		}
	}
}

// WriteUses writes the uses of access keys that were noted. Those of a key that is
// gone are forgotten.
func (s *Service) WriteUses(ctx context.Context) error {
	for {
		batch := s.uses.take(useBatch)
		if len(batch) == 0 {
			return nil
		}
		err := s.deps.DB.Update(ctx, func(tx *store.Tx) error {
			for id, use := range batch {
				_, ok := s.keys.Get(tx, store.Scope{}, id)
				if use.Account != "" {
					ok = s.roles.find(tx, accountScope(use.Account), id) != nil
				}
				if ok {
					s.keyUses.Put(tx, store.Scope{}, id, &use)
				}
			}
			return nil
		})
		if err != nil {
			s.uses.giveBack(batch)
			return err
		}
	}
}
