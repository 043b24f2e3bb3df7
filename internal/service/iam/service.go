package iam

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"longshore.dev/longshore/internal/policy"
	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

// Sealer encrypts secrets before they are stored, bound to a context.
type Sealer interface {
	Seal(context string, plaintext []byte) ([]byte, error)
	Open(context string, sealed []byte) ([]byte, error)
}

// Nodes decides what a node's credentials may do: the rooms that own what nodes
// act on. A nil error allows.
type Nodes interface {
	NodeMay(ctx context.Context, req *wire.AuthorizationRequest) error
}

// Deps is what the room needs. DB, Sealer and Now are required.
type Deps struct {
	DB     *store.DB
	Sealer Sealer
	Now    func() time.Time
	// Limits are AWS's where they are zero.
	Limits Limits
	// CertificateUser tells what uses a server certificate, empty if nothing does; nil:
	// nothing uses any.
	CertificateUser func(arn string) string
}

// Limits are quotas: of an account unless the name says otherwise. Two calls at once
// may exceed those of an account by one.
type Limits struct {
	Users, Groups, Roles, InstanceProfiles, Policies             int
	GroupsPerUser, AccessKeysPerUser, AttachedPolicies, Versions int
}

// withDefaults fills in AWS's values.
func (l Limits) withDefaults() Limits {
	for _, d := range []struct {
		limit *int
		value int
	}{
		{&l.Users, 5000}, {&l.Groups, 300}, {&l.Roles, 1000}, {&l.InstanceProfiles, 1000}, {&l.Policies, 1500},
		{&l.GroupsPerUser, 10}, {&l.AccessKeysPerUser, 2}, {&l.AttachedPolicies, 10}, {&l.Versions, 5},
	} {
		if *d.limit == 0 {
			*d.limit = d.value
		}
	}
	return l
}

// Service is the IAM room.
type Service struct {
	deps Deps
	keys *store.Table[accessKey]
	// keysByAttempt: accessKey.Attempt.
	keysByAttempt *store.Index[accessKey]
	joinTokens    *store.Table[joinToken]
	// keysByOwner: accessKey.owner.
	keysByOwner *store.Index[accessKey]
	keyUses     *store.Table[keyUse]
	uses        uses
	tables
	limits    Limits
	documents documents // of identity policies
	trusts    documents // of trust policies
	// sessionKeys holds the key of session tokens, openedKey what it opened to.
	sessionKeys *store.Table[sessionKey]
	openedKey   atomic.Pointer[openedKey]
	// aws returns the policies that AWS manages, by ARN.
	aws func() map[string]*managedPolicy
}

// New builds the room and declares its tables on deps.DB, which must not have
// been started yet.
func New(deps Deps) *Service {
	s := &Service{
		deps: deps, keys: store.NewTable[accessKey](deps.DB, "iam.accesskeys"),
		joinTokens:  store.NewTable[joinToken](deps.DB, "iam.jointokens"),
		keyUses:     store.NewTable[keyUse](deps.DB, "iam.keyuses"),
		uses:        uses{byKey: map[string]keyUse{}},
		tables:      declareTables(deps.DB),
		trusts:      documents{kind: policy.Trust},
		sessionKeys: store.NewTable[sessionKey](deps.DB, "iam.sessionkeys"),
		limits:      deps.Limits.withDefaults(),
		aws:         sync.OnceValue(loadManaged),
	}
	s.keysByOwner = store.NewIndex(s.keys, "owner", func(_ store.Scope, _ string, k *accessKey) []string { return some(k.owner()) })
	s.keysByAttempt = store.NewIndex(s.keys, "attempt", func(_ store.Scope, _ string, k *accessKey) []string {
		if k.Attempt == "" {
			return nil
		}
		return []string{k.Attempt}
	})
	return s
}

// AccessKey is a long-term credential.
type AccessKey struct {
	ID     string
	Secret string
}

// newAccessKey draws a key in AWS's form: 20 characters that begin with the prefix
// (AKIA, or ASIA for temporary ones), and a secret of 40.
func newAccessKey(prefix string) (AccessKey, error) {
	var id [10]byte
	var secret [30]byte
	for _, b := range [][]byte{id[:], secret[:]} {
		if _, err := rand.Read(b); err != nil {
			return AccessKey{}, fmt.Errorf("draw an access key: %w", err)
		}
	}
	return AccessKey{
		ID:     prefix + base32.StdEncoding.EncodeToString(id[:]),
		Secret: base64.StdEncoding.EncodeToString(secret[:]),
	}, nil
}

// newID draws an ID in AWS's form: a prefix that tells the kind, and 17 characters.
func newID(prefix string) (string, error) {
	var b [11]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("draw an id: %w", err)
	}
	return prefix + base32.StdEncoding.EncodeToString(b[:])[:17], nil
}

// now is the time as IAM shows it, in whole seconds.
func (s *Service) now() time.Time { return s.deps.Now().UTC().Truncate(time.Second) }
