package wire

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/smithy-go"
)

// PrincipalKind tells what kind of party makes a call.
type PrincipalKind string

// The kinds of principal.
const (
	// PrincipalRoot is an account's root user.
	PrincipalRoot PrincipalKind = "root"
	// PrincipalUser is a user of IAM: its UserID is what its policies are found by.
	PrincipalUser PrincipalKind = "user"
	// PrincipalRole is a session of a role: its Session's RoleID is what its policies
	// are found by.
	PrincipalRole PrincipalKind = "role"
	// PrincipalNode is the agent of one node: it may act for its own container
	// instances and their tasks only.
	PrincipalNode PrincipalKind = "node"
	// PrincipalService is one of Longshore's own rooms acting by itself, under the
	// name that AWS gives the service. It has no policies: it may do what the policy
	// of a resource lets it, which is to assume the roles that trust it.
	PrincipalService PrincipalKind = "service"
)

// Principal is the authenticated party that makes a call.
type Principal struct {
	Kind PrincipalKind
	// AccountID is the 12-digit account that the principal belongs to.
	AccountID string
	// ARN as GetCallerIdentity reports it.
	ARN string
	// UserID as GetCallerIdentity reports it (the account id for root).
	UserID string
	// AccessKeyID that signed the call; empty for in-process calls.
	AccessKeyID string
	// NodeID names the node of a PrincipalNode; empty otherwise.
	NodeID string
	// SourceARN is the resource for which a PrincipalService acts, which belongs to
	// SourceAccount; empty otherwise.
	SourceARN     string
	SourceAccount string
	// Session is what temporary credentials bring with them; nil for others. It is
	// shared and must not be changed.
	Session *Session
}

// MaxSessionToken bounds a session token, in bytes. With its packed policies and tags
// bounded no session comes near.
const MaxSessionToken = 32 << 10

// Session is what temporary credentials are bound to, from when they are issued.
type Session struct {
	// RoleID and RoleARN of a role's session. The ARN is the role's own, with its path.
	RoleID  string
	RoleARN string
	// Name of a role's session; empty for others.
	Name      string
	IssuedAt  time.Time
	ExpiresAt time.Time
	// Policy is the text of the inline session policy, PolicyARNs the managed ones;
	// none of both does not limit the session.
	Policy     string
	PolicyARNs []string
	// Tags are the session's, Transitive the keys of those that a session keeps which
	// is assumed from this one.
	Tags           map[string]string
	Transitive     []string
	SourceIdentity string
	// Chained tells that a role's session assumed the role.
	Chained bool
}

// ServicePrincipal is the service of a name ("ecs-tasks.amazonaws.com") that acts for
// a resource of an account, which trust policies see as aws:SourceArn and
// aws:SourceAccount.
func ServicePrincipal(service, account, sourceARN string) Principal {
	return Principal{
		Kind: PrincipalService, AccountID: account, ARN: service, UserID: service,
		SourceARN: sourceARN, SourceAccount: account,
	}
}

// Call is what is known of one call besides its input. It travels in the
// context of every operation.
type Call struct {
	RequestID string
	// Account and Region that the call acts in: the principal's account, and
	// the region of the signature's credential scope.
	Account string
	Region  string
	// Service is the ServiceInfo.Name ("ecs"), Operation the API's name ("RunTask").
	Service   string
	Operation string
	Principal Principal
	// SourceIP is the peer's address, empty for in-process calls.
	SourceIP string
	// Endpoint is the base URL by which the caller reached the server (its host is
	// signed), empty for in-process calls.
	Endpoint string
	// Secure tells that the call came over TLS, or did not leave the server.
	Secure bool
	// UserAgent is what the client calls itself, empty for in-process calls.
	UserAgent string
	// Via are the services through which the call came ("ecs.amazonaws.com"), the one
	// that the client called first; empty for a client's own call.
	Via []string
	// Time is when the call was received.
	Time time.Time
}

type callKey struct{}

// WithCall returns a context that carries c.
func WithCall(ctx context.Context, c *Call) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

// CallFrom returns the call that ctx belongs to. It panics outside of a call:
// an operation that runs without a principal is a programming error.
func CallFrom(ctx context.Context) *Call {
	c, ok := ctx.Value(callKey{}).(*Call)
	if !ok {
		panic("wire: no call in context")
	}
	return c
}

// Error is an API error without an SDK type of its own. Rooms return the SDK's
// typed exceptions where there is one; any error that implements
// smithy.APIError is answered by its code and message.
type Error struct {
	// Code is the wire code, for example "ValidationException".
	Code    string
	Message string
	// Status is the HTTP status; 0 means 400.
	Status int
}

// Errorf returns an Error with the HTTP status 400.
func Errorf(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Error implements error.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// ErrorCode implements smithy.APIError.
func (e *Error) ErrorCode() string { return e.Code }

// ErrorMessage implements smithy.APIError.
func (e *Error) ErrorMessage() string { return e.Message }

// ErrorFault implements smithy.APIError.
func (e *Error) ErrorFault() smithy.ErrorFault {
	if e.Status >= 500 {
		return smithy.FaultServer
	}
	return smithy.FaultClient
}

var _ smithy.APIError = (*Error)(nil)
