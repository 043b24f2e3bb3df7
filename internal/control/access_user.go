package control

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/iam"

	"longshore.dev/longshore/internal/wire"
)

// UserOptions say which user is to be made.
type UserOptions struct {
	Name string `json:"name"`
	// Policies are ARNs of managed policies; what is no ARN is the name of one of AWS's.
	Policies []string `json:"policies,omitempty"`
	// Document is the text of a policy to embed; empty for none.
	Document string `json:"document,omitempty"`
}

// MadeUser is a new user with its access key, whose secret is shown this once.
type MadeUser struct {
	ARN             string `json:"arn"`
	AccessKeyID     string `json:"accessKeyId"`
	SecretAccessKey string `json:"secretAccessKey"`
}

// maxAccessPolicies is how many managed policies a user may have.
const maxAccessPolicies = 10

// embeddedPolicy is what the policy of UserOptions.Document is called.
const embeddedPolicy = "access"

// createUser makes a user that has its policies and a key, or none at all. Each step is
// a call of IAM's as the caller.
func (s *Server) createUser(ctx context.Context, _ *http.Request, body []byte) (adminAnswer, error) {
	var in UserOptions
	switch err := json.Unmarshal(body, &in); {
	case err != nil:
		return adminAnswer{}, wire.Errorf("SerializationException", "The request is not JSON.")
	case len(in.Policies) == 0 && in.Document == "":
		return adminAnswer{}, wire.Errorf("ValidationException", "A user without a policy can do nothing: name one.")
	case len(in.Policies) > maxAccessPolicies:
		return adminAnswer{}, wire.Errorf("ValidationException", "A user can have at most %d managed policies.", maxAccessPolicies)
	}
	made, err := invokeIAM[iam.CreateUserInput, iam.CreateUserOutput](ctx, s, "CreateUser", &iam.CreateUserInput{UserName: &in.Name})
	if err != nil {
		return adminAnswer{}, err
	}
	key, err := s.equip(ctx, &in)
	if err != nil {
		return adminAnswer{}, errors.Join(err, s.dropUser(ctx, &in))
	}
	return adminAnswer{User: &MadeUser{ARN: *made.User.Arn, AccessKeyID: *key.AccessKey.AccessKeyId, SecretAccessKey: *key.AccessKey.SecretAccessKey}}, nil
}

// equip gives a new user its policies, and then a key.
func (s *Server) equip(ctx context.Context, in *UserOptions) (*iam.CreateAccessKeyOutput, error) {
	for _, p := range in.Policies {
		arn := policyARN(p)
		if _, err := invokeIAM[iam.AttachUserPolicyInput, iam.AttachUserPolicyOutput](ctx, s, "AttachUserPolicy",
			&iam.AttachUserPolicyInput{UserName: &in.Name, PolicyArn: &arn}); err != nil {
			return nil, err
		}
	}
	if in.Document != "" {
		name := embeddedPolicy
		if _, err := invokeIAM[iam.PutUserPolicyInput, iam.PutUserPolicyOutput](ctx, s, "PutUserPolicy",
			&iam.PutUserPolicyInput{UserName: &in.Name, PolicyName: &name, PolicyDocument: &in.Document}); err != nil {
			return nil, err
		}
	}
	return invokeIAM[iam.CreateAccessKeyInput, iam.CreateAccessKeyOutput](ctx, s, "CreateAccessKey", &iam.CreateAccessKeyInput{UserName: &in.Name})
}

// dropUser takes back what createUser has made so far.
func (s *Server) dropUser(ctx context.Context, in *UserOptions) error {
	ctx = context.WithoutCancel(ctx)
	for _, p := range in.Policies {
		arn := policyARN(p)
		// What was not attached yet is refused.
		_, _ = invokeIAM[iam.DetachUserPolicyInput, iam.DetachUserPolicyOutput](ctx, s, "DetachUserPolicy",
			&iam.DetachUserPolicyInput{UserName: &in.Name, PolicyArn: &arn})
	}
	name := embeddedPolicy
	_, _ = invokeIAM[iam.DeleteUserPolicyInput, iam.DeleteUserPolicyOutput](ctx, s, "DeleteUserPolicy",
		&iam.DeleteUserPolicyInput{UserName: &in.Name, PolicyName: &name})
	_, err := invokeIAM[iam.DeleteUserInput, iam.DeleteUserOutput](ctx, s, "DeleteUser", &iam.DeleteUserInput{UserName: &in.Name})
	return err
}

func policyARN(p string) string {
	if strings.HasPrefix(p, "arn:") {
		return p
	}
	return "arn:aws:iam::aws:policy/" + p
}

// invokeIAM calls an operation of IAM's as the caller of the operation at hand.
func invokeIAM[I, O any](ctx context.Context, s *Server, operation string, in *I) (*O, error) {
	call := wire.CallFrom(ctx)
	return wire.Invoke[I, O](ctx, s.registry, call.Principal, call.Account, call.Region, "iam", operation, in)
}
