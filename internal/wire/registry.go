package wire

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// Protocol is one of AWS's wire protocols.
type Protocol string

// The protocols served.
const (
	AWSJSON10 Protocol = "awsJson1_0"
	AWSJSON11 Protocol = "awsJson1_1"
	AWSQuery  Protocol = "awsQuery"
	RestJSON1 Protocol = "restJson1"
	RPCV2CBOR Protocol = "rpcv2Cbor"
)

// ServiceInfo describes one AWS service as it is served.
type ServiceInfo struct {
	// Name is the name of the service's published model: "ecs", "logs", "sts".
	Name string
	// SigningName is the service in the signature's credential scope.
	SigningName string
	// IAMPrefix prefixes IAM actions ("ecs" in "ecs:RunTask"); empty means SigningName.
	IAMPrefix string
	// Protocols served, the preferred one first.
	Protocols []Protocol
	// TargetPrefix is the part of X-Amz-Target before the dot (awsJson).
	TargetPrefix string
	// APIVersion and XMLNamespace belong to awsQuery.
	APIVersion   string
	XMLNamespace string
	// LowerCamel tells the wire name of a member: the Go field's name with its
	// first letter lowered, or (false) the Go field's name.
	LowerCamel bool
	// ErrorCodes maps an exception's shape name to its wire code and status
	// where the model says that they differ from (shape name, 400 or 500).
	ErrorCodes map[string]ErrorCode
	// QueryErrors makes JSON and CBOR errors carry x-amzn-query-error, for the
	// services that began with awsQuery (sqs, cloudwatch).
	QueryErrors bool
	// Unions lists a nil pointer to every variant of the union types that the
	// registered operations reach: (*types.SharingStrategyMemberNvidiaMps)(nil).
	// Handle panics when one is missing.
	Unions []any
	// NewDocument makes the service's document type from a Go value (ecs's
	// document.NewLazyDocument); nil for a service without documents.
	NewDocument func(v any) any
	// ResourceConditions returns the condition keys that hold for a resource of the
	// service whatever is done with it: its tags. May be nil.
	ResourceConditions func(ctx context.Context, arn string) map[string][]string
	// Knows tells whether AWS's API has an operation of this name, so that a
	// caller of one that is missing here is told so. May be nil.
	Knows func(operation string) bool
	// MaxBodyBytes bounds a request's body, inflated; 0 means DefaultMaxBodyBytes.
	MaxBodyBytes int64
}

// ErrorCode is an exception's wire form.
type ErrorCode struct {
	Code   string
	Status int
}

// Operation describes one operation of a service: what IAM is asked, and how it
// is treated on its way.
type Operation[I any] struct {
	// Name is the API's name: "RunTask".
	Name string
	// Action is the IAM action; empty means IAMPrefix:Name.
	Action string
	// ReadOnly operations are not written to the audit log.
	ReadOnly bool
	// Resources returns the ARNs on which the action is authorised. Nil means "*".
	Resources func(ctx context.Context, in *I) []string
	// Conditions returns the condition keys of the service that hold for this
	// call ("ecs:cluster" → ARNs). Nil means none.
	Conditions func(ctx context.Context, in *I) map[string][]string
	// Also returns what the caller needs besides: iam:PassRole on the roles that it
	// hands over, the tagging action for what it makes with tags. Nil means nothing.
	Also func(ctx context.Context, in *I) []Permission
	// Method and Path bind a restJson1 operation ("POST", "/v1/submitjob"); a
	// path segment in braces binds the member of that name.
	Method string
	Path   string
	// Query names the members that a restJson1 operation takes from the query
	// string ("tagKeys").
	Query []string
}

// Permission is an action on resources, each of which has to be allowed.
type Permission struct {
	Action string
	// Resources are ARNs; none means "*".
	Resources  []string
	Conditions map[string][]string
}

// PassRole is the permission to hand roles over to a service ("ec2.amazonaws.com").
func PassRole(service string, roles ...string) Permission {
	return Permission{Action: "iam:PassRole", Resources: roles, Conditions: map[string][]string{"iam:PassedToService": {service}}}
}

// Credential is what an access key id stands for.
type Credential struct {
	SecretAccessKey string
	Principal       Principal
}

// ErrNoCredential says that no credential has the access key id and session token
// asked for, and ErrExpiredCredential that it was a temporary one and is over.
var (
	ErrNoCredential      = errors.New("wire: no such credential")
	ErrExpiredCredential = errors.New("wire: credential expired")
)

// CredentialSource finds credentials. sessionToken is empty for a long-lived key; it
// comes from the client as it is. An access key id that is unknown, or that the token
// does not belong to, is ErrNoCredential, one whose time is over ErrExpiredCredential.
type CredentialSource interface {
	Credential(ctx context.Context, accessKeyID, sessionToken string) (Credential, error)
}

// AuthorizationRequest is one question to the Authorizer. A call may need several
// permissions, and then asks as many.
type AuthorizationRequest struct {
	Call *Call
	// Action, Resources (at least one, "*" for none) and Conditions, the condition
	// keys of the call.
	Action     string
	Resources  []string
	Conditions map[string][]string
	// OnResource returns the condition keys of one of the resources; nil means none.
	OnResource func(arn string) map[string][]string
	// Input is the operation's decoded input, for authorisers that know the
	// operation (node credentials are checked against the records they name).
	Input any
}

// Authorizer decides whether a call may go on. A refusal is an
// AccessDeniedException that names the principal, the action and the resource.
type Authorizer interface {
	Authorize(ctx context.Context, req *AuthorizationRequest) error
}

// Throttler admits a call or refuses it with a ThrottlingException.
type Throttler interface {
	Admit(ctx context.Context, c *Call) error
}

// Auditor records the result of every mutating call. It never sees the input's
// secrets: only the call, the resources and the error.
type Auditor interface {
	Record(ctx context.Context, c *Call, resources []string, err error)
	// RecordFailure records that a caller could not be authenticated. Of the call's
	// principal only the access key id is known, and that is only what the caller said.
	RecordFailure(ctx context.Context, c *Call, err error)
}

// Chain is what every call passes before its operation runs.
type Chain struct {
	Credentials CredentialSource
	// Constraints checks an input against the published model's constraints
	// (required, length, range, pattern, enum). Nil checks nothing.
	//
	// present answers what a Go value cannot tell: whether a required scalar
	// without a pointer that is zero (false, 0) was given by the client. Its
	// path is the one that AWS's validation messages use: members by their wire
	// names joined with dots, ".N.member" for the N-th list element counted from
	// 1, ".KEY.member" for a map's value ("tags.2.member.key"). present is nil
	// for a call from another room, whose zeros all count as given.
	Constraints func(service, operation string, in any, present func(path string) bool) error
	Authorizer  Authorizer
	// Throttler and Auditor may be nil.
	Throttler Throttler
	Auditor   Auditor
	Now       func() time.Time
	NewID     func() string
	Log       *slog.Logger
}
