package iam

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/google/uuid"

	"longshore.dev/longshore/internal/seal"
	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

// sessionKey is the key that session tokens are sealed with, stored outside of any
// account. Who deletes it ends all sessions.
type sessionKey struct {
	Sealed    []byte    `json:"sealed"`
	CreatedAt time.Time `json:"createdAt"`
}

const (
	sessionKeyID      = "current"
	sessionKeyContext = "iam/sessionkey/" + sessionKeyID
)

// openedKey is a session key that was opened, kept as long as the record is the same.
type openedKey struct {
	sealed []byte
	sealer *seal.Sealer
	// ids is the key of CredentialsID.
	ids []byte
}

// session is what a session token holds. Nothing of it is stored.
type session struct {
	Secret  string             `json:"secret"`
	Kind    wire.PrincipalKind `json:"kind"`
	Account string             `json:"account"`
	// UserID of the user or of the role's session.
	UserID string `json:"userId"`
	// Parent is the long-lived key that asked for a session of its own user: the
	// session dies with it. Empty for roles.
	Parent  string       `json:"parent,omitempty"`
	Session wire.Session `json:"session"`
}

// tokenContext binds a session token to its access key id.
func tokenContext(id string) string { return "iam/session/" + id }

// sessionSealer returns the sealer of session tokens, nil if there was no session yet.
func (s *Service) sessionSealer(r store.Reader) (*seal.Sealer, error) {
	key, err := s.openSessionKey(r)
	if key == nil || err != nil {
		return nil, err
	}
	return key.sealer, nil
}

// openSessionKey returns what is made of the session key, nil if there is none yet.
func (s *Service) openSessionKey(r store.Reader) (*openedKey, error) {
	record, ok := s.sessionKeys.Get(r, store.Scope{}, sessionKeyID)
	if !ok {
		return nil, nil
	}
	if known := s.openedKey.Load(); known != nil && bytes.Equal(known.sealed, record.Sealed) {
		return known, nil
	}
	key, err := s.deps.Sealer.Open(sessionKeyContext, record.Sealed)
	if err != nil {
		return nil, fmt.Errorf("open the key of session tokens: %w", err)
	}
	defer clear(key)
	sealer, err := seal.New(key)
	if err != nil {
		return nil, fmt.Errorf("the key of session tokens: %w", err)
	}
	ids, err := hkdf.Key(sha256.New, key, nil, "iam/credentials-id", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("the key of credentials' ids: %w", err)
	}
	opened := &openedKey{record.Sealed, sealer, ids}
	s.openedKey.Store(opened)
	return opened, nil
}

// CredentialsID is the id of the credentials that a task has of a kind of role: who
// knows it fetches them. It follows from the session key, so that it is the same
// whenever they are renewed, and nobody else can tell it. It has a UUID's form.
func (s *Service) CredentialsID(ctx context.Context, taskARN, roleType string) (string, error) {
	if _, err := s.ensureSessionKey(ctx); err != nil {
		return "", err
	}
	key, err := s.openSessionKey(s.snapshot())
	if err != nil {
		return "", err
	}
	if key == nil {
		return "", errors.New("the key of session tokens is gone")
	}
	mac := hmac.New(sha256.New, key.ids)
	mac.Write([]byte(roleType + "\x00" + taskARN))
	id, err := uuid.FromBytes(mac.Sum(nil)[:16])
	return id.String(), err
}

