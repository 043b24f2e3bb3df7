package iam

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"longshore.dev/longshore/internal/join"
	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

// Bounds of registration tokens.
const (
	MaxTokenLife = 30 * 24 * time.Hour
	MaxTokenUses = 10_000
	maxTokens    = 1000
	// tokenRest is how long a token that is over is still listed.
	tokenRest = 24 * time.Hour
)

// Refusals of a node that wants to join. The first says nothing about which
// tokens there are; the others are told only to who has the token's secret.
var (
	ErrTokenUnknown = errors.New("the registration token is not valid: it was never made, or it was revoked")
	ErrTokenExpired = errors.New("the registration token has expired: make another with `longshore token create`")
	ErrTokenUsed    = errors.New("the registration token has been used as often as it may be: make another with `longshore token create`, with --uses for several nodes")
)

// joinToken is stored under the token's id, outside of any account. Of its secret
// only the hash is kept.
type joinToken struct {
	Hash []byte `json:"hash"`
	// Account and Region that nodes join.
	Account string `json:"account"`
	Region  string `json:"region"`
	// Cluster is the only one that the nodes may register in; empty: any.
	Cluster   string    `json:"cluster,omitempty"`
	Fargate   bool      `json:"fargate,omitempty"`
	CreatedAt time.Time `json:"createdAt"`
	ExpiresAt time.Time `json:"expiresAt"`
	Uses      int       `json:"uses"`
	// Used counts the nodes that joined. Join writes it.
	Used int `json:"used,omitempty"`
}

// TokenRequest says what a registration token is for.
type TokenRequest struct {
	Account, Region string
	// Cluster is the only one that the nodes may register in; empty: any.
	Cluster string
	// Fargate lets the nodes take FARGATE tasks.
	Fargate bool
	Life    time.Duration
	// Uses is how many nodes may join.
	Uses int
	// Pin of the server's authority, empty when it has none.
	Pin string
}

// TokenInfo is what may be known of a token.
type TokenInfo struct {
	ID        string    `json:"id"`
	Cluster   string    `json:"cluster,omitempty"`
	Fargate   bool      `json:"fargate,omitempty"`
	CreatedAt time.Time `json:"createdAt"`
	ExpiresAt time.Time `json:"expiresAt"`
	Uses      int       `json:"uses"`
	Used      int       `json:"used"`
}

// Member is a node that has joined.
type Member struct {
	NodeID          string
	Key             AccessKey
	Account, Region string
	Cluster         string
	Fargate         bool
	// Again: an earlier attempt of the same node had got through already.
	Again bool
}

// CreateJoinToken makes a registration token. Nobody can read its secret again.
func (s *Service) CreateJoinToken(ctx context.Context, r TokenRequest) (join.Token, TokenInfo, error) {
	switch {
	case r.Life < time.Second || r.Life > MaxTokenLife:
		return join.Token{}, TokenInfo{}, wire.Errorf("ValidationException", "A registration token can be valid for 1 second to %d hours.", MaxTokenLife/time.Hour)
	case r.Uses < 1 || r.Uses > MaxTokenUses:
		return join.Token{}, TokenInfo{}, wire.Errorf("ValidationException", "A registration token can be used 1 to %d times.", MaxTokenUses)
	}
	token, err := join.New(rand.Reader, r.Pin)
	if err != nil {
		return join.Token{}, TokenInfo{}, err
	}
	now := s.deps.Now().UTC()
	record := &joinToken{
		Hash: token.Hash(), Account: r.Account, Region: r.Region, Cluster: r.Cluster, Fargate: r.Fargate,
		CreatedAt: now, ExpiresAt: now.Add(r.Life), Uses: r.Uses,
	}
	err = s.deps.DB.Update(ctx, func(tx *store.Tx) error {
		count, dropped := 0, 0
		for id, t := range s.joinTokens.List(tx, store.Scope{}) {
			if now.Sub(t.ExpiresAt) > tokenRest && dropped < 50 {
				s.joinTokens.Delete(tx, store.Scope{}, id)
				dropped++
				continue
			}
			count++
		}
		if count >= maxTokens {
			return wire.Errorf("LimitExceededException", "There are %d registration tokens already: revoke some with `longshore token revoke`.", count)
		}
		s.joinTokens.Put(tx, store.Scope{}, token.ID, record)
		return nil
	})
	if err != nil {
		return join.Token{}, TokenInfo{}, err
	}
	return token, record.info(token.ID), nil
}

