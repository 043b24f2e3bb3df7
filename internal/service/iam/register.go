package iam

import (
	_ "embed" // operations.txt
	"net/http"
	"strings"

	api "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"longshore.dev/longshore/internal/wire"
)

//go:embed operations.txt
var operations string

// errorCodes are those that the published model gives.
var errorCodes = map[string]wire.ErrorCode{
	"ConcurrentModificationException":  {Code: "ConcurrentModification", Status: http.StatusConflict},
	"DeleteConflictException":          {Code: "DeleteConflict", Status: http.StatusConflict},
	"EntityAlreadyExistsException":     {Code: "EntityAlreadyExists", Status: http.StatusConflict},
	"InvalidInputException":            {Code: "InvalidInput"},
	"KeyPairMismatchException":         {Code: "KeyPairMismatch"},
	"LimitExceededException":           {Code: "LimitExceeded", Status: http.StatusConflict},
	"MalformedCertificateException":    {Code: "MalformedCertificate"},
	"MalformedPolicyDocumentException": {Code: "MalformedPolicyDocument"},
	"NoSuchEntityException":            {Code: "NoSuchEntity", Status: http.StatusNotFound},
	"PolicyEvaluationException":        {Code: "PolicyEvaluation", Status: http.StatusInternalServerError},
	"PolicyNotAttachableException":     {Code: "PolicyNotAttachable"},
	"UnmodifiableEntityException":      {Code: "UnmodifiableEntity"},
}

// Register registers the room's operations.
func (s *Service) Register(r *wire.Registry) {
	w := r.Add(wire.ServiceInfo{
		Name: "iam", SigningName: "iam", Protocols: []wire.Protocol{wire.AWSQuery},
		APIVersion: "2010-05-08", XMLNamespace: "https://iam.amazonaws.com/doc/2010-05-08/", ErrorCodes: errorCodes,
		Unions: []any{
			(*types.PolicyIdentifierMemberInlinePolicyIdentifier)(nil), (*types.PolicyIdentifierMemberPolicyArn)(nil), (*types.PolicyIdentifierMemberPolicyType)(nil),
		},
		Knows: func(operation string) bool { return strings.Contains("\n"+operations, "\n"+operation+" ") },
	})
	s.registerUsers(w)
	s.registerGroups(w)
	s.registerRoles(w)
	s.registerPolicies(w)
	s.registerProfiles(w)
	s.registerCertificates(w)
	s.registerLinkedRoles(w)
	s.registerAccount(w)
	s.registerSimulation(w)
}

func (s *Service) registerUsers(w *wire.Service) {
	user := s.onIdentity(s.users, "UserName")
	handle(w, wire.Operation[api.CreateUserInput]{Name: "CreateUser"}, s.CreateUser, user, requestBoundary)
	handle(w, wire.Operation[api.GetUserInput]{Name: "GetUser", ReadOnly: true}, s.GetUser, user)
	handle(w, wire.Operation[api.ListUsersInput]{Name: "ListUsers", ReadOnly: true}, s.ListUsers, user)
	handle(w, wire.Operation[api.UpdateUserInput]{Name: "UpdateUser"}, s.UpdateUser, user)
	handle(w, wire.Operation[api.DeleteUserInput]{Name: "DeleteUser"}, s.DeleteUser, user)
	handle(w, wire.Operation[api.ListGroupsForUserInput]{Name: "ListGroupsForUser", ReadOnly: true}, s.ListGroupsForUser, user)
	handle(w, wire.Operation[api.TagUserInput]{Name: "TagUser"}, s.TagUser, user)
	handle(w, wire.Operation[api.UntagUserInput]{Name: "UntagUser"}, s.UntagUser, user)
	handle(w, wire.Operation[api.ListUserTagsInput]{Name: "ListUserTags", ReadOnly: true}, s.ListUserTags, user)
	handle(w, wire.Operation[api.PutUserPolicyInput]{Name: "PutUserPolicy"}, s.PutUserPolicy, user, boundary)
	handle(w, wire.Operation[api.GetUserPolicyInput]{Name: "GetUserPolicy", ReadOnly: true}, s.GetUserPolicy, user)
	handle(w, wire.Operation[api.DeleteUserPolicyInput]{Name: "DeleteUserPolicy"}, s.DeleteUserPolicy, user, boundary)
	handle(w, wire.Operation[api.ListUserPoliciesInput]{Name: "ListUserPolicies", ReadOnly: true}, s.ListUserPolicies, user)
	handle(w, wire.Operation[api.AttachUserPolicyInput]{Name: "AttachUserPolicy"}, s.AttachUserPolicy, user, boundary, policyARN)
	handle(w, wire.Operation[api.DetachUserPolicyInput]{Name: "DetachUserPolicy"}, s.DetachUserPolicy, user, boundary, policyARN)
	handle(w, wire.Operation[api.ListAttachedUserPoliciesInput]{Name: "ListAttachedUserPolicies", ReadOnly: true}, s.ListAttachedUserPolicies, user)
	handle(w, wire.Operation[api.PutUserPermissionsBoundaryInput]{Name: "PutUserPermissionsBoundary"}, s.PutUserPermissionsBoundary, user, requestBoundary)
	handle(w, wire.Operation[api.DeleteUserPermissionsBoundaryInput]{Name: "DeleteUserPermissionsBoundary"}, s.DeleteUserPermissionsBoundary, user, boundary)
	handle(w, wire.Operation[api.CreateAccessKeyInput]{Name: "CreateAccessKey"}, s.CreateAccessKey, user)
	handle(w, wire.Operation[api.ListAccessKeysInput]{Name: "ListAccessKeys", ReadOnly: true}, s.ListAccessKeys, user)
	handle(w, wire.Operation[api.UpdateAccessKeyInput]{Name: "UpdateAccessKey"}, s.UpdateAccessKey, user)
	handle(w, wire.Operation[api.DeleteAccessKeyInput]{Name: "DeleteAccessKey"}, s.DeleteAccessKey, user)
	handle(w, wire.Operation[api.GetAccessKeyLastUsedInput]{Name: "GetAccessKeyLastUsed", ReadOnly: true}, s.GetAccessKeyLastUsed, s.onKeyOwner())
}

