package iam

import (
	"context"
	"iter"

	api "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"longshore.dev/longshore/internal/store"
)

// accountRecord is what an account has once; its id is accountID.
type accountRecord struct {
	Alias    string                `json:"alias,omitempty"`
	Password *types.PasswordPolicy `json:"password,omitempty"`
}

const accountID = "account"

// alias is stored under the account's alias, outside of any account, so that no two
// accounts have the same.
type alias struct {
	Account string `json:"account"`
}

func (s *Service) account(r store.Reader, sc store.Scope) *accountRecord {
	if a, ok := s.accounts.Get(r, sc, accountID); ok {
		return a
	}
	return &accountRecord{}
}

func (s *Service) editAccount(ctx context.Context, fn func(tx *store.Tx, sc store.Scope, a *accountRecord) error) error {
	return s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		a := s.accounts.Clone(s.account(tx, sc))
		if err := fn(tx, sc, a); err != nil {
			return err
		}
		s.accounts.Put(tx, sc, accountID, a)
		return nil
	})
}

// CreateAccountAlias gives the account an alias, in place of the one that it has.
func (s *Service) CreateAccountAlias(ctx context.Context, in *api.CreateAccountAliasInput) (*api.CreateAccountAliasOutput, error) {
	name := deref(in.AccountAlias)
	return nil, s.editAccount(ctx, func(tx *store.Tx, sc store.Scope, a *accountRecord) error {
		if _, taken := s.aliases.Get(tx, store.Scope{}, name); taken {
			return errExists("The account alias %s already exists.", name)
		}
		if a.Alias != "" {
			s.aliases.Delete(tx, store.Scope{}, a.Alias)
		}
		s.aliases.Put(tx, store.Scope{}, name, &alias{Account: sc.Account})
		a.Alias = name
		return nil
	})
}

// DeleteAccountAlias removes the account's alias.
func (s *Service) DeleteAccountAlias(ctx context.Context, in *api.DeleteAccountAliasInput) (*api.DeleteAccountAliasOutput, error) {
	return nil, s.editAccount(ctx, func(tx *store.Tx, _ store.Scope, a *accountRecord) error {
		if a.Alias == "" || a.Alias != deref(in.AccountAlias) {
			return errNone("The account alias %s cannot be found.", deref(in.AccountAlias))
		}
		s.aliases.Delete(tx, store.Scope{}, a.Alias)
		a.Alias = ""
		return nil
	})
}

// ListAccountAliases lists the account's alias, if it has one.
func (s *Service) ListAccountAliases(ctx context.Context, in *api.ListAccountAliasesInput) (*api.ListAccountAliasesOutput, error) {
	a := s.account(s.snapshot(), scopeOf(ctx))
	p, err := page(func(yield func(string, string) bool) {
		if a.Alias != "" {
			yield(a.Alias, a.Alias)
		}
	}, in.Marker, in.MaxItems)
	return &api.ListAccountAliasesOutput{AccountAliases: p.Items, Marker: p.Marker, IsTruncated: p.Truncated}, err
}

// UpdateAccountPasswordPolicy replaces the account's password policy: what is not
// given returns to its default.
func (s *Service) UpdateAccountPasswordPolicy(ctx context.Context, in *api.UpdateAccountPasswordPolicyInput) (*api.UpdateAccountPasswordPolicyOutput, error) {
	minimum := or(in.MinimumPasswordLength, 6)
	return nil, s.editAccount(ctx, func(_ *store.Tx, _ store.Scope, a *accountRecord) error {
		a.Password = &types.PasswordPolicy{
			MinimumPasswordLength: &minimum, RequireSymbols: in.RequireSymbols, RequireNumbers: in.RequireNumbers,
			RequireUppercaseCharacters: in.RequireUppercaseCharacters, RequireLowercaseCharacters: in.RequireLowercaseCharacters,
			AllowUsersToChangePassword: in.AllowUsersToChangePassword, ExpirePasswords: deref(in.MaxPasswordAge) > 0,
			MaxPasswordAge: in.MaxPasswordAge, PasswordReusePrevention: in.PasswordReusePrevention, HardExpiry: in.HardExpiry,
		}
		return nil
	})
}

func errNoPasswordPolicy(sc store.Scope) error {
	return errNone("The Password Policy with domain name %s cannot be found.", sc.Account)
}

// GetAccountPasswordPolicy returns the account's password policy.
func (s *Service) GetAccountPasswordPolicy(ctx context.Context, _ *api.GetAccountPasswordPolicyInput) (*api.GetAccountPasswordPolicyOutput, error) {
	sc := scopeOf(ctx)
	a := s.account(s.snapshot(), sc)
	if a.Password == nil {
		return nil, errNoPasswordPolicy(sc)
	}
	return &api.GetAccountPasswordPolicyOutput{PasswordPolicy: a.Password}, nil
}

// DeleteAccountPasswordPolicy removes the account's password policy.
func (s *Service) DeleteAccountPasswordPolicy(ctx context.Context, _ *api.DeleteAccountPasswordPolicyInput) (*api.DeleteAccountPasswordPolicyOutput, error) {
	return nil, s.editAccount(ctx, func(_ *store.Tx, sc store.Scope, a *accountRecord) error {
		if a.Password == nil {
			return errNoPasswordPolicy(sc)
		}
		a.Password = nil
		return nil
	})
}

// GetAccountSummary counts what the account has, and tells how much it may have.
func (s *Service) GetAccountSummary(ctx context.Context, _ *api.GetAccountSummaryInput) (*api.GetAccountSummaryOutput, error) {
	r, sc, l := s.snapshot(), scopeOf(ctx), s.limits
	attached, keys, versions := int32(l.AttachedPolicies), int32(0), 0
	if s.keysByOwner.Count(r, store.Scope{}, sc.Account) > 0 {
		keys = 1
	}
	for _, p := range s.policies.List(r, sc) {
		versions += len(p.Versions)
	}
	return &api.GetAccountSummaryOutput{SummaryMap: map[string]int32{
		"Users": count(s.users.table.List(r, sc)), "UsersQuota": int32(l.Users),
		"Groups": count(s.groups.table.List(r, sc)), "GroupsQuota": int32(l.Groups),
		"Roles": count(s.roles.table.List(r, sc)), "RolesQuota": int32(l.Roles),
		"InstanceProfiles": count(s.profiles.List(r, sc)), "InstanceProfilesQuota": int32(l.InstanceProfiles),
		"Policies": count(s.policies.List(r, sc)), "PoliciesQuota": int32(l.Policies),
		"PolicySizeQuota": maxManaged, "PolicyVersionsInUse": int32(versions), "VersionsPerPolicyQuota": int32(l.Versions),
		"UserPolicySizeQuota": maxUserInline, "GroupPolicySizeQuota": maxGroupInline, "AssumeRolePolicySizeQuota": maxTrust,
		"AttachedPoliciesPerUserQuota": attached, "AttachedPoliciesPerGroupQuota": attached, "AttachedPoliciesPerRoleQuota": attached,
		"GroupsPerUserQuota": int32(l.GroupsPerUser), "AccessKeysPerUserQuota": int32(l.AccessKeysPerUser),
		"AccountAccessKeysPresent": keys,
		// What there is none of here.
		"AccountMFAEnabled": 0, "AccountPasswordPresent": 0, "AccountSigningCertificatesPresent": 0,
		"MFADevices": 0, "MFADevicesInUse": 0, "Providers": 0, "ServerCertificates": count(s.certificates.List(r, sc)),
	}}, nil
}

func count[T any](records iter.Seq2[string, *T]) (n int32) {
	for range records {
		n++
	}
	return n
}
