package wire

import (
	"context"
	"errors"
	"log/slog"

	"github.com/aws/smithy-go"
)

// NewAuditor returns an Auditor that writes one line per mutating call to
// log: who did what to which resources, from where, and what came of it. Inputs
// are not written, as they may hold secrets.
func NewAuditor(log *slog.Logger) Auditor { return logAuditor{log} }

type logAuditor struct{ log *slog.Logger }

// Record implements Auditor.
func (a logAuditor) Record(ctx context.Context, c *Call, resources []string, err error) {
	result := "ok"
	if err != nil {
		// The code alone: what an internal error says is in the server's log.
		result = "InternalFailure"
		var api smithy.APIError
		if errors.As(err, &api) {
			result = api.ErrorCode()
		}
	}
	a.log.LogAttrs(ctx, slog.LevelInfo, "call",
		slog.Time("received", c.Time),
		slog.String("request", c.RequestID),
		slog.String("account", c.Account),
		slog.String("region", c.Region),
		slog.String("action", c.Service+":"+c.Operation),
		slog.String("principal", c.Principal.ARN),
		slog.String("kind", string(c.Principal.Kind)),
		slog.String("accessKeyId", c.Principal.AccessKeyID),
		slog.String("source", c.SourceIP),
		slog.Any("resources", resources),
		slog.String("result", result),
	)
}