func (s *Service) registerGroups(w *wire.Service) {
	group := s.onIdentity(s.groups, "GroupName")
	handle(w, wire.Operation[api.CreateGroupInput]{Name: "CreateGroup"}, s.CreateGroup, group)
	handle(w, wire.Operation[api.GetGroupInput]{Name: "GetGroup", ReadOnly: true}, s.GetGroup, group)
	handle(w, wire.Operation[api.ListGroupsInput]{Name: "ListGroups", ReadOnly: true}, s.ListGroups, group)
	handle(w, wire.Operation[api.UpdateGroupInput]{Name: "UpdateGroup"}, s.UpdateGroup, group)
	handle(w, wire.Operation[api.DeleteGroupInput]{Name: "DeleteGroup"}, s.DeleteGroup, group)
	handle(w, wire.Operation[api.AddUserToGroupInput]{Name: "AddUserToGroup"}, s.AddUserToGroup, group)
	handle(w, wire.Operation[api.RemoveUserFromGroupInput]{Name: "RemoveUserFromGroup"}, s.RemoveUserFromGroup, group)
	handle(w, wire.Operation[api.PutGroupPolicyInput]{Name: "PutGroupPolicy"}, s.PutGroupPolicy, group)
	handle(w, wire.Operation[api.GetGroupPolicyInput]{Name: "GetGroupPolicy", ReadOnly: true}, s.GetGroupPolicy, group)
	handle(w, wire.Operation[api.DeleteGroupPolicyInput]{Name: "DeleteGroupPolicy"}, s.DeleteGroupPolicy, group)
	handle(w, wire.Operation[api.ListGroupPoliciesInput]{Name: "ListGroupPolicies", ReadOnly: true}, s.ListGroupPolicies, group)
	handle(w, wire.Operation[api.AttachGroupPolicyInput]{Name: "AttachGroupPolicy"}, s.AttachGroupPolicy, group, policyARN)
	handle(w, wire.Operation[api.DetachGroupPolicyInput]{Name: "DetachGroupPolicy"}, s.DetachGroupPolicy, group, policyARN)
	handle(w, wire.Operation[api.ListAttachedGroupPoliciesInput]{Name: "ListAttachedGroupPolicies", ReadOnly: true}, s.ListAttachedGroupPolicies, group)
}

