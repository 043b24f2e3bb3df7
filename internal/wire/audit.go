package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/aws/smithy-go"
)

// NewAuditor returns an Auditor that writes one line per mutating call to w, as JSON:
// who did what to which resources, from where, through which services, and what came
// of it. Inputs are not written, as they may hold secrets.
//
// A line that cannot be written (a full disk) does not stop the call, which has been
// made by then: that lines are missing is said to log, and by the next line.
func NewAuditor(w io.Writer, log *slog.Logger) Auditor {
	kept := &auditFile{w: w, log: log}
	return &logAuditor{log: slog.New(slog.NewJSONHandler(kept, nil)), file: kept}
}

// Failed authentications that are written at once, and how many a second: nobody
// needs a key to cause them, and they must not push other lines out of the files.
const failuresBurst, failuresPerSecond = 100, 1

// What is written at most of one call's resources. Callers choose their names.
const auditResources, auditResourceBytes = 20, 512

type logAuditor struct {
	log  *slog.Logger
	file *auditFile

	mu       sync.Mutex
	failures bucket
	unsaid   int
}

// Record implements Auditor.
func (a *logAuditor) Record(ctx context.Context, c *Call, resources []string, err error) {
	a.write(ctx, c, resources, err)
}

// RecordFailure implements Auditor.
func (a *logAuditor) RecordFailure(ctx context.Context, c *Call, err error) {
	a.mu.Lock()
	if a.failures.filled.IsZero() {
		a.failures = bucket{tokens: failuresBurst, filled: c.Time, rate: Rate{PerSecond: failuresPerSecond, Burst: failuresBurst}}
	}
	a.failures.fill(c.Time)
	unsaid := a.unsaid
	if a.failures.tokens < 1 {
		a.unsaid++
		a.mu.Unlock()
		return
	}
	a.failures.tokens--
	a.unsaid = 0
	a.mu.Unlock()
	a.write(ctx, c, nil, err, slog.Int("failuresNotWritten", unsaid))
}

func (a *logAuditor) write(ctx context.Context, c *Call, resources []string, err error, more ...slog.Attr) {
	result := "ok"
	if err != nil {
		// The code alone: what an internal error says is in the server's log.
		result = "InternalFailure"
		var api smithy.APIError
		if errors.As(err, &api) {
			result = api.ErrorCode()
		}
	}
	attrs := append([]slog.Attr{
		slog.Time("received", c.Time),
		slog.String("request", c.RequestID),
		slog.String("account", c.Account),
		slog.String("region", clip(c.Region)),
		slog.String("action", c.Service+":"+clip(c.Operation)),
		slog.String("principal", c.Principal.ARN),
		slog.String("kind", string(c.Principal.Kind)),
		slog.String("accessKeyId", clip(c.Principal.AccessKeyID)),
		slog.String("source", c.SourceIP),
		slog.Any("via", c.Via),
		slog.Any("resources", auditedResources(resources)),
		slog.String("result", result),
	}, more...)
	if lost := a.file.takeLost(); lost > 0 {
		attrs = append(attrs, slog.Int("linesLostBefore", lost))
	}
	a.log.LogAttrs(ctx, slog.LevelInfo, "call", attrs...)
}

func auditedResources(resources []string) []string {
	some := slices.Clone(resources[:min(len(resources), auditResources)])
	for i, r := range some {
		if len(r) > auditResourceBytes {
			some[i] = strings.ToValidUTF8(r[:auditResourceBytes], "") + "…"
		}
	}
	if more := len(resources) - len(some); more > 0 {
		some = append(some, fmt.Sprintf("and %d more", more))
	}
	return some
}

// auditFile counts the lines that could not be written.
type auditFile struct {
	w   io.Writer
	log *slog.Logger

	mu   sync.Mutex
	lost int
	said bool
	// torn tells that a line was written in part.
	torn bool
}

// Write implements io.Writer.
func (f *auditFile) Write(line []byte) (int, error) {
	f.mu.Lock()
	if f.torn {
		line = append([]byte{'\n'}, line...)
	}
	n, err := f.w.Write(line)
	first := err != nil && !f.said
	f.said = err != nil
	f.torn = err != nil && (f.torn || n > 0)
	if err != nil {
		f.lost++
	}
	f.mu.Unlock()
	if first {
		f.log.Error("the audit log cannot be written: calls go on, and what they did is not recorded", "error", err)
	}
	return n, err
}

// takeLost returns how many lines were lost; the caller says so.
func (f *auditFile) takeLost() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.said {
		return 0 // it would be lost as well
	}
	lost := f.lost
	f.lost = 0
	return lost
}
