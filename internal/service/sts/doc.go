// Package sts is AWS Security Token Service's API: who am I, and temporary
// credentials for roles and for users. What it needs of IAM it asks through Roles.
//
// Whether a role may be assumed is decided where every call is authorised, by the
// role's trust policy (wire's chain, iam's Authorizer); here a session is put
// together and handed to Roles.Issue, which seals it into its token. Nothing is
// stored: a token brings its session with it, and who deletes or limits a role
// reaches its sessions by the role's ID and their aws:TokenIssueTime.
//
// A service of ours assumes a role by the same operation, under its own name and for
// the resource that it acts for, so that trust policies hold for it:
//
//	p := wire.ServicePrincipal("ecs-tasks.amazonaws.com", account, taskARN)
//	out, err := wire.Invoke[sts.AssumeRoleInput, sts.AssumeRoleOutput](
//		ctx, registry, p, account, region, "sts", "AssumeRole", in)
//
// The role may belong to another account than the resource, if it trusts the service
// for that account. A refusal is an API error with the code AccessDeniedException.
//
// DecodeAuthorizationMessage is absent: services encode their refusals where EC2 does,
// and none of ours is one of those. The operations of identity providers are absent as
// long as IAM has none.
//
// Invariants: a session may do no more than its role; a root user and a node assume
// no role; whoever comes with a session gets no longer one of its own user.
//
// Read service.go, then assumerole.go.
package sts
