package iam

import (
	"context"
	"errors"
	"fmt"
	"time"

	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

// accessKey is stored under the access key id, outside of any account: a caller
// is found by its key alone.
type accessKey struct {
	Kind    wire.PrincipalKind `json:"kind"`
	Account string             `json:"account"`
	NodeID  string             `json:"nodeId,omitempty"`
	// UserID of the user whose key it is.
	UserID string `json:"userId,omitempty"`
	// Inactive keys do not sign. UpdateAccessKey writes it.
	Inactive  bool      `json:"inactive,omitempty"`
	Sealed    []byte    `json:"sealed"`
	CreatedAt time.Time `json:"createdAt"`
	// JoinToken is the id of the registration token that a node joined with, and
	// Attempt the hash of its attempt's secret. Join writes them.
	JoinToken string `json:"joinToken,omitempty"`
	Attempt   string `json:"attempt,omitempty"`
}

// owner is by whom a key is found: a user's ID, or the account of a root user.
func (k *accessKey) owner() string {
	switch k.Kind {
	case wire.PrincipalUser:
		return k.UserID
	case wire.PrincipalRoot:
		return k.Account
	}
	return ""
}

// sealContext binds a sealed secret to its key id.
func sealContext(id string) string { return "iam/accesskey/" + id }

// Credential implements wire.CredentialSource.
func (s *Service) Credential(_ context.Context, id, sessionToken string) (wire.Credential, error) {
	if sessionToken != "" {
		return s.temporary(id, sessionToken)
	}
	r := s.snapshot()
	record, ok := s.keys.Get(r, store.Scope{}, id)
	if !ok || record.Inactive {
		return wire.Credential{}, wire.ErrNoCredential
	}
	p, ok := s.principal(r, record)
	if !ok {
		return wire.Credential{}, wire.ErrNoCredential
	}
	secret, err := s.deps.Sealer.Open(sealContext(id), record.Sealed)
	if err != nil {
		return wire.Credential{}, fmt.Errorf("open the secret of access key %s: %w", id, err)
	}
	return wire.Credential{SecretAccessKey: string(secret), Principal: p}, nil
}

// KeyAccount is the account of a user's or root user's access key, empty if there is
// none.
func (s *Service) KeyAccount(id string) string {
	k, ok := s.keys.Get(s.snapshot(), store.Scope{}, id)
	if !ok || k.Kind == wire.PrincipalNode {
		return ""
	}
	return k.Account
}

// principal is who a key stands for; false when its user is gone.
func (s *Service) principal(r store.Reader, k *accessKey) (wire.Principal, bool) {
	p := wire.Principal{Kind: k.Kind, AccountID: k.Account, NodeID: k.NodeID}
	switch k.Kind {
	case wire.PrincipalNode:
		p.ARN = "arn:aws:sts::" + k.Account + ":assumed-role/longshore-node/" + k.NodeID
		p.UserID = "AROALONGSHORENODE:" + k.NodeID
	case wire.PrincipalUser:
		u := s.users.find(r, accountScope(k.Account), k.UserID)
		if u == nil {
			return p, false
		}
		p.ARN, p.UserID = s.users.arn(k.Account, u), u.ID
	default:
		p.ARN = "arn:aws:iam::" + k.Account + ":root"
		p.UserID = k.Account
	}
	return p, true
}

// EnsureRoot makes sure that the account's root user has an active access key and
// returns it. A given key replaces the stored one; otherwise the stored one is
// kept, or a new one is drawn.
func (s *Service) EnsureRoot(ctx context.Context, account string, given AccessKey) (AccessKey, error) {
	return s.ensure(ctx, accessKey{Kind: wire.PrincipalRoot, Account: account}, given)
}

// EnsureNode makes sure that the node has an access key and returns it.
func (s *Service) EnsureNode(ctx context.Context, account, nodeID string) (AccessKey, error) {
	return s.ensure(ctx, accessKey{Kind: wire.PrincipalNode, Account: account, NodeID: nodeID}, AccessKey{})
}

// ensure finds the principal's key, or makes it. The oldest key answers when
// there are several.
func (s *Service) ensure(ctx context.Context, want accessKey, given AccessKey) (AccessKey, error) {
	fresh := given
	if fresh.ID == "" {
		var err error
		if fresh, err = newAccessKey("AKIA"); err != nil {
			return AccessKey{}, err
		}
	} else if len(fresh.ID) < 16 || len(fresh.Secret) < 16 {
		return AccessKey{}, errors.New("the root access key id and secret that were given need at least 16 characters each")
	}
	sealed, err := s.deps.Sealer.Seal(sealContext(fresh.ID), []byte(fresh.Secret))
	if err != nil {
		return AccessKey{}, fmt.Errorf("seal an access key: %w", err)
	}
	now := s.deps.Now()
	var found string
	err = s.deps.DB.Update(ctx, func(tx *store.Tx) error {
		found = ""
		var oldest time.Time
		for id, k := range s.keys.List(tx, store.Scope{}) {
			if k.Inactive || k.Kind != want.Kind || k.Account != want.Account || k.NodeID != want.NodeID {
				continue
			}
			if given.ID != "" && id != given.ID {
				s.keys.Delete(tx, store.Scope{}, id) // what was given replaces it
				continue
			}
			if found == "" || k.CreatedAt.Before(oldest) {
				found, oldest = id, k.CreatedAt
			}
		}
		if found != "" && given.ID == "" {
			return nil
		}
		if other, taken := s.keys.Get(tx, store.Scope{}, fresh.ID); taken && (other.Kind != want.Kind || other.NodeID != want.NodeID) {
			return fmt.Errorf("access key id %s belongs to another principal", fresh.ID)
		}
		want.Sealed, want.CreatedAt = sealed, now
		s.keys.Put(tx, store.Scope{}, fresh.ID, &want)
		return nil
	})
	if err != nil {
		return AccessKey{}, err
	}
	if found == "" || given.ID != "" {
		return fresh, nil
	}
	credential, err := s.Credential(ctx, found, "")
	return AccessKey{ID: found, Secret: credential.SecretAccessKey}, err
}
