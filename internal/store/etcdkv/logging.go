package etcdkv

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// etcdLog is etcd's logger: warnings go to slog, less is dropped, and what
// would end or panic the process ends only the goroutine and is reported.
type etcdLog struct {
	zapcore.LevelEnabler
	log    *slog.Logger
	fields []zapcore.Field
	quiet  *atomic.Bool // while closing, complaints are expected
}

func newEtcdLogger(log *slog.Logger, quiet *atomic.Bool, fatal func(error)) *zap.Logger {
	core := &etcdLog{LevelEnabler: zapcore.WarnLevel, log: log, quiet: quiet}
	hook := fatalHook{fatal}
	return zap.New(core, zap.WithFatalHook(hook), zap.WithPanicHook(hook))
}

func (l *etcdLog) With(fields []zapcore.Field) zapcore.Core {
	c := *l
	c.fields = append(append([]zapcore.Field(nil), l.fields...), fields...)
	return &c
}

func (l *etcdLog) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if l.Enabled(e.Level) {
		return ce.AddCore(e, l)
	}
	return ce
}

// expected are complaints of every start that are about choices of ours: a
// member without listeners and without users, larger transactions than etcd
// recommends, and a database that has no term before its first commit.
var expected = []string{
	"Running http and grpc server on single port",
	"simple token is not cryptographically signed",
	"exceeded recommended request limit",
	"Failed to detect schema version",
	"failed to update storage version",
}

func (l *etcdLog) Write(e zapcore.Entry, fields []zapcore.Field) error {
	if l.quiet.Load() || containsAny(e.Message, expected...) {
		return nil
	}
	level := slog.LevelWarn
	if e.Level > zapcore.WarnLevel {
		level = slog.LevelError
	}
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range append(append([]zapcore.Field(nil), l.fields...), fields...) {
		f.AddTo(enc)
	}
	attrs := make([]slog.Attr, 0, len(enc.Fields))
	for k, v := range enc.Fields {
		attrs = append(attrs, slog.Any(k, v))
	}
	l.log.LogAttrs(context.Background(), level, "etcd: "+e.Message, attrs...)
	return nil
}

func (l *etcdLog) Sync() error { return nil }

// fatalHook reports and ends the goroutine in place of the process: its callers
// never see the state after the failure.
type fatalHook struct{ report func(error) }

func (h fatalHook) OnWrite(e *zapcore.CheckedEntry, fields []zapcore.Field) {
	err := fmt.Errorf("%s", e.Message)
	for _, f := range fields {
		if cause, ok := f.Interface.(error); ok && f.Type == zapcore.ErrorType {
			err = fmt.Errorf("%s: %w", e.Message, cause)
		}
	}
	h.report(err)
	runtime.Goexit()
}

func containsAny(s string, parts ...string) bool {
	for _, p := range parts {
		if strings.Contains(s, p) {
			return true
		}
	}
	return false
}
