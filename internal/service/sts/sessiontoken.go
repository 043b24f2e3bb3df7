package sts

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sts"

	"longshore.dev/longshore/internal/wire"
)

// How long the sessions of users and root users last, in seconds.
const (
	userSession = 43200
	rootSession = 3600
)

// GetSessionToken gives a user, or a root user, temporary credentials of its own.
func (s *Service) GetSessionToken(ctx context.Context, in *sts.GetSessionTokenInput) (*sts.GetSessionTokenOutput, error) {
	p := wire.CallFrom(ctx).Principal
	lasts := or(in.DurationSeconds, userSession)
	switch {
	case p.Session != nil:
		return nil, errDenied("Cannot call GetSessionToken with session credentials")
	case p.Kind == wire.PrincipalRoot:
		lasts = min(lasts, rootSession) // AWS shortens it
	case p.Kind != wire.PrincipalUser:
		return nil, errDenied("User: " + p.ARN + " is not authorized to perform: sts:GetSessionToken")
	}
	if in.SerialNumber != nil || in.TokenCode != nil {
		return nil, errNoSecondFactor
	}
	p.Session = s.session(lasts)
	credentials, err := s.deps.Roles.Issue(ctx, p)
	if err != nil {
		return nil, err
	}
	return &sts.GetSessionTokenOutput{Credentials: credentials}, nil
}

// session begins now and lasts some seconds. Its times are whole seconds, as
// policies and answers show them.
func (s *Service) session(seconds int32) *wire.Session {
	now := s.deps.Now().UTC().Truncate(time.Second)
	return &wire.Session{IssuedAt: now, ExpiresAt: now.Add(time.Duration(seconds) * time.Second)}
}
