package acs

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"time"

	"github.com/coder/websocket"
)

// telemetrySession receives one agent's measurements. Each of its frames is
// signed: HTTP headers, a blank line, then the JSON that the signature covers.
type telemetrySession struct {
	server  *Server
	session Session
	conn    *websocket.Conn
	request *http.Request
}

func (t *telemetrySession) run(ctx context.Context, reader *frameReader) error {
	heartbeat := time.NewTicker(heartbeatEvery)
	defer heartbeat.Stop()
	lastSeen := time.Now()
	var answered chan error // of a ping under way
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-reader.failed:
			return err
		case err := <-answered:
			if err != nil {
				return errSilent
			}
			answered, lastSeen = nil, time.Now()
		case <-heartbeat.C:
			if err := t.server.source.Admit(ctx, t.session); err != nil {
				return err
			}
			if err := write(ctx, t.conn, TypeHeartbeat, Heartbeat{Healthy: true}); err != nil {
				return err
			}
			// An agent that measures nothing says nothing, and answers pings.
			if answered == nil && time.Since(lastSeen) > silenceLimit-heartbeatEvery {
				answered = t.ping(ctx)
			}
		case data := <-reader.frames:
			lastSeen = time.Now()
			if err := t.receive(ctx, data); err != nil {
				return err
			}
		}
	}
}

// ping asks whether the agent is still there; the goroutine ends with the answer
// or with the time for it.
func (t *telemetrySession) ping(ctx context.Context) chan error {
	answered := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, heartbeatEvery-time.Second)
		defer cancel()
		answered <- t.conn.Ping(ctx)
	}()
	return answered
}

func (t *telemetrySession) receive(ctx context.Context, data []byte) error {
	header, body, err := SplitSignedFrame(data)
	if err != nil {
		return &protocolError{err}
	}
	signed := t.request.Clone(ctx)
	signed.Header = header
	if host := header.Get("Host"); host != "" {
		signed.Host = host
	}
	principal, _, err := t.server.auth(signed, body)
	if err != nil {
		return &protocolError{fmt.Errorf("telemetry frame: %w", err)}
	}
	if principal.ARN != t.session.Principal.ARN {
		return &protocolError{errors.New("telemetry frame is signed by another principal than the session")}
	}
	var frame Envelope
	if err := json.Unmarshal(body, &frame); err != nil {
		return &protocolError{fmt.Errorf("telemetry frame: %w", err)}
	}
	return t.handle(ctx, frame)
}

// handle passes a frame on, and acknowledges it when it has been taken in. Types
// that are not known are ignored, as agents ignore ours.
func (t *telemetrySession) handle(ctx context.Context, frame Envelope) error {
	var ack string
	var err error
	switch source := t.server.source; frame.Type {
	case TypePublishMetrics:
		ack, err = TypeAckMetrics, taken(ctx, t.session, frame.Message, source.Metrics)
	case TypePublishHealth:
		ack, err = TypeAckHealth, taken(ctx, t.session, frame.Message, source.Health)
	case TypePublishInstance:
		ack, err = TypeAckInstance, taken(ctx, t.session, frame.Message, source.InstanceStatus)
	default:
		return nil
	}
	if err != nil {
		return err
	}
	return write(ctx, t.conn, ack, TelemetryAck{Message: "acknowledged"})
}

func taken[M any](ctx context.Context, s Session, raw json.RawMessage, take func(context.Context, Session, *M) error) error {
	m := new(M)
	if err := json.Unmarshal(raw, m); err != nil {
		return &protocolError{fmt.Errorf("telemetry frame: %w", err)}
	}
	return take(ctx, s, m)
}

// SplitSignedFrame takes a telemetry frame apart at the first blank line.
func SplitSignedFrame(data []byte) (http.Header, []byte, error) {
	head, body, ok := bytes.Cut(data, []byte("\r\n\r\n"))
	if !ok {
		return nil, nil, errors.New("telemetry frame has no signed headers")
	}
	head = append(head[:len(head):len(head)], "\r\n\r\n"...)
	header, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(head))).ReadMIMEHeader()
	if err != nil {
		return nil, nil, fmt.Errorf("telemetry frame's headers: %w", err)
	}
	return http.Header(header), body, nil
}

// JoinSignedFrame puts a telemetry frame together.
func JoinSignedFrame(header http.Header, body []byte) []byte {
	var b bytes.Buffer
	_ = header.Write(&b)
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes()
}
