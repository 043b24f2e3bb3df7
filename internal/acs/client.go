package acs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// dialTimeout bounds opening a session, handshake included.
const dialTimeout = 30 * time.Second

// Signer signs a request whose body is payload (the empty body when nil).
type Signer func(r *http.Request, payload []byte) error

// RefusedError is a handshake that the control plane refused.
type RefusedError struct {
	Status  int
	Code    string
	Message string
}

// Error implements error.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("the control plane refused the session (%d %s): %s", e.Status, e.Code, e.Message)
}

// Client is the agent's side of one websocket.
type Client struct {
	conn *websocket.Conn
	sign Signer
	url  *url.URL
}

// Dial opens endpoint+"/ws" with the query, signed. The endpoint is an http or
// https URL, as DiscoverPollEndpoint returned it.
func Dial(ctx context.Context, endpoint string, query url.Values, sign Signer, httpClient *http.Client) (*Client, error) {
	target, err := url.Parse(strings.TrimSuffix(endpoint, "/") + "/ws?" + query.Encode())
	if err != nil {
		return nil, fmt.Errorf("poll endpoint: %w", err)
	}
	unsigned, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("poll endpoint: %w", err)
	}
	if err := sign(unsigned, nil); err != nil {
		return nil, fmt.Errorf("sign the handshake: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, response, err := websocket.Dial(ctx, target.String(), &websocket.DialOptions{
		HTTPHeader: unsigned.Header, HTTPClient: staying(httpClient), CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, refused(response, err)
	}
	conn.SetReadLimit(maxFrame)
	return &Client{conn: conn, sign: sign, url: target}, nil
}

// staying is a client that follows no redirects: the handshake is signed for one host.
func staying(httpClient *http.Client) *http.Client {
	client := http.Client{}
	if httpClient != nil {
		client = *httpClient
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client
}

func refused(response *http.Response, err error) error {
	if response == nil || response.StatusCode == http.StatusSwitchingProtocols || response.Body == nil {
		return err
	}
	raw, readErr := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	var body Rejection
	if readErr != nil || json.Unmarshal(raw, &body) != nil || body.Type == "" {
		return err
	}
	return &RefusedError{Status: response.StatusCode, Code: body.Type, Message: body.Message.Message}
}

// Read returns the next frame. Frames that do not parse are skipped.
func (c *Client) Read(ctx context.Context) (Envelope, error) {
	for {
		_, data, err := c.conn.Read(ctx)
		if err != nil {
			return Envelope{}, err
		}
		var e Envelope
		if json.Unmarshal(data, &e) == nil && e.Type != "" {
			return e, nil
		}
	}
}

// Send writes one frame. It may be called concurrently with Read and itself.
func (c *Client) Send(ctx context.Context, kind string, message any) error {
	return send(ctx, c.conn, kind, message)
}

// SendSigned writes one telemetry frame: signed headers, a blank line, the JSON.
func (c *Client) SendSigned(ctx context.Context, kind string, message any) error {
	raw, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("encode %s: %w", kind, err)
	}
	body, err := json.Marshal(Envelope{Type: kind, Message: raw})
	if err != nil {
		return fmt.Errorf("encode %s: %w", kind, err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url.String(), nil)
	if err != nil {
		return err
	}
	if err := c.sign(r, body); err != nil {
		return fmt.Errorf("sign %s: %w", kind, err)
	}
	r.Header.Set("Host", c.url.Host)
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return c.conn.Write(ctx, websocket.MessageText, JoinSignedFrame(r.Header, body))
}

// Close ends the session with a normal close frame, and waits some seconds for
// the other side's.
func (c *Client) Close() error { return c.conn.Close(websocket.StatusNormalClosure, "") }

// CloseNow ends the session without a word.
func (c *Client) CloseNow() error { return c.conn.CloseNow() }

// ReconnectAtOnce tells whether a session that ended with err may be opened again
// without a pause: the server closed it normally, goes away or had an error of its
// own, or the connection was cut. Other close codes are refusals.
func ReconnectAtOnce(err error) bool {
	var closed websocket.CloseError
	if !errors.As(err, &closed) {
		return true
	}
	switch closed.Code {
	case websocket.StatusNormalClosure, websocket.StatusGoingAway, websocket.StatusAbnormalClosure, websocket.StatusInternalError:
		return true
	default:
		return false
	}
}
