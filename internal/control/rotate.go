package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"longshore.dev/longshore/internal/seal"
	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

// KeyInfo is what is told of the root key. It holds no key.
type KeyInfo struct {
	// Keys are the ids of the root keys that are there, the one in use first.
	Keys []string `json:"keys"`
	// Where the key is.
	Where string `json:"where"`
	// Sealed counts what is sealed, by the key's id and by what it is.
	Sealed map[string]map[string]int `json:"sealed"`
	// Resealed is how much a rotation sealed anew.
	Resealed int `json:"resealed,omitempty"`
}

func (s *Server) keyInfo() *KeyInfo {
	return &KeyInfo{Keys: s.ring.KeyIDs(), Where: s.config.RootKey.where(s.config.DataDir), Sealed: s.inventory()}
}

func (s *Server) showKey(context.Context, *http.Request, []byte) (adminAnswer, error) {
	return adminAnswer{Key: s.keyInfo()}, nil
}

// keyGrace is how long a former root key is kept after all was sealed anew: longer than
// a call takes that has just sealed something with it, and has yet to write it.
const keyGrace = time.Minute

// rotateKey draws a new root key and seals everything with it; resealLoop lets the
// former go. Both are on disk until then: a server that is killed in between goes on
// when it starts.
func (s *Server) rotateKey(ctx context.Context, _ *http.Request, _ []byte) (adminAnswer, error) {
	if s.config.RootKey.Value != "" {
		return adminAnswer{}, wire.Errorf("UnsupportedOperation", "The root key is in LONGSHORE_ROOT_KEY, which the server can't change: put a new one and a comma before the one that is there, and start the server again. It then seals everything anew, and says when the former can go.")
	}
	s.rotating.Lock()
	defer s.rotating.Unlock()
	keys, err := s.config.RootKey.load(s.config.DataDir)
	if err != nil {
		return adminAnswer{}, err
	}
	fresh, err := seal.NewKey()
	if err != nil {
		return adminAnswer{}, err
	}
	keys = append([][]byte{fresh}, keys...)
	if err := s.keepKeys(keys); err != nil {
		return adminAnswer{}, err
	}
	if err := s.ring.Set(keys); err != nil {
		return adminAnswer{}, err
	}
	select {
	case s.rotated <- struct{}{}:
	default:
	}
	done, err := s.resealAll(ctx)
	if err != nil {
		return adminAnswer{}, fmt.Errorf("what is not sealed by the new key yet will be, in the background: %w", err)
	}
	info := s.keyInfo()
	info.Resealed = done
	return adminAnswer{Key: info}, nil
}

func (s *Server) keepKeys(keys [][]byte) error {
	f, err := s.config.RootKey.file(s.config.DataDir)
	if err != nil {
		return err
	}
	return f.Save(keys)
}

// resealLoop finishes rotations: those of rotateKey, one that was cut off, and one that
// the operator made by giving the server a new key before the former.
func (s *Server) resealLoop(ctx context.Context) error {
	for wait := time.Second; ; {
		err := s.finishRotation(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			s.log.Error("not everything could be sealed by the new root key; trying again", "error", err, "nextAttemptIn", wait)
			pause(ctx, wait)
			wait = min(2*wait, time.Minute)
			continue
		}
		wait = time.Second
		select {
		case <-ctx.Done():
			return nil
		case <-s.rotated:
		}
	}
}

// finishRotation seals everything anew, and again after a while what was sealed with a
// former key meanwhile, and lets that go.
func (s *Server) finishRotation(ctx context.Context) error {
	if len(s.ring.KeyIDs()) < 2 {
		return nil
	}
	s.rotating.Lock()
	_, err := s.resealAll(ctx)
	s.rotating.Unlock()
	if err != nil {
		return err
	}
	pause(ctx, s.config.keyGrace)
	s.rotating.Lock()
	defer s.rotating.Unlock()
	if _, err := s.resealAll(ctx); err != nil {
		return err
	}
	return s.dropFormerKeys()
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// resealAll seals with the key in use all that former ones sealed. s.rotating is held.
func (s *Server) resealAll(ctx context.Context) (int, error) {
	done, err := s.iam.Reseal(ctx, s.ring)
	if err != nil {
		return done, err
	}
	n, err := s.resealAuthority(ctx)
	if done += n; err != nil {
		return done, err
	}
	return done, writeAccess(s.config.DataDir, s.ring, s.access)
}

// dropFormerKeys lets the former keys go, when nothing is sealed by them any more.
func (s *Server) dropFormerKeys() error {
	current := s.ring.KeyIDs()[0]
	for id := range s.inventory() {
		if id != current && s.ring.Knows(id) {
			return fmt.Errorf("something was sealed by key %s meanwhile", id)
		}
	}
	if s.config.RootKey.Value != "" {
		s.log.Warn("everything is sealed by the new root key: the former ones in LONGSHORE_ROOT_KEY can go, but keep them for the backups that were made with them", "key", current)
		return nil
	}
	keys, err := s.config.RootKey.load(s.config.DataDir)
	if err != nil {
		return err
	}
	if err := s.keepKeys(keys[:1]); err != nil {
		return err
	}
	return s.ring.Set(keys[:1])
}

func (s *Server) resealAuthority(ctx context.Context) (int, error) {
	record, ok := s.authorities.Get(s.db.Snapshot(), store.Scope{}, authorityID)
	if !ok {
		return 0, nil
	}
	again, changed, err := s.ring.Reseal(authorityContext, record.Key)
	if errors.Is(err, seal.ErrKey) {
		return 0, nil // lost, and said so when the server started
	}
	if err != nil || !changed {
		return 0, err
	}
	err = s.db.Update(ctx, func(tx *store.Tx) error {
		if old, ok := s.authorities.Get(tx, store.Scope{}, authorityID); ok && bytes.Equal(old.Key, record.Key) {
			a := s.authorities.Clone(old)
			a.Key = again
			s.authorities.Put(tx, store.Scope{}, authorityID, a)
		}
		return nil
	})
	return 1, err
}
