package iam

import (
	"context"

	api "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

// owner is whose access keys an operation concerns: a user, or the root user that
// calls for itself.
type owner struct {
	id   string // UserID, or the account of the root user
	name *string
}

// keyOwner finds the user named, or the caller. A user is guarded in a transaction.
func (s *Service) keyOwner(ctx context.Context, r store.Reader, given *string) (owner, *identity, error) {
	call := wire.CallFrom(ctx)
	if given == nil && call.Principal.Kind == wire.PrincipalRoot {
		return owner{id: call.Account}, nil, nil
	}
	name, err := s.userName(ctx, given)
	if err != nil {
		return owner{}, nil, err
	}
	u, err := s.users.get(r, scopeOf(ctx), name)
	if err != nil {
		return owner{}, nil, err
	}
	return owner{u.ID, &u.Name}, u, nil
}

// CreateAccessKey makes a key for a user, by default for the caller. Its secret is
// told only now.
func (s *Service) CreateAccessKey(ctx context.Context, in *api.CreateAccessKeyInput) (*api.CreateAccessKeyOutput, error) {
	fresh, err := newAccessKey("AKIA")
	if err != nil {
		return nil, err
	}
	sealed, err := s.deps.Sealer.Seal(sealContext(fresh.ID), []byte(fresh.Secret))
	if err != nil {
		return nil, err
	}
	record := &accessKey{Account: wire.CallFrom(ctx).Account, Sealed: sealed, CreatedAt: s.now()}
	var name *string
	err = s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		of, u, err := s.keyOwner(ctx, tx, in.UserName)
		if err != nil {
			return err
		}
		if s.keysByOwner.Count(tx, store.Scope{}, of.id) >= s.limits.AccessKeysPerUser {
			return errLimit("Cannot exceed quota for AccessKeysPerUser: %d", s.limits.AccessKeysPerUser)
		}
		record.Kind, record.UserID, name = wire.PrincipalRoot, "", of.name
		if u != nil {
			record.Kind, record.UserID = wire.PrincipalUser, u.ID
			s.users.touch(tx, sc, u)
		}
		s.keys.Put(tx, store.Scope{}, fresh.ID, record)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.CreateAccessKeyOutput{AccessKey: &types.AccessKey{
		UserName: name, AccessKeyId: &fresh.ID, SecretAccessKey: &fresh.Secret,
		Status: types.StatusTypeActive, CreateDate: &record.CreatedAt,
	}}, nil
}

func (k *accessKey) status() types.StatusType {
	if k.Inactive {
		return types.StatusTypeInactive
	}
	return types.StatusTypeActive
}

// ListAccessKeys lists a user's keys, by default the caller's.
func (s *Service) ListAccessKeys(ctx context.Context, in *api.ListAccessKeysInput) (*api.ListAccessKeysOutput, error) {
	r := s.snapshot()
	of, _, err := s.keyOwner(ctx, r, in.UserName)
	if err != nil {
		return nil, err
	}
	p, err := page(func(yield func(string, types.AccessKeyMetadata) bool) {
		for id, k := range s.keysByOwner.List(r, store.Scope{}, of.id) {
			if !yield(id, types.AccessKeyMetadata{UserName: of.name, AccessKeyId: &id, Status: k.status(), CreateDate: &k.CreatedAt}) {
				return
			}
		}
	}, in.Marker, in.MaxItems)
	return &api.ListAccessKeysOutput{AccessKeyMetadata: p.Items, Marker: p.Marker, IsTruncated: p.Truncated}, err
}

// ownKey returns a key of the owner, or NoSuchEntity.
func (s *Service) ownKey(ctx context.Context, r store.Reader, user, id *string) (*accessKey, error) {
	of, _, err := s.keyOwner(ctx, r, user)
	if err != nil {
		return nil, err
	}
	k, ok := s.keys.Get(r, store.Scope{}, deref(id))
	if !ok || k.owner() != of.id {
		return nil, errNone("The Access Key with id %s cannot be found.", deref(id))
	}
	return k, nil
}

// UpdateAccessKey lets a key sign or not.
func (s *Service) UpdateAccessKey(ctx context.Context, in *api.UpdateAccessKeyInput) (*api.UpdateAccessKeyOutput, error) {
	if in.Status == types.StatusTypeExpired {
		return nil, errInput("The status Expired cannot be set: use Active or Inactive.")
	}
	return nil, s.update(ctx, func(tx *store.Tx, _ store.Scope) error {
		k, err := s.ownKey(ctx, tx, in.UserName, in.AccessKeyId)
		if err != nil {
			return err
		}
		k = s.keys.Clone(k)
		k.Inactive = in.Status == types.StatusTypeInactive
		s.keys.Put(tx, store.Scope{}, *in.AccessKeyId, k)
		return nil
	})
}

// DeleteAccessKey ends a key, at once.
func (s *Service) DeleteAccessKey(ctx context.Context, in *api.DeleteAccessKeyInput) (*api.DeleteAccessKeyOutput, error) {
	return nil, s.update(ctx, func(tx *store.Tx, _ store.Scope) error {
		if _, err := s.ownKey(ctx, tx, in.UserName, in.AccessKeyId); err != nil {
			return err
		}
		s.keys.Delete(tx, store.Scope{}, *in.AccessKeyId)
		s.keyUses.Delete(tx, store.Scope{}, *in.AccessKeyId)
		return nil
	})
}

// GetAccessKeyLastUsed tells when a key last signed, and for what.
func (s *Service) GetAccessKeyLastUsed(ctx context.Context, in *api.GetAccessKeyLastUsedInput) (*api.GetAccessKeyLastUsedOutput, error) {
	r, account, id := s.snapshot(), wire.CallFrom(ctx).Account, deref(in.AccessKeyId)
	k, ok := s.keys.Get(r, store.Scope{}, id)
	if !ok || k.Account != account || k.Kind == wire.PrincipalNode {
		return nil, errNone("The Access Key with id %s cannot be found.", id)
	}
	never := "N/A"
	out := &api.GetAccessKeyLastUsedOutput{AccessKeyLastUsed: &types.AccessKeyLastUsed{ServiceName: &never, Region: &never}}
	if u := s.users.find(r, scopeOf(ctx), k.UserID); u != nil {
		out.UserName = &u.Name
	}
	if use, ok := s.lastUse(r, id); ok {
		out.AccessKeyLastUsed = &types.AccessKeyLastUsed{LastUsedDate: &use.At, ServiceName: &use.Service, Region: &use.Region}
	}
	return out, nil
}
