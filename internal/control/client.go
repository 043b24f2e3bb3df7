package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"longshore.dev/longshore/internal/pki"
	"longshore.dev/longshore/internal/service/ecs"
	"longshore.dev/longshore/internal/service/iam"
	"longshore.dev/longshore/internal/wire/sigv4"
)

// maxAdminAnswer bounds the answer to an operation of the owner, in bytes.
const maxAdminAnswer = 16 << 20

// Client is the owner's access to a running server.
type Client struct {
	access Access
	http   *http.Client
}

// NewClient returns a client for what ReadAccess returned.
func NewClient(a Access) (*Client, error) {
	client, err := a.HTTPClient()
	if err != nil {
		return nil, err
	}
	return &Client{a, client}, nil
}

// HTTPClient returns a client that trusts the server.
func (a Access) HTTPClient() (*http.Client, error) {
	var authority []byte
	if a.CAFile != "" {
		var err error
		if authority, err = os.ReadFile(a.CAFile); err != nil {
			return nil, fmt.Errorf("read the certificate of the server's authority: %w", err)
		}
	}
	config, err := pki.Trusting(authority)
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute}}, nil
}

// CreateToken makes a registration token.
func (c *Client) CreateToken(ctx context.Context, o TokenOptions) (MadeToken, error) {
	answer, err := c.do(ctx, http.MethodPost, tokensPath, o)
	if err != nil || answer.Token == nil {
		return MadeToken{}, err
	}
	return *answer.Token, nil
}

// Tokens lists the registration tokens.
func (c *Client) Tokens(ctx context.Context) ([]iam.TokenInfo, error) {
	answer, err := c.do(ctx, http.MethodGet, tokensPath, nil)
	return answer.Tokens, err
}

// RevokeToken ends a registration token.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	_, err := c.do(ctx, http.MethodDelete, tokensPath+"/"+id, nil)
	return err
}

// Nodes lists the nodes.
func (c *Client) Nodes(ctx context.Context) ([]ecs.NodeInfo, error) {
	answer, err := c.do(ctx, http.MethodGet, nodesPath, nil)
	return answer.Nodes, err
}

// RevokeNode ends a node's key and deregisters what it was.
func (c *Client) RevokeNode(ctx context.Context, id string) error {
	_, err := c.do(ctx, http.MethodDelete, nodesPath+"/"+id, nil)
	return err
}

// CreateUser makes a user with an access key.
func (c *Client) CreateUser(ctx context.Context, o UserOptions) (MadeUser, error) {
	answer, err := c.do(ctx, http.MethodPost, usersPath, o)
	if err != nil || answer.User == nil {
		return MadeUser{}, err
	}
	return *answer.User, nil
}

// Explain says why a task, a service or a deployment is as it is: ecs.Service.Explain.
func (c *Client) Explain(ctx context.Context, cluster, ref string) (ecs.Explanation, error) {
	answer, err := c.do(ctx, http.MethodGet, explainPath+"?"+url.Values{"cluster": {cluster}, "resource": {ref}}.Encode(), nil)
	if err != nil || answer.Explanation == nil {
		return ecs.Explanation{}, err
	}
	return *answer.Explanation, nil
}

// Key tells about the root key.
func (c *Client) Key(ctx context.Context) (KeyInfo, error) { return c.key(ctx, http.MethodGet) }

// RotateKey replaces the root key, and seals everything anew.
func (c *Client) RotateKey(ctx context.Context) (KeyInfo, error) { return c.key(ctx, http.MethodPost) }

func (c *Client) key(ctx context.Context, method string) (KeyInfo, error) {
	answer, err := c.do(ctx, method, keyPath, nil)
	if err != nil || answer.Key == nil {
		return KeyInfo{}, err
	}
	return *answer.Key, nil
}

// Events calls take with each event from now on, in EventBridge's JSON, until ctx or the
// server ends.
func (c *Client) Events(ctx context.Context, take func(json.RawMessage) error) error {
	response, err := c.send(ctx, http.MethodGet, eventsPath, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return c.errorIn(response)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(make([]byte, 64<<10), maxAdminAnswer)
	for lines.Scan() {
		line := lines.Bytes()
		if len(line) == 0 {
			continue // the server is there
		}
		var end struct{ Error string }
		if json.Unmarshal(line, &end) == nil && end.Error != "" {
			return fmt.Errorf("the stream of events ended: %s", end.Error)
		}
		if err := take(line); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("receive events: %w", err)
	}
	return nil
}

// Backup writes a backup to w. It is whole only if it can be read to its end: Verify.
func (c *Client) Backup(ctx context.Context, w io.Writer) error {
	response, err := c.send(ctx, http.MethodGet, backupPath, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return c.errorIn(response)
	}
	_, err = io.Copy(w, response.Body)
	if err != nil {
		return fmt.Errorf("receive the backup: %w", err)
	}
	return nil
}

func (c *Client) do(ctx context.Context, method, path string, in any) (adminAnswer, error) {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return adminAnswer{}, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	response, err := c.send(ctx, method, path, body)
	if err != nil {
		return adminAnswer{}, err
	}
	defer response.Body.Close()
	return c.answer(response)
}

func (c *Client) send(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.access.Endpoint+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask the server at %s: %w", c.access.Endpoint, err)
	}
	credentials := sigv4.Credentials{AccessKeyID: c.access.AccessKeyID, SecretAccessKey: c.access.SecretAccessKey}
	if err := sigv4.Sign(r, credentials, c.access.Region, "ecs", sigv4.Hash(body), time.Now()); err != nil {
		return nil, fmt.Errorf("sign the request: %w", err)
	}
	response, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("the server does not answer; does it run? %w", err)
	}
	return response, nil
}

func (c *Client) errorIn(response *http.Response) error {
	_, err := c.answer(response)
	if err == nil {
		err = fmt.Errorf("%s answered %s", c.access.Endpoint, response.Status)
	}
	return err
}

func (c *Client) answer(response *http.Response) (adminAnswer, error) {
	var a adminAnswer
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAdminAnswer)).Decode(&a); err != nil {
		return adminAnswer{}, fmt.Errorf("the answer of %s (%s) is not a Longshore server's", c.access.Endpoint, response.Status)
	}
	if a.Error != nil {
		return adminAnswer{}, fmt.Errorf("%s: %s", a.Error.Code, a.Error.Message)
	}
	return a, nil
}