func (t *joinToken) info(id string) TokenInfo {
	return TokenInfo{
		ID: id, Cluster: t.Cluster, Fargate: t.Fargate, CreatedAt: t.CreatedAt, ExpiresAt: t.ExpiresAt, Uses: t.Uses, Used: t.Used,
	}
}

// JoinTokens lists the account's tokens, those included that expired lately.
func (s *Service) JoinTokens(account string) []TokenInfo {
	now, list := s.deps.Now(), []TokenInfo{}
	for id, t := range s.joinTokens.List(s.deps.DB.Snapshot(), store.Scope{}) {
		if t.Account == account && now.Sub(t.ExpiresAt) <= tokenRest {
			list = append(list, t.info(id))
		}
	}
	return list
}

// RevokeJoinToken ends a token. Nodes that have joined with it stay.
func (s *Service) RevokeJoinToken(ctx context.Context, account, id string) error {
	return s.deps.DB.Update(ctx, func(tx *store.Tx) error {
		if t, ok := s.joinTokens.Get(tx, store.Scope{}, id); !ok || t.Account != account {
			return wire.Errorf("ResourceNotFoundException", "There is no registration token %q: `longshore token list` shows those that there are.", clip(id))
		}
		s.joinTokens.Delete(tx, store.Scope{}, id)
		return nil
	})
}

// Join makes a node of whoever has a token: it draws the node's id and key. Ids are
// never taken from the caller, so that no token gives access to a node that is
// there already. The same attempt, repeated while the token is valid, gets the same
// answer and counts once.
func (s *Service) Join(ctx context.Context, token join.Token, attempt string) (Member, error) {
	key, err := newAccessKey("AKIA")
	if err != nil {
		return Member{}, err
	}
	nodeID, err := newNodeID()
	if err != nil {
		return Member{}, err
	}
	sealed, err := s.deps.Sealer.Seal(sealContext(key.ID), []byte(key.Secret))
	if err != nil {
		return Member{}, fmt.Errorf("seal an access key: %w", err)
	}
	now, hash := s.deps.Now().UTC(), token.Hash()
	sum := sha256.Sum256([]byte(token.ID + " " + attempt))
	tried := hex.EncodeToString(sum[:])
	var m Member
	err = s.deps.DB.Update(ctx, func(tx *store.Tx) error {
		t, ok := s.joinTokens.Get(tx, store.Scope{}, token.ID)
		if !ok {
			t = &joinToken{Hash: make([]byte, len(hash))}
		}
		if subtle.ConstantTimeCompare(t.Hash, hash) != 1 || !ok {
			return ErrTokenUnknown
		}
		if !now.Before(t.ExpiresAt) {
			return ErrTokenExpired
		}
		m = Member{NodeID: nodeID, Key: key, Account: t.Account, Region: t.Region, Cluster: t.Cluster, Fargate: t.Fargate}
		for id, k := range s.keysByAttempt.List(tx, store.Scope{}, tried) {
			m.NodeID, m.Key, m.Again = k.NodeID, AccessKey{ID: id}, true
			return nil
		}
		if t.Used >= t.Uses {
			return ErrTokenUsed
		}
		t = s.joinTokens.Clone(t)
		t.Used++
		s.joinTokens.Put(tx, store.Scope{}, token.ID, t)
		s.keys.Put(tx, store.Scope{}, key.ID, &accessKey{
			Kind: wire.PrincipalNode, Account: t.Account, NodeID: nodeID, Sealed: sealed, CreatedAt: now, JoinToken: token.ID, Attempt: tried,
		})
		return nil
	})
	if err != nil || !m.Again {
		return m, err
	}
	credential, err := s.Credential(ctx, m.Key.ID, "")
	m.Key.Secret = credential.SecretAccessKey
	return m, err
}

// RevokeNode ends a node's access keys, at once. It tells whether there were any.
func (s *Service) RevokeNode(ctx context.Context, account, nodeID string) (found bool, err error) {
	err = s.deps.DB.Update(ctx, func(tx *store.Tx) error {
		found = false
		for id, k := range s.keys.List(tx, store.Scope{}) {
			if k.Kind == wire.PrincipalNode && k.Account == account && k.NodeID == nodeID {
				s.keys.Delete(tx, store.Scope{}, id)
				found = true
			}
		}
		return nil
	})
	return found, err
}

// newNodeID draws an id in the form of EC2's instance ids.
func newNodeID() (string, error) {
	var b [9]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("draw a node's id: %w", err)
	}
	return "i-" + hex.EncodeToString(b[:])[:17], nil
}

func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}