// ensureSessionKey draws the key of session tokens, unless there is one.
func (s *Service) ensureSessionKey(ctx context.Context) (*seal.Sealer, error) {
	if sealer, err := s.sessionSealer(s.snapshot()); sealer != nil || err != nil {
		return sealer, err
	}
	key := make([]byte, seal.KeySize)
	defer clear(key)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("draw the key of session tokens: %w", err)
	}
	sealed, err := s.deps.Sealer.Seal(sessionKeyContext, key)
	if err != nil {
		return nil, fmt.Errorf("seal the key of session tokens: %w", err)
	}
	err = s.deps.DB.Update(ctx, func(tx *store.Tx) error {
		if _, ok := s.sessionKeys.Get(tx, store.Scope{}, sessionKeyID); !ok {
			s.sessionKeys.Put(tx, store.Scope{}, sessionKeyID, &sessionKey{Sealed: sealed, CreatedAt: s.now()})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s.sessionSealer(s.snapshot())
}

// Issue makes temporary credentials for a principal that has a Session. The
// AccessKeyID of a user or root user is the key that its session dies with.
func (s *Service) Issue(ctx context.Context, p wire.Principal) (*ststypes.Credentials, error) {
	sealer, err := s.ensureSessionKey(ctx)
	if err != nil {
		return nil, err
	}
	key, err := newAccessKey("ASIA")
	if err != nil {
		return nil, err
	}
	content := session{Secret: key.Secret, Kind: p.Kind, Account: p.AccountID, UserID: p.UserID, Session: *p.Session}
	if p.Kind != wire.PrincipalRole {
		content.Parent = p.AccessKeyID
	}
	raw, err := json.Marshal(content)
	if err != nil {
		return nil, err
	}
	sealed, err := sealer.Seal(tokenContext(key.ID), raw)
	if err != nil {
		return nil, err
	}
	token, expires := base64.StdEncoding.EncodeToString(sealed), p.Session.ExpiresAt
	return &ststypes.Credentials{AccessKeyId: &key.ID, SecretAccessKey: &key.Secret, SessionToken: &token, Expiration: &expires}, nil
}

// temporary is the credential of a session token.
func (s *Service) temporary(id, token string) (wire.Credential, error) {
	r := s.snapshot()
	content, err := s.openToken(r, id, token)
	if err != nil {
		return wire.Credential{}, err
	}
	if !s.deps.Now().Before(content.Session.ExpiresAt) {
		return wire.Credential{}, wire.ErrExpiredCredential
	}
	p, ok := s.principalOf(r, content)
	if !ok {
		return wire.Credential{}, wire.ErrNoCredential
	}
	p.Session = &content.Session
	return wire.Credential{SecretAccessKey: content.Secret, Principal: p}, nil
}

// openToken opens what a client presents as a session token: ErrNoCredential unless
// it is one that was issued with the access key id.
func (s *Service) openToken(r store.Reader, id, token string) (*session, error) {
	if len(token) > wire.MaxSessionToken {
		return nil, wire.ErrNoCredential
	}
	sealed, err := base64.StdEncoding.Strict().DecodeString(token)
	if err != nil {
		return nil, wire.ErrNoCredential
	}
	sealer, err := s.sessionSealer(r)
	if err != nil {
		return nil, err
	}
	if sealer == nil {
		return nil, wire.ErrNoCredential
	}
	raw, err := sealer.Open(tokenContext(id), sealed)
	if err != nil {
		return nil, wire.ErrNoCredential
	}
	content := &session{}
	if err := json.Unmarshal(raw, content); err != nil {
		return nil, fmt.Errorf("read the session token of %s: %w", id, err)
	}
	return content, nil
}

// principalOf is who a session is; false when its role, its user or the key that
// asked for it is gone.
func (s *Service) principalOf(r store.Reader, content *session) (wire.Principal, bool) {
	if content.Kind != wire.PrincipalRole {
		parent, ok := s.keys.Get(r, store.Scope{}, content.Parent)
		if !ok || parent.Inactive || parent.Kind != content.Kind || parent.Account != content.Account {
			return wire.Principal{}, false
		}
		return s.principal(r, parent)
	}
	role := s.roles.find(r, accountScope(content.Account), content.Session.RoleID)
	if role == nil {
		return wire.Principal{}, false
	}
	return wire.Principal{
		Kind: wire.PrincipalRole, AccountID: content.Account, UserID: content.UserID,
		ARN: "arn:aws:sts::" + content.Account + ":assumed-role/" + role.Name + "/" + content.Session.Name,
	}, true
}
