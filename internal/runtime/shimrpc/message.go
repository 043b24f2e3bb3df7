package shimrpc

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"longshore.dev/longshore/internal/runtime"
)

// MaxFrame bounds a message. A Spec's environment is its largest part.
const MaxFrame = 8 << 20

// Methods that the shim serves. Their bodies are the types named beside them.
const (
	MethodCreate   = "create" // CreateRequest → nothing
	MethodStart    = "start"  // IDRequest → nothing
	MethodSignal   = "signal" // SignalRequest → nothing
	MethodWait     = "wait"   // IDRequest → runtime.Exit
	MethodStatus   = "status" // IDRequest → Record
	MethodStats    = "stats"  // IDRequest → runtime.Stats
	MethodExec     = "exec"   // ExecRequest → runtime.ExecResult
	MethodDelete   = "delete" // IDRequest → DeleteReply
	MethodShutdown = "shutdown"
	MethodPing     = "ping" // nothing → nothing, at once
	// MethodRestore makes the shim write those records of its containers again that
	// are missing on disk or are not its own, after what it was asked before.
	MethodRestore = "restore"
)

// CreateRequest asks for a container.
type CreateRequest struct {
	Spec runtime.Spec `json:"spec"`
}

// IDRequest names a container.
type IDRequest struct {
	ID string `json:"id"`
}

// SignalRequest asks to send a signal.
type SignalRequest struct {
	ID     string `json:"id"`
	Signal int    `json:"signal"`
	All    bool   `json:"all"`
}

// ExecRequest asks to run a process in a container.
type ExecRequest struct {
	ID   string           `json:"id"`
	Spec runtime.ExecSpec `json:"spec"`
}

// DeleteReply answers a delete. Last tells that the shim now ends, with its cgroup.
type DeleteReply struct {
	Last bool `json:"last"`
}

// The codes of an Error: the contract's errors, by name.
const (
	codeNotFound      = "not-found"
	codeAlreadyExists = "already-exists"
	codeNotRunning    = "not-running"
	codeOther         = "error"
)

// Error is how a shim's error travels.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// Unwrap gives the contract's error back.
func (e *Error) Unwrap() error {
	switch e.Code {
	case codeNotFound:
		return runtime.ErrNotFound
	case codeAlreadyExists:
		return runtime.ErrAlreadyExists
	case codeNotRunning:
		return runtime.ErrNotRunning
	}
	return nil
}

func wireError(err error) *Error {
	e := &Error{Code: codeOther, Message: err.Error()}
	switch {
	case errors.Is(err, runtime.ErrNotFound):
		e.Code = codeNotFound
	case errors.Is(err, runtime.ErrAlreadyExists):
		e.Code = codeAlreadyExists
	case errors.Is(err, runtime.ErrNotRunning):
		e.Code = codeNotRunning
	}
	return e
}

// envelope is one frame: a request has a method, an answer has none.
type envelope struct {
	ID     uint64          `json:"id"`
	Method string          `json:"method,omitempty"`
	Err    *Error          `json:"err,omitempty"`
	Body   json.RawMessage `json:"body,omitempty"`
}

func writeFrame(w io.Writer, e envelope) error {
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	if len(data) > MaxFrame {
		return fmt.Errorf("a message of %d bytes is over the limit of %d", len(data), MaxFrame)
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, len(data)+4), uint32(len(data)))
	_, err = w.Write(append(frame, data...))
	return err
}

func readFrame(r io.Reader) (envelope, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return envelope{}, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > MaxFrame {
		return envelope{}, fmt.Errorf("a message of %d bytes is over the limit of %d", size, MaxFrame)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return envelope{}, err
	}
	var e envelope
	if err := json.Unmarshal(data, &e); err != nil {
		return envelope{}, fmt.Errorf("decode message: %w", err)
	}
	return e, nil
}

// Config is what a shim is told on its command line: no secrets.
type Config struct {
	// Group is empty for a spare shim: its first container tells it.
	Group    string `json:"group"`
	Node     string `json:"node"`
	RunDir   string `json:"runDir"`
	StateDir string `json:"stateDir"`
	// Runner is the path of the runner's executable, mounted as a container's init.
	Runner string `json:"runner"`
}

// IdleExit is how long a shim waits for its first connection.
const IdleExit = 30 * time.Second
