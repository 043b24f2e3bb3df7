package sts

import (
	"context"
	_ "embed" // operations.txt
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"

	"longshore.dev/longshore/internal/wire"
)

//go:embed operations.txt
var operations string

// Roles is what STS needs of IAM.
type Roles interface {
	// Role describes the role of an ARN, nil if there is none.
	Role(arn string) *types.Role
	// HasPolicy tells whether an account has a managed policy.
	HasPolicy(account, arn string) bool
	// KeyAccount is the account of a long-lived access key, empty if there is none.
	KeyAccount(accessKeyID string) string
	// Issue makes credentials for a principal with a Session. Those of a user or root
	// user end with the access key that the principal has.
	Issue(ctx context.Context, p wire.Principal) (*ststypes.Credentials, error)
}

// Deps is what the room needs; all is required.
type Deps struct {
	Roles Roles
	Now   func() time.Time
}

// Service is the STS room. It has no state.
type Service struct{ deps Deps }

// New builds the room.
func New(deps Deps) *Service { return &Service{deps} }

// errorCodes are the wire codes of exceptions.
var errorCodes = map[string]wire.ErrorCode{
	"MalformedPolicyDocumentException": {Code: "MalformedPolicyDocument"},
	"PackedPolicyTooLargeException":    {Code: "PackedPolicyTooLarge"},
}

// Register registers the room's operations.
func (s *Service) Register(r *wire.Registry) {
	service := r.Add(wire.ServiceInfo{
		Name: "sts", SigningName: "sts", Protocols: []wire.Protocol{wire.AWSQuery},
		APIVersion: "2011-06-15", XMLNamespace: "https://sts.amazonaws.com/doc/2011-06-15/", ErrorCodes: errorCodes,
		Knows: func(operation string) bool { return strings.Contains("\n"+operations, "\n"+operation+" ") },
	})
	wire.Handle(service, wire.Operation[sts.GetCallerIdentityInput]{Name: "GetCallerIdentity", ReadOnly: true}, s.GetCallerIdentity)
	wire.Handle(service, wire.Operation[sts.AssumeRoleInput]{
		Name: "AssumeRole", Resources: theRole, Conditions: assumeConditions, Also: alsoToAssume,
	}, s.AssumeRole)
	wire.Handle(service, wire.Operation[sts.GetSessionTokenInput]{Name: "GetSessionToken"}, s.GetSessionToken)
	wire.Handle(service, wire.Operation[sts.GetAccessKeyInfoInput]{Name: "GetAccessKeyInfo", ReadOnly: true}, s.GetAccessKeyInfo)
}

// GetCallerIdentity returns who signed the call.
func (s *Service) GetCallerIdentity(ctx context.Context, _ *sts.GetCallerIdentityInput) (*sts.GetCallerIdentityOutput, error) {
	p := wire.CallFrom(ctx).Principal
	return &sts.GetCallerIdentityOutput{Account: &p.AccountID, Arn: &p.ARN, UserId: &p.UserID}, nil
}

// GetAccessKeyInfo tells what account a long-lived access key belongs to.
func (s *Service) GetAccessKeyInfo(_ context.Context, in *sts.GetAccessKeyInfoInput) (*sts.GetAccessKeyInfoOutput, error) {
	account := s.deps.Roles.KeyAccount(*in.AccessKeyId)
	if account == "" {
		return nil, errInvalid("No account is known for the access key %s.", *in.AccessKeyId)
	}
	return &sts.GetAccessKeyInfoOutput{Account: &account}, nil
}

func errDenied(message string) error {
	return &wire.Error{Code: "AccessDeniedException", Message: message, Status: http.StatusForbidden}
}

// errNoSecondFactor answers who presents a code of an MFA device: there are none here.
var errNoSecondFactor = errDenied("MultiFactorAuthentication failed with invalid MFA one time pass code.")

func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
