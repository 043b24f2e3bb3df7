package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"longshore.dev/longshore/internal/join"
	"longshore.dev/longshore/internal/pki"
	"longshore.dev/longshore/internal/tcp"
)

// Waits between attempts to join.
const (
	joinFirstWait = time.Second
	joinLastWait  = time.Minute
)

// JoinOptions are how a node joins.
type JoinOptions struct {
	DataDir string
	// Server is its base URL.
	Server string
	// Token is the registration token, which only a node that has not joined needs.
	Token string
	// Authorities are those that vouch for a server without an authority of its
	// own, in PEM; empty: the machine's.
	Authorities []byte
	Log         *slog.Logger
}

// Join returns what the node is. A node that has joined already is what it was,
// whatever token it is given. Otherwise it asks the server, for as long as that
// cannot be reached; a refusal is final. The server is authenticated by the token's
// pin before the token is sent.
func Join(ctx context.Context, o JoinOptions) (Credentials, error) {
	saved, err := readCredentials(o.DataDir)
	if err != nil || saved.AccessKeyID != "" {
		return saved, err
	}
	if o.Token == "" {
		return Credentials{}, errors.New("this node has not joined yet: give it a registration token with --token-file, LONGSHORE_TOKEN or --token; `longshore token create` on the server's machine prints one")
	}
	token, err := join.Parse(o.Token)
	if err != nil {
		return Credentials{}, err
	}
	server, err := url.Parse(o.Server)
	switch {
	case err != nil || server.Host == "" || server.Scheme != "http" && server.Scheme != "https":
		return Credentials{}, fmt.Errorf("the server's URL %q is not of the form https://HOST:PORT", o.Server)
	case server.Scheme == "http" && token.Pin != "":
		return Credentials{}, fmt.Errorf("the token is of a server with TLS, and would be sent in the clear: use https:// in %s", o.Server)
	}
	// The attempt's secret is on disk before it is used, so that an attempt whose
	// answer got lost can be repeated.
	if saved.Attempt == "" {
		if saved.Attempt, err = newAttempt(); err != nil {
			return Credentials{}, err
		}
		if err := SaveCredentials(o.DataDir, saved); err != nil {
			return Credentials{}, err
		}
	}
	joined, err := joinUntilDone(ctx, server, token, saved.Attempt, o)
	if err != nil {
		return Credentials{}, fmt.Errorf("join %s: %w", o.Server, err)
	}
	return joined, SaveCredentials(o.DataDir, joined)
}

func newAttempt() (string, error) {
	raw := make([]byte, 32)
	if _, err := rand.Read(raw); err != nil {
		return "", fmt.Errorf("draw the attempt's secret: %w", err)
	}
	return hex.EncodeToString(raw), nil
}

// refusedError is a server's refusal, which no repetition changes.
type refusedError struct{ reason string }

// Error implements error.
func (e *refusedError) Error() string { return e.reason }

func joinUntilDone(ctx context.Context, server *url.URL, token join.Token, attempt string, o JoinOptions) (Credentials, error) {
	wait := joinFirstWait
	for {
		joined, err := joinOnce(ctx, server, token, attempt, o.Authorities)
		var refused *refusedError
		if err == nil || errors.As(err, &refused) || errors.Is(err, pki.ErrPin) || ctx.Err() != nil {
			return joined, err
		}
		o.Log.Warn("the node could not join yet; trying again", "server", o.Server, "error", err, "in", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return Credentials{}, ctx.Err()
		}
		wait = min(2*wait, joinLastWait)
	}
}

// joinOnce asks once. Nothing of the token leaves the machine before the server is
// verified.
func joinOnce(ctx context.Context, server *url.URL, token join.Token, attempt string, authorities []byte) (Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	body, err := json.Marshal(join.Request{Token: token.Text(), Attempt: attempt})
	if err != nil {
		return Credentials{}, err
	}
	var joined Credentials
	config, err := pki.Trusting(authorities)
	if err != nil {
		return Credentials{}, err
	}
	joined.CA = string(authorities)
	if token.Pin != "" {
		config = pki.Pinned(token.Pin, server.Hostname(), time.Now, func(authority []byte) { joined.CA = string(authority) })
	}
	transport := &http.Transport{TLSClientConfig: config, DialContext: tcp.Dialer().DialContext, DisableKeepAlives: true}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, server.JoinPath(join.Path).String(), bytes.NewReader(body))
	if err != nil {
		return Credentials{}, fmt.Errorf("the server's URL: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := client.Do(r)
	if err != nil {
		return Credentials{}, err
	}
	defer response.Body.Close()
	var a join.Answer
	if err := json.NewDecoder(io.LimitReader(response.Body, join.MaxBody)).Decode(&a); err != nil {
		return Credentials{}, fmt.Errorf("the answer (%s) is not a Longshore server's", response.Status)
	}
	switch {
	case response.StatusCode == http.StatusTooManyRequests || response.StatusCode >= 500:
		return Credentials{}, fmt.Errorf("%s: %s", response.Status, a.Error)
	case response.StatusCode != http.StatusOK:
		return Credentials{}, &refusedError{a.Error}
	case a.NodeID == "" || a.AccessKeyID == "" || a.SecretAccessKey == "" || a.Region == "":
		return Credentials{}, errors.New("the answer is not complete")
	}
	joined.NodeID, joined.AccessKeyID, joined.SecretAccessKey = a.NodeID, a.AccessKeyID, a.SecretAccessKey
	joined.Region, joined.Cluster, joined.Fargate, joined.Subnets = a.Region, a.Cluster, a.Fargate, a.Subnets
	return joined, nil
}
