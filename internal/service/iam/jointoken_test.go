package iam

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"longshore.dev/longshore/internal/join"
	"longshore.dev/longshore/internal/seal"
	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/store/memkv"
	"longshore.dev/longshore/internal/wire"
)

const account = "123456789012"

type room struct {
	*Service
	t   *testing.T
	kv  *memkv.KV
	now time.Time
}

func newRoom(t *testing.T) *room {
	t.Helper()
	r := &room{t: t, kv: memkv.New(), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	sealer, err := seal.New(bytes.Repeat([]byte{7}, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	db := store.New(r.kv, store.Options{})
	r.Service = New(Deps{DB: db, Sealer: sealer, Now: func() time.Time { return r.now }})
	if err := db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(db.Close(), r.kv.Close()); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *room) token(uses int) join.Token {
	r.t.Helper()
	token, _, err := r.CreateJoinToken(context.Background(), TokenRequest{Account: account, Region: "eu-west-1", Life: time.Hour, Uses: uses})
	if err != nil {
		r.t.Fatal(err)
	}
	return token
}

func attempt(n int) string { return fmt.Sprintf("%064x", n) }

func (r *room) join(token join.Token, n int) (Member, error) {
	return r.Join(context.Background(), token, attempt(n))
}

func TestATokenAdmitsSoManyNodesForSoLong(t *testing.T) {
	r := newRoom(t)
	token := r.token(2)
	first, err := r.join(token, 1)
	if err != nil || first.Account != account || first.Region != "eu-west-1" || first.Again {
		t.Fatalf("%+v %v", first, err)
	}
	second, err := r.join(token, 2)
	if err != nil || second.NodeID == first.NodeID || second.Key.ID == first.Key.ID {
		t.Fatalf("the second node is %s with %s after %s with %s: %v", second.NodeID, second.Key.ID, first.NodeID, first.Key.ID, err)
	}
	if _, err := r.join(token, 3); !errors.Is(err, ErrTokenUsed) {
		t.Errorf("a third node: %v", err)
	}
	again, err := r.join(token, 1) // its answer was lost
	if err != nil || again.NodeID != first.NodeID || again.Key != first.Key || !again.Again {
		t.Errorf("the first attempt again: %+v %v; want %+v", again, err, first)
	}
	credential, err := r.Credential(context.Background(), first.Key.ID, "")
	if err != nil || credential.SecretAccessKey != first.Key.Secret || credential.Principal.Kind != wire.PrincipalNode || credential.Principal.NodeID != first.NodeID {
		t.Errorf("the key stands for %+v: %v", credential.Principal, err)
	}
	r.now = r.now.Add(time.Hour)
	for n := range 4 {
		if _, err := r.join(token, n); !errors.Is(err, ErrTokenExpired) {
			t.Errorf("attempt %d on an expired token: %v", n, err)
		}
	}
	if list := r.JoinTokens(account); len(list) != 1 || list[0].Used != 2 {
		t.Errorf("tokens %+v", list)
	}
}

func TestWhoHasNoTokenLearnsNothing(t *testing.T) {
	r := newRoom(t)
	used := r.token(1)
	if _, err := r.join(used, 1); err != nil {
		t.Fatal(err)
	}
	revoked := r.token(1)
	if err := r.RevokeJoinToken(context.Background(), account, revoked.ID); err != nil {
		t.Fatal(err)
	}
	never, err := join.New(rand.Reader, "")
	if err != nil {
		t.Fatal(err)
	}
	forged := join.Token{ID: used.ID, Secret: never.Secret}
	for name, token := range map[string]join.Token{"never made": never, "a known id with another secret": forged, "revoked": revoked} {
		for n := range 3 { // 1: the attempt that the node made
			if m, err := r.join(token, n); err == nil || err.Error() != ErrTokenUnknown.Error() || m.Key.Secret != "" {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	err = r.RevokeJoinToken(context.Background(), "999999999999", used.ID)
	if err == nil || len(r.JoinTokens("999999999999")) != 0 {
		t.Errorf("another account sees or revokes the token: %v", err)
	}
}

func TestManyNodesAtOnceCountOnce(t *testing.T) {
	r := newRoom(t)
	token := r.token(5)
	var wg sync.WaitGroup
	var mu sync.Mutex
	nodes := map[string]int{}
	for n := range 40 {
		wg.Go(func() {
			m, err := r.join(token, n%20) // each attempt twice
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				nodes[m.NodeID]++
			} else if !errors.Is(err, ErrTokenUsed) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(nodes) != 5 {
		t.Errorf("%d nodes joined with a token for 5", len(nodes))
	}
}

func TestRevokingANodeEndsItsKey(t *testing.T) {
	r := newRoom(t)
	token := r.token(2)
	m, err := r.join(token, 1)
	if err != nil {
		t.Fatal(err)
	}
	if found, err := r.RevokeNode(context.Background(), "999999999999", m.NodeID); err != nil || found {
		t.Fatalf("another account's owner found the node: %v", err)
	}
	if found, err := r.RevokeNode(context.Background(), account, m.NodeID); err != nil || !found {
		t.Fatal(found, err)
	}
	if _, err := r.Credential(context.Background(), m.Key.ID, ""); !errors.Is(err, wire.ErrNoCredential) {
		t.Errorf("the revoked node's key: %v", err)
	}
	again, err := r.join(token, 1)
	if err != nil || again.NodeID == m.NodeID {
		t.Errorf("joining again: %+v %v; want another node", again, err)
	}
}

func TestTokensAreBounded(t *testing.T) {
	r := newRoom(t)
	for name, request := range map[string]TokenRequest{
		"no life": {Uses: 1}, "a year": {Life: 365 * 24 * time.Hour, Uses: 1}, "no use": {Life: time.Hour}, "a million uses": {Life: time.Hour, Uses: 1e6},
	} {
		if _, _, err := r.CreateJoinToken(context.Background(), request); err == nil {
			t.Errorf("%s: a token was made", name)
		}
	}
	for range maxTokens {
		r.token(1)
	}
	_, _, err := r.CreateJoinToken(context.Background(), TokenRequest{Account: account, Region: "eu-west-1", Life: time.Hour, Uses: 1})
	if err == nil || !strings.Contains(err.Error(), "LimitExceeded") {
		t.Errorf("token %d: %v", maxTokens+1, err)
	}
	r.now = r.now.Add(26 * time.Hour) // those that are over make room
	r.token(1)
}

// TestTheStoreHoldsNoSecret looks at what reached the store.
func TestTheStoreHoldsNoSecret(t *testing.T) {
	r := newRoom(t)
	token := r.token(1)
	m, err := r.join(token, 1)
	if err != nil {
		t.Fatal(err)
	}
	entries, _, err := r.kv.Range(t.Context(), "")
	if err != nil || len(entries) != 2 {
		t.Fatalf("%v: the store has %d entries, want the token and the key", err, len(entries))
	}
	for name, secret := range map[string][]byte{
		"token's secret": token.Secret, "token's text": []byte(strings.Split(token.Text(), ".")[2]),
		"access key's": []byte(m.Key.Secret), "attempt's": []byte(attempt(1)),
	} {
		for _, e := range entries {
			if bytes.Contains(e.Value, secret) || bytes.Contains(e.Value, []byte(base64.StdEncoding.EncodeToString(secret))) {
				t.Errorf("the %s secret is in %s", name, e.Key)
			}
		}
	}
}
