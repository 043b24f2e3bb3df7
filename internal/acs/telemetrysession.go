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

func (t *telemetrySession) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	frames, failed := make(chan []byte), make(chan error, 1)
	go func() {
		for {
			_, data, err := t.conn.Read(ctx)
			if err != nil {
				failed <- err
				return
			}
			select {
			case frames <- data:
			case <-ctx.Done():
				failed <- ctx.Err()
				return
			}
		}
	}()
	heartbeat := time.NewTicker(heartbeatEvery)
	defer heartbeat.Stop()
	for {
		select {
		case err := <-failed:
			return err
		case <-heartbeat.C:
			if err := send(ctx, t.conn, TypeHeartbeat, Heartbeat{Healthy: true}); err != nil {
				return err
			}
		case data := <-frames:
			if err := t.receive(ctx, data); err != nil {
				return err
			}
		}
	}
}

func (t *telemetrySession) receive(ctx context.Context, data []byte) error {
	header, body, err := SplitSignedFrame(data)
	if err != nil {
		return err
	}
	signed := t.request.Clone(ctx)
	signed.Header = header
	if host := header.Get("Host"); host != "" {
		signed.Host = host
	}
	principal, _, err := t.server.auth(signed, body)
	if err != nil {
		return fmt.Errorf("telemetry frame: %w", err)
	}
	if principal.ARN != t.session.Principal.ARN {
		return errors.New("telemetry frame is signed by another principal than the session")
	}
	var frame Envelope
	if err := json.Unmarshal(body, &frame); err != nil {
		return fmt.Errorf("telemetry frame: %w", err)
	}
	return t.handle(ctx, frame)
}

func (t *telemetrySession) handle(ctx context.Context, frame Envelope) error {
	ack := ""
	switch frame.Type {
	case TypePublishMetrics:
		var m PublishMetrics
		if err := json.Unmarshal(frame.Message, &m); err != nil {
			return fmt.Errorf("telemetry metrics: %w", err)
		}
		if err := t.server.source.Metrics(ctx, t.session, &m); err != nil {
			return err
		}
		ack = TypeAckMetrics
	case TypePublishHealth:
		var h PublishHealth
		if err := json.Unmarshal(frame.Message, &h); err != nil {
			return fmt.Errorf("telemetry health: %w", err)
		}
		if err := t.server.source.Health(ctx, t.session, &h); err != nil {
			return err
		}
		ack = TypeAckHealth
	case TypePublishInstance:
		ack = TypeAckInstance
	default:
		return nil
	}
	return send(ctx, t.conn, ack, TelemetryAck{Message: "acknowledged"})
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
