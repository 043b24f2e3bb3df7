package iam

import (
	"context"
	"iter"
	"strings"

	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

// scopeOf is the scope of the account that a call acts in.
func scopeOf(ctx context.Context) store.Scope { return accountScope(wire.CallFrom(ctx).Account) }

// update runs fn as one transaction. An invariant between two records holds because
// each writer of either writes both, or writes one and puts the other again as it
// is (touch): what one has read is guarded against the other's write.
func (s *Service) update(ctx context.Context, fn func(tx *store.Tx, sc store.Scope) error) error {
	sc := scopeOf(ctx)
	return stored(s.deps.DB.Update(ctx, func(tx *store.Tx) error { return fn(tx, sc) }))
}

func (s *Service) snapshot() *store.Snapshot { return s.deps.DB.Snapshot() }

// get returns an identity, or NoSuchEntity.
func (b *book) get(r store.Reader, sc store.Scope, name string) (*identity, error) {
	if name != "" {
		if i, ok := b.table.Get(r, sc, key(name)); ok && i.Name == name {
			return i, nil
		}
	}
	return nil, errNone("The %s with name %s cannot be found.", b.noun, name)
}

// find returns an identity by its ID, nil if there is none. Inside a transaction it
// is guarded.
func (b *book) find(r store.Reader, sc store.Scope, id string) *identity {
	for key := range b.byID.List(r, sc, id) {
		if i, ok := b.table.Get(r, sc, key); ok && i.ID == id {
			return i
		}
	}
	return nil
}

// add stores a new identity, of which there may be limit.
func (b *book) add(tx *store.Tx, sc store.Scope, i *identity, limit int) error {
	if _, taken := b.table.Get(tx, sc, key(i.Name)); taken {
		return errExists("%s with name %s already exists.", b.title, i.Name)
	}
	if atLeast(b.table.List(tx, sc), limit) {
		return errLimit("Cannot exceed quota for %ssPerAccount: %d", b.title, limit)
	}
	b.table.Put(tx, sc, key(i.Name), i)
	return nil
}

// atLeast tells whether there are n records.
func atLeast[T any](records iter.Seq2[string, *T], n int) bool {
	for range records {
		if n--; n <= 0 {
			return true
		}
	}
	return n <= 0
}

// edit changes an identity that may be changed by its owner.
func (b *book) edit(tx *store.Tx, sc store.Scope, name string, fn func(i *identity) error) error {
	return b.editAny(tx, sc, name, func(i *identity) error {
		if err := changeable(i); err != nil {
			return err
		}
		return fn(i)
	})
}

// editAny changes an identity, service-linked roles too.
func (b *book) editAny(tx *store.Tx, sc store.Scope, name string, fn func(i *identity) error) error {
	i, err := b.get(tx, sc, name)
	if err != nil {
		return err
	}
	i = b.table.Clone(i)
	if err := fn(i); err != nil {
		return err
	}
	b.table.Put(tx, sc, key(name), i)
	return nil
}

// touch puts an identity again as it is.
func (b *book) touch(tx *store.Tx, sc store.Scope, i *identity) { b.table.Put(tx, sc, key(i.Name), i) }

// linkedPath begins the paths of service-linked roles.
const linkedPath = "/aws-service-role/"

func (i *identity) linked() bool { return strings.HasPrefix(i.Path, linkedPath) }

func changeable(i *identity) error {
	if i.linked() {
		return errProtected("Cannot perform the operation on the protected role '%s' - this role is only modifiable by AWS", i.Name)
	}
	return nil
}

// rename gives an identity another name or path.
func (b *book) rename(tx *store.Tx, sc store.Scope, name string, newName, newPath *string) error {
	old, err := b.get(tx, sc, name)
	if err != nil {
		return err
	}
	i := b.table.Clone(old)
	if newPath != nil {
		i.Path = *newPath
	}
	if newName != nil && *newName != name {
		if key(*newName) != key(name) {
			if _, taken := b.table.Get(tx, sc, key(*newName)); taken {
				return errExists("%s with name %s already exists.", b.title, *newName)
			}
			b.table.Delete(tx, sc, key(name))
		}
		i.Name = *newName
	}
	b.table.Put(tx, sc, key(i.Name), i)
	return nil
}

// removable tells why an identity cannot be deleted yet.
func removable(i *identity) error {
	switch {
	case len(i.Attached) > 0:
		return errInUse("Cannot delete entity, must detach all policies first.")
	case len(i.Inline) > 0:
		return errInUse("Cannot delete entity, must delete policies first.")
	}
	return nil
}

// below returns the records of a listing whose path begins with prefix.
func below[T any](records iter.Seq2[string, *T], path func(*T) string, prefix *string) iter.Seq2[string, *T] {
	if prefix == nil || *prefix == "/" {
		return records
	}
	return func(yield func(string, *T) bool) {
		for k, v := range records {
			if strings.HasPrefix(path(v), *prefix) && !yield(k, v) {
				return
			}
		}
	}
}

func (b *book) list(r store.Reader, sc store.Scope, prefix *string) iter.Seq2[string, *identity] {
	return below(b.table.List(r, sc), func(i *identity) string { return i.Path }, prefix)
}
