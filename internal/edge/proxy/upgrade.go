package proxy

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// upgrade makes the two connections one, as for WebSocket, until one side is done.
func (x *exchange) upgrade(fl *flight, res *http.Response) {
	target, ok := res.Body.(io.ReadWriteCloser)
	if wanted := x.r.Header.Get("Upgrade"); !ok || wanted == "" || !strings.EqualFold(wanted, res.Header.Get("Upgrade")) {
		x.closing = true
		x.fail(http.StatusBadGateway)
		return
	}
	client, buffered, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		x.fail(http.StatusBadGateway)
		return
	}
	defer x.f.left(x.c.counters)
	defer client.Close()
	stop := context.AfterFunc(x.r.Context(), func() { client.Close(); target.Close() })
	defer stop()
	fl.mu.Lock()
	cut := fl.cause != nil
	fl.onCut = func(*flight) { client.Close(); target.Close() }
	fl.mu.Unlock()
	if cut {
		return
	}
	// The HTTP server's deadlines end with its part.
	_ = client.SetDeadline(time.Time{})
	for name, values := range x.cookies {
		res.Header[name] = append(res.Header[name], values...)
	}
	res.Body = nil
	if err := res.Write(buffered); err != nil {
		return
	}
	if err := buffered.Flush(); err != nil {
		return
	}
	x.c.counters.bytes.Add(pipe(fl, client, buffered, target))
}

// pipe copies both ways until both sides are done, or one fails. fromClient may hold what
// the client has sent already.
func pipe(fl *flight, client net.Conn, fromClient io.Reader, target io.ReadWriteCloser) int64 {
	var both sync.WaitGroup
	var up, down int64
	both.Go(func() { up = pass(fl, target, fromClient, client) })
	down = pass(fl, client, target, target)
	both.Wait()
	return up + down
}

// pass copies one way, and passes the end on: where only one half can be closed, the
// other goes on.
func pass(fl *flight, to io.WriteCloser, from io.Reader, source io.Closer) (sent int64) {
	buffer := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buffer)
	for {
		n, err := from.Read(buffer[:])
		fl.touch()
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				source.Close()
				to.Close()
				return sent
			}
			sent += int64(n)
			fl.touch()
		}
		if err == nil {
			continue
		}
		if half, ok := to.(interface{ CloseWrite() error }); ok && err == io.EOF {
			_ = half.CloseWrite()
		} else {
			to.Close()
		}
		return sent
	}
}
