package iam

import (
	"context"
	"strings"

	api "github.com/aws/aws-sdk-go-v2/service/iam"

	"longshore.dev/longshore/internal/wire"
)

func (s *Service) registerProfiles(w *wire.Service) {
	profile, role := s.onProfile(), s.onIdentity(s.roles, "RoleName")
	handle(w, wire.Operation[api.CreateInstanceProfileInput]{Name: "CreateInstanceProfile"}, s.CreateInstanceProfile, profile)
	handle(w, wire.Operation[api.GetInstanceProfileInput]{Name: "GetInstanceProfile", ReadOnly: true}, s.GetInstanceProfile, profile)
	handle(w, wire.Operation[api.ListInstanceProfilesInput]{Name: "ListInstanceProfiles", ReadOnly: true}, s.ListInstanceProfiles, profile)
	handle(w, wire.Operation[api.ListInstanceProfilesForRoleInput]{Name: "ListInstanceProfilesForRole", ReadOnly: true},
		s.ListInstanceProfilesForRole, role)
	handle(w, wire.Operation[api.DeleteInstanceProfileInput]{Name: "DeleteInstanceProfile"}, s.DeleteInstanceProfile, profile)
	handle(w, wire.Operation[api.AddRoleToInstanceProfileInput]{
		Name: "AddRoleToInstanceProfile",
		Also: func(ctx context.Context, in *api.AddRoleToInstanceProfileInput) []wire.Permission {
			return []wire.Permission{wire.PassRole("ec2.amazonaws.com", role.resource(ctx, in))}
		},
	}, s.AddRoleToInstanceProfile, profile)
	handle(w, wire.Operation[api.RemoveRoleFromInstanceProfileInput]{Name: "RemoveRoleFromInstanceProfile"}, s.RemoveRoleFromInstanceProfile, profile)
	handle(w, wire.Operation[api.TagInstanceProfileInput]{Name: "TagInstanceProfile"}, s.TagInstanceProfile, profile)
	handle(w, wire.Operation[api.UntagInstanceProfileInput]{Name: "UntagInstanceProfile"}, s.UntagInstanceProfile, profile)
	handle(w, wire.Operation[api.ListInstanceProfileTagsInput]{Name: "ListInstanceProfileTags", ReadOnly: true}, s.ListInstanceProfileTags, profile)
}

func (s *Service) registerLinkedRoles(w *wire.Service) {
	wire.Handle(w, wire.Operation[api.CreateServiceLinkedRoleInput]{
		Name: "CreateServiceLinkedRole",
		Resources: func(ctx context.Context, in *api.CreateServiceLinkedRoleInput) []string {
			name, path := linkedName(deref(in.AWSServiceName), deref(in.CustomSuffix))
			return []string{arnOf(wire.CallFrom(ctx).Account, "role", path, name)}
		},
		Conditions: func(_ context.Context, in *api.CreateServiceLinkedRoleInput) map[string][]string {
			return map[string][]string{"iam:AWSServiceName": {deref(in.AWSServiceName)}}
		},
	}, s.CreateServiceLinkedRole)
	handle(w, wire.Operation[api.DeleteServiceLinkedRoleInput]{Name: "DeleteServiceLinkedRole"}, s.DeleteServiceLinkedRole, s.onIdentity(s.roles, "RoleName"))
	wire.Handle(w, wire.Operation[api.GetServiceLinkedRoleDeletionStatusInput]{
		Name: "GetServiceLinkedRoleDeletionStatus", ReadOnly: true,
		Resources: func(ctx context.Context, in *api.GetServiceLinkedRoleDeletionStatusInput) []string {
			role := strings.TrimPrefix(deref(in.DeletionTaskId), "task")
			if end := strings.LastIndexByte(role, '/'); end > 0 {
				role = role[:end]
			}
			return []string{arnOf(wire.CallFrom(ctx).Account, "role", role, "")}
		},
	}, s.GetServiceLinkedRoleDeletionStatus)
}

func (s *Service) registerAccount(w *wire.Service) {
	wire.Handle(w, wire.Operation[api.CreateAccountAliasInput]{Name: "CreateAccountAlias"}, s.CreateAccountAlias)
	wire.Handle(w, wire.Operation[api.DeleteAccountAliasInput]{Name: "DeleteAccountAlias"}, s.DeleteAccountAlias)
	wire.Handle(w, wire.Operation[api.ListAccountAliasesInput]{Name: "ListAccountAliases", ReadOnly: true}, s.ListAccountAliases)
	wire.Handle(w, wire.Operation[api.UpdateAccountPasswordPolicyInput]{Name: "UpdateAccountPasswordPolicy"}, s.UpdateAccountPasswordPolicy)
	wire.Handle(w, wire.Operation[api.GetAccountPasswordPolicyInput]{Name: "GetAccountPasswordPolicy", ReadOnly: true}, s.GetAccountPasswordPolicy)
	wire.Handle(w, wire.Operation[api.DeleteAccountPasswordPolicyInput]{Name: "DeleteAccountPasswordPolicy"}, s.DeleteAccountPasswordPolicy)
	wire.Handle(w, wire.Operation[api.GetAccountSummaryInput]{Name: "GetAccountSummary", ReadOnly: true}, s.GetAccountSummary)
	wire.Handle(w, wire.Operation[api.GetAccountAuthorizationDetailsInput]{Name: "GetAccountAuthorizationDetails", ReadOnly: true}, s.GetAccountAuthorizationDetails)
}

func (s *Service) registerSimulation(w *wire.Service) {
	source := s.onSource()
	wire.Handle(w, wire.Operation[api.SimulateCustomPolicyInput]{Name: "SimulateCustomPolicy", ReadOnly: true}, s.SimulateCustomPolicy)
	handle(w, wire.Operation[api.SimulatePrincipalPolicyInput]{Name: "SimulatePrincipalPolicy", ReadOnly: true}, s.SimulatePrincipalPolicy, source)
	wire.Handle(w, wire.Operation[api.GetContextKeysForCustomPolicyInput]{Name: "GetContextKeysForCustomPolicy", ReadOnly: true}, s.GetContextKeysForCustomPolicy)
	handle(w, wire.Operation[api.GetContextKeysForPrincipalPolicyInput]{Name: "GetContextKeysForPrincipalPolicy", ReadOnly: true}, s.GetContextKeysForPrincipalPolicy, source)
}