func (s *Service) registerRoles(w *wire.Service) {
	role := s.onIdentity(s.roles, "RoleName")
	handle(w, wire.Operation[api.CreateRoleInput]{Name: "CreateRole"}, s.CreateRole, role, requestBoundary)
	handle(w, wire.Operation[api.GetRoleInput]{Name: "GetRole", ReadOnly: true}, s.GetRole, role)
	handle(w, wire.Operation[api.ListRolesInput]{Name: "ListRoles", ReadOnly: true}, s.ListRoles, role)
	handle(w, wire.Operation[api.UpdateRoleInput]{Name: "UpdateRole"}, s.UpdateRole, role)
	handle(w, wire.Operation[api.UpdateRoleDescriptionInput]{Name: "UpdateRoleDescription"}, s.UpdateRoleDescription, role)
	handle(w, wire.Operation[api.UpdateAssumeRolePolicyInput]{Name: "UpdateAssumeRolePolicy"}, s.UpdateAssumeRolePolicy, role)
	handle(w, wire.Operation[api.DeleteRoleInput]{Name: "DeleteRole"}, s.DeleteRole, role)
	handle(w, wire.Operation[api.TagRoleInput]{Name: "TagRole"}, s.TagRole, role)
	handle(w, wire.Operation[api.UntagRoleInput]{Name: "UntagRole"}, s.UntagRole, role)
	handle(w, wire.Operation[api.ListRoleTagsInput]{Name: "ListRoleTags", ReadOnly: true}, s.ListRoleTags, role)
	handle(w, wire.Operation[api.PutRolePolicyInput]{Name: "PutRolePolicy"}, s.PutRolePolicy, role, boundary)
	handle(w, wire.Operation[api.GetRolePolicyInput]{Name: "GetRolePolicy", ReadOnly: true}, s.GetRolePolicy, role)
	handle(w, wire.Operation[api.DeleteRolePolicyInput]{Name: "DeleteRolePolicy"}, s.DeleteRolePolicy, role, boundary)
	handle(w, wire.Operation[api.ListRolePoliciesInput]{Name: "ListRolePolicies", ReadOnly: true}, s.ListRolePolicies, role)
	handle(w, wire.Operation[api.AttachRolePolicyInput]{Name: "AttachRolePolicy"}, s.AttachRolePolicy, role, boundary, policyARN)
	handle(w, wire.Operation[api.DetachRolePolicyInput]{Name: "DetachRolePolicy"}, s.DetachRolePolicy, role, boundary, policyARN)
	handle(w, wire.Operation[api.ListAttachedRolePoliciesInput]{Name: "ListAttachedRolePolicies", ReadOnly: true}, s.ListAttachedRolePolicies, role)
	handle(w, wire.Operation[api.PutRolePermissionsBoundaryInput]{Name: "PutRolePermissionsBoundary"}, s.PutRolePermissionsBoundary, role, requestBoundary)
	handle(w, wire.Operation[api.DeleteRolePermissionsBoundaryInput]{Name: "DeleteRolePermissionsBoundary"}, s.DeleteRolePermissionsBoundary, role, boundary)
}

func (s *Service) registerPolicies(w *wire.Service) {
	policy := s.onPolicy()
	handle(w, wire.Operation[api.CreatePolicyInput]{Name: "CreatePolicy"}, s.CreatePolicy, noun{kind: "policy", name: "PolicyName"})
	handle(w, wire.Operation[api.GetPolicyInput]{Name: "GetPolicy", ReadOnly: true}, s.GetPolicy, policy)
	wire.Handle(w, wire.Operation[api.ListPoliciesInput]{Name: "ListPolicies", ReadOnly: true}, s.ListPolicies)
	handle(w, wire.Operation[api.DeletePolicyInput]{Name: "DeletePolicy"}, s.DeletePolicy, policy)
	handle(w, wire.Operation[api.CreatePolicyVersionInput]{Name: "CreatePolicyVersion"}, s.CreatePolicyVersion, policy)
	handle(w, wire.Operation[api.GetPolicyVersionInput]{Name: "GetPolicyVersion", ReadOnly: true}, s.GetPolicyVersion, policy)
	handle(w, wire.Operation[api.ListPolicyVersionsInput]{Name: "ListPolicyVersions", ReadOnly: true}, s.ListPolicyVersions, policy)
	handle(w, wire.Operation[api.SetDefaultPolicyVersionInput]{Name: "SetDefaultPolicyVersion"}, s.SetDefaultPolicyVersion, policy)
	handle(w, wire.Operation[api.DeletePolicyVersionInput]{Name: "DeletePolicyVersion"}, s.DeletePolicyVersion, policy)
	handle(w, wire.Operation[api.TagPolicyInput]{Name: "TagPolicy"}, s.TagPolicy, policy)
	handle(w, wire.Operation[api.UntagPolicyInput]{Name: "UntagPolicy"}, s.UntagPolicy, policy)
	handle(w, wire.Operation[api.ListPolicyTagsInput]{Name: "ListPolicyTags", ReadOnly: true}, s.ListPolicyTags, policy)
	handle(w, wire.Operation[api.ListEntitiesForPolicyInput]{Name: "ListEntitiesForPolicy", ReadOnly: true}, s.ListEntitiesForPolicy, policy)
}
