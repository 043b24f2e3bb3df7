package iam

import (
	"bytes"
	"context"
	"fmt"

	"longshore.dev/longshore/internal/seal"
	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

// resealBatch is how many keys are sealed anew in one transaction.
const resealBatch = 200

// What EachSealed calls what it finds.
const (
	sealedKey        = "access keys' secrets"
	sealedSessionKey = "the key of session tokens"
	sealedPrivateKey = "private keys of server certificates"
)

// EachSealed calls visit with all that the room keeps sealed, and what it is.
func (s *Service) EachSealed(visit func(kind string, sealed []byte)) {
	r := s.snapshot()
	for _, k := range s.keys.List(r, store.Scope{}) {
		visit(sealedKey, k.Sealed)
	}
	if k, ok := s.sessionKeys.Get(r, store.Scope{}, sessionKeyID); ok {
		visit(sealedSessionKey, k.Sealed)
	}
	for _, c := range s.certificates.ListAll(r) {
		visit(sealedPrivateKey, c.Sealed)
	}
}

// RootSealed is the sealed secret of an account's root user, false when there is none yet.
func (s *Service) RootSealed(account string) ([]byte, bool) {
	var oldest *accessKey
	for _, k := range s.keys.List(s.snapshot(), store.Scope{}) {
		if k.Kind == wire.PrincipalRoot && k.Account == account && !k.Inactive && (oldest == nil || k.CreatedAt.Before(oldest.CreatedAt)) {
			oldest = k
		}
	}
	if oldest == nil {
		return nil, false
	}
	return oldest.Sealed, true
}

// Reseal seals with the key in use what earlier ones have sealed, as far as they are
// there, and returns how much that was. It may be stopped and called again.
func (s *Service) Reseal(ctx context.Context, ring *seal.Keyring) (int, error) {
	done, err := s.resealSessionKey(ctx, ring)
	if err != nil {
		return done, err
	}
	n, err := s.resealCertificates(ctx, ring)
	if done += n; err != nil {
		return done, err
	}
	stale := map[string][]byte{}
	flush := func() error {
		n, err := s.resealKeys(ctx, ring, stale)
		done += n
		clear(stale)
		return err
	}
	for id, k := range s.keys.List(s.snapshot(), store.Scope{}) {
		if by := seal.KeyIDOf(k.Sealed); by == ring.KeyIDs()[0] || !ring.Knows(by) {
			continue
		}
		stale[id] = k.Sealed
		if len(stale) == resealBatch {
			if err := flush(); err != nil {
				return done, err
			}
		}
	}
	return done, flush()
}

func (s *Service) resealKeys(ctx context.Context, ring *seal.Keyring, stale map[string][]byte) (int, error) {
	fresh := map[string][]byte{}
	for id, sealed := range stale {
		again, _, err := ring.Reseal(sealContext(id), sealed)
		if err != nil {
			return 0, fmt.Errorf("seal the secret of access key %s anew: %w", id, err)
		}
		fresh[id] = again
	}
	if len(fresh) == 0 {
		return 0, nil
	}
	err := s.deps.DB.Update(ctx, func(tx *store.Tx) error {
		for id, again := range fresh {
			old, ok := s.keys.Get(tx, store.Scope{}, id)
			if !ok || !bytes.Equal(old.Sealed, stale[id]) {
				continue // it is gone, or was replaced meanwhile
			}
			k := s.keys.Clone(old)
			k.Sealed = again
			s.keys.Put(tx, store.Scope{}, id, k)
		}
		return nil
	})
	return len(fresh), err
}

func (s *Service) resealCertificates(ctx context.Context, ring *seal.Keyring) (done int, err error) {
	for ref, c := range s.certificates.ListAll(s.snapshot()) {
		if by := seal.KeyIDOf(c.Sealed); by == ring.KeyIDs()[0] || !ring.Knows(by) {
			continue
		}
		again, _, err := ring.Reseal(certificateContext(c.ID), c.Sealed)
		if err != nil {
			return done, fmt.Errorf("seal the private key of certificate %s anew: %w", c.Name, err)
		}
		err = s.deps.DB.Update(ctx, func(tx *store.Tx) error {
			old, ok := s.certificates.Get(tx, ref.Scope, ref.ID)
			if !ok || !bytes.Equal(old.Sealed, c.Sealed) {
				return nil // it is gone, or was replaced meanwhile
			}
			fresh := s.certificates.Clone(old)
			fresh.Sealed = again
			s.certificates.Put(tx, ref.Scope, ref.ID, fresh)
			return nil
		})
		if err != nil {
			return done, err
		}
		done++
	}
	return done, nil
}

func (s *Service) resealSessionKey(ctx context.Context, ring *seal.Keyring) (int, error) {
	record, ok := s.sessionKeys.Get(s.snapshot(), store.Scope{}, sessionKeyID)
	if !ok || !ring.Knows(seal.KeyIDOf(record.Sealed)) {
		return 0, nil
	}
	again, changed, err := ring.Reseal(sessionKeyContext, record.Sealed)
	if err != nil || !changed {
		return 0, err
	}
	err = s.deps.DB.Update(ctx, func(tx *store.Tx) error {
		if old, ok := s.sessionKeys.Get(tx, store.Scope{}, sessionKeyID); ok && bytes.Equal(old.Sealed, record.Sealed) {
			s.sessionKeys.Put(tx, store.Scope{}, sessionKeyID, &sessionKey{Sealed: again, CreatedAt: old.CreatedAt})
		}
		return nil
	})
	return 1, err
}
