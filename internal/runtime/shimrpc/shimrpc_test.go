package shimrpc

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"longshore.dev/longshore/internal/runtime"
)

// serve runs a server in a directory whose path is too long for an address.
func serve(t *testing.T, handle Handler) *Client {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	address, release, err := SocketAddress(dir)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
	release()
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.AcceptUnix()
			if err != nil {
				return
			}
			serving.Go(func() { _ = Serve(context.Background(), conn, handle, func(string) {}) })
		}
	})
	client, err := Dial(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = client.Close()
		_ = listener.Close()
		serving.Wait()
	})
	return client
}

func TestCallsAreConcurrent(t *testing.T) {
	release := make(chan struct{})
	client := serve(t, func(_ context.Context, method string, body json.RawMessage) (any, error) {
		if method == "slow" {
			<-release
		}
		return string(body) + method, nil
	})
	slow := make(chan string, 1)
	go func() {
		var s string
		if err := client.Call(context.Background(), "slow", 1, &s); err != nil {
			s = err.Error()
		}
		slow <- s
	}()
	var quick string
	if err := client.Call(t.Context(), "quick", 2, &quick); err != nil || quick != "2quick" {
		t.Errorf("%q, %v", quick, err)
	}
	close(release)
	if s := <-slow; s != "1slow" {
		t.Errorf("%q", s)
	}
}

func TestErrorsKeepTheirKind(t *testing.T) {
	for _, want := range []error{runtime.ErrNotFound, runtime.ErrAlreadyExists, runtime.ErrNotRunning} {
		client := serve(t, func(context.Context, string, json.RawMessage) (any, error) {
			return nil, fmt.Errorf("container x: %w", want)
		})
		err := client.Call(t.Context(), "m", nil, nil)
		if !errors.Is(err, want) || !strings.Contains(err.Error(), "container x") {
			t.Errorf("%v came as %v", want, err)
		}
	}
}

func TestAbandonedRequestIsCancelled(t *testing.T) {
	cancelled := make(chan struct{})
	client := serve(t, func(ctx context.Context, _ string, _ json.RawMessage) (any, error) {
		<-ctx.Done()
		close(cancelled)
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error, 1)
	go func() { errs <- client.Call(ctx, "m", nil, nil) }()
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	_ = client.Close()
	select {
	case <-cancelled:
	case <-time.After(10 * time.Second):
		t.Fatal("the handler still runs")
	}
	if err := client.Call(t.Context(), "m", nil, nil); !errors.Is(err, ErrDisconnected) {
		t.Errorf("after the end: %v", err)
	}
}

func TestHostileFrames(t *testing.T) {
	for name, frame := range map[string][]byte{
		"huge":    binary.BigEndian.AppendUint32(nil, 1<<31),
		"garbage": append(binary.BigEndian.AppendUint32(nil, 4), "nope"...),
	} {
		a, b := net.Pipe()
		go func() {
			_, _ = a.Write(frame)
			_ = a.Close()
		}()
		if _, err := readFrame(b); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if err := writeFrame(nil, envelope{Body: json.RawMessage(`"` + strings.Repeat("x", MaxFrame) + `"`)}); err == nil {
		t.Error("a message over the limit was sent")
	}
}

func TestRecords(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(RecordsDir(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	want := Record{ID: "a", Group: "g", Phase: runtime.PhaseExited, PID: 5, CreatedAt: now, Exit: &runtime.Exit{Code: 3, At: now}}
	if err := WriteRecord(dir, want); err != nil {
		t.Fatal(err)
	}
	got, err := ReadRecord(dir, "a")
	if err != nil || got.Exit == nil || *got.Exit != *want.Exit || !got.CreatedAt.Equal(now) || got.Group != "g" {
		t.Errorf("%+v, %v", got, err)
	}
	// A record that was cut, and a temporary file: the first is a container of which
	// nothing is known, the second is nothing.
	for name, text := range map[string]string{"b.json": `{"id":"b","gr`, ".c": `{}`} {
		if err := os.WriteFile(filepath.Join(RecordsDir(dir), name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all, err := Records(dir)
	if err != nil || len(all) != 2 || all[1].ID != "b" || all[1].Exit != nil {
		t.Errorf("%+v, %v", all, err)
	}
	for range 2 {
		if err := RemoveRecord(dir, "a"); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"a", "../a", ""} {
		if _, err := ReadRecord(dir, id); !errors.Is(err, runtime.ErrNotFound) {
			t.Errorf("id %q: %v", id, err)
		}
	}
}
