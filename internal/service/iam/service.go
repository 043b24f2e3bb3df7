package iam

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"time"

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

// Deps is what the room needs. All fields are required.
type Deps struct {
	DB     *store.DB
	Sealer Sealer
	Now    func() time.Time
}

// Service is the IAM room.
type Service struct {
	deps Deps
	keys *store.Table[accessKey]
	// keysByAttempt: accessKey.Attempt.
	keysByAttempt *store.Index[accessKey]
	joinTokens    *store.Table[joinToken]
}

// New builds the room and declares its tables on deps.DB, which must not have
// been started yet.
func New(deps Deps) *Service {
	s := &Service{
		deps: deps, keys: store.NewTable[accessKey](deps.DB, "iam.accesskeys"),
		joinTokens: store.NewTable[joinToken](deps.DB, "iam.jointokens"),
	}
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

// newAccessKey draws a key in AWS's form: 20 characters that begin with AKIA,
// and a secret of 40.
func newAccessKey() (AccessKey, error) {
	var id [10]byte
	var secret [30]byte
	for _, b := range [][]byte{id[:], secret[:]} {
		if _, err := rand.Read(b); err != nil {
			return AccessKey{}, fmt.Errorf("draw an access key: %w", err)
		}
	}
	return AccessKey{
		ID:     "AKIA" + base32.StdEncoding.EncodeToString(id[:]),
		Secret: base64.StdEncoding.EncodeToString(secret[:]),
	}, nil
}
