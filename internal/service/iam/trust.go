package iam

import (
	"cmp"
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

// settleTrust checks a trust policy and names the users and roles in it by ID: who is
// made later under the name of one that was deleted is not trusted. It returns the
// accounts of the IDs too.
func (s *Service) settleTrust(account, text string) (settled string, trustedIn map[string]string, err error) {
	d, err := policy.Parse([]byte(text), policy.Trust)
	if err != nil {
		return "", nil, errDocument("%s", err.Error())
	}
	if sizeOf(text) > maxTrust {
		return "", nil, errLimit("Cannot exceed quota for ACLSizePerRole: %d", maxTrust)
	}
	r := s.snapshot()
	settled = d.Renamed(text, func(name string) string {
		if strings.HasPrefix(name, "arn:") && strings.Split(name, ":")[2] == "sts" {
			return name // a session is named by what it is called
		}
		i, in := s.trustee(r, account, name)
		if i == nil {
			err = cmp.Or(err, errDocument(`Invalid principal in policy: "AWS":%q`, name))
			return name
		}
		if trustedIn == nil {
			trustedIn = map[string]string{}
		}
		trustedIn[i.ID] = in
		return i.ID
	})
	return settled, trustedIn, err
}

// trustee finds a user or role and its account by ARN, or by ID in the role's account.
func (s *Service) trustee(r store.Reader, account, name string) (*identity, string) {
	for _, b := range []*book{s.users, s.roles} {
		if !strings.HasPrefix(name, "arn:") {
			if i := b.find(r, accountScope(account), name); i != nil {
				return i, account
			}
			continue
		}
		in := accountOf(name, "")
		_, short, _ := splitIdentity(name)
		if i, err := b.get(r, accountScope(in), short); err == nil && b.arn(in, i) == name {
			return i, in
		}
	}
	return nil, ""
}

// shownTrust is a role's trust policy as it is shown: by ARN where the ID still is
// somebody's.
func (s *Service) shownTrust(role *identity) string {
	if len(role.TrustedIn) == 0 {
		return role.Trust
	}
	d, err := s.trusts.get(role.Trust)
	if err != nil {
		return role.Trust
	}
	r := s.snapshot()
	return d.Renamed(role.Trust, func(name string) string {
		for _, b := range []*book{s.users, s.roles} {
			if in, ok := role.TrustedIn[name]; ok {
				if i := b.find(r, accountScope(in), name); i != nil {
					return b.arn(in, i)
				}
			}
		}
		return name
	})
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
