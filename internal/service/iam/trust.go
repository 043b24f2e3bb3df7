package iam

import (
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"longshore.dev/longshore/internal/policy"
	"longshore.dev/longshore/internal/store"
)

// trusted are the actions that a role's trust policy has to allow.
var trusted = map[string]bool{"sts:AssumeRole": true, "sts:TagSession": true, "sts:SetSourceIdentity": true}

// nobodysTrust stands for the trust policy of a role that does not exist: who asks is
// not told so.
const nobodysTrust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"nobody.invalid"},"Action":"sts:AssumeRole"}]}`

// Trust implements Holders.
func (s *Service) Trust(arn string) (*policy.Attached, map[string]string, error) {
	text, tags := nobodysTrust, map[string]string(nil)
	if role, _ := s.roleBy(s.snapshot(), arn); role != nil {
		text, tags = role.Trust, role.Tags
	}
	d, err := s.trusts.get(text)
	if err != nil {
		return nil, nil, fmt.Errorf("the role's trust policy cannot be read: %w", err)
	}
	return &policy.Attached{ID: arn, Document: d}, tags, nil
}

// roleBy returns the role of an ARN and its account, nil if there is none.
func (s *Service) roleBy(r store.Reader, arn string) (role *identity, account string) {
	kind, name, ok := splitIdentity(arn)
	if !ok || kind != "role" {
		return nil, ""
	}
	account = accountOf(arn, "")
	if len(account) != 12 || strings.Trim(account, "0123456789") != "" {
		return nil, ""
	}
	role, err := s.roles.get(r, accountScope(account), name)
	if err != nil || s.roles.arn(account, role) != arn {
		return nil, ""
	}
	return role, account
}

// Role describes the role of an ARN, nil if there is none.
func (s *Service) Role(arn string) *types.Role {
	role, account := s.roleBy(s.snapshot(), arn)
	if role == nil {
		return nil
	}
	shape := s.roleShape(account, role)
	return &shape
}

// HasPolicy tells whether an account has a managed policy, its own or one of AWS's.
func (s *Service) HasPolicy(account, arn string) bool {
	_, ok := s.policyBy(s.snapshot(), accountScope(account), arn)
	return ok
}
