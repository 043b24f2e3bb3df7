package iam

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	api "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"longshore.dev/longshore/internal/store"
)

// versionBy returns a version by its id ("v2"), or NoSuchEntity.
func (p *managedPolicy) versionBy(arn, id *string) (*version, error) {
	number, err := strconv.Atoi(strings.TrimPrefix(deref(id), "v"))
	if v := p.version(number); v != nil && err == nil && *versionID(number) == deref(id) {
		return v, nil
	}
	return nil, errNone("Policy %s version %s does not exist or is not attachable.", deref(arn), deref(id))
}

// versionShape is a version as lists show it, without its document.
func (p *managedPolicy) versionShape(v *version) types.PolicyVersion {
	return types.PolicyVersion{VersionId: versionID(v.Number), IsDefaultVersion: v.Number == p.Default, CreateDate: &v.CreatedAt}
}

// CreatePolicyVersion adds a version, and makes it the policy's default if told so.
func (s *Service) CreatePolicyVersion(ctx context.Context, in *api.CreatePolicyVersionInput) (*api.CreatePolicyVersionOutput, error) {
	if err := checkManaged(deref(in.PolicyDocument)); err != nil {
		return nil, err
	}
	now, out := s.now(), &api.CreatePolicyVersionOutput{}
	return out, s.editPolicy(ctx, in.PolicyArn, func(_ *store.Tx, _ store.Scope, p *managedPolicy) error {
		if len(p.Versions) >= s.limits.Versions {
			return errLimit("A managed policy can have up to %d versions. Before you create a new version, you must delete an existing version.", s.limits.Versions)
		}
		p.Last++
		p.Versions = append(p.Versions, version{Number: p.Last, Document: *in.PolicyDocument, CreatedAt: now})
		p.UpdatedAt = now
		if in.SetAsDefault {
			p.Default = p.Last
		}
		shape := p.versionShape(p.version(p.Last))
		out.PolicyVersion = &shape
		return nil
	})
}

// GetPolicyVersion returns a version with its document.
func (s *Service) GetPolicyVersion(ctx context.Context, in *api.GetPolicyVersionInput) (*api.GetPolicyVersionOutput, error) {
	p, err := s.policy(s.snapshot(), scopeOf(ctx), in.PolicyArn)
	if err != nil {
		return nil, err
	}
	v, err := p.versionBy(in.PolicyArn, in.VersionId)
	if err != nil {
		return nil, err
	}
	shape := p.versionShape(v)
	shape.Document = encoded(v.Document)
	return &api.GetPolicyVersionOutput{PolicyVersion: &shape}, nil
}

// ListPolicyVersions lists a policy's versions, the latest first.
func (s *Service) ListPolicyVersions(ctx context.Context, in *api.ListPolicyVersionsInput) (*api.ListPolicyVersionsOutput, error) {
	p, err := s.policy(s.snapshot(), scopeOf(ctx), in.PolicyArn)
	if err != nil {
		return nil, err
	}
	list, err := page(func(yield func(string, types.PolicyVersion) bool) {
		for i := range slices.Backward(p.Versions) {
			// Keys ascend while numbers descend.
			key := fmt.Sprintf("%020d", 1<<40-p.Versions[i].Number)
			if !yield(key, p.versionShape(&p.Versions[i])) {
				return
			}
		}
	}, in.Marker, in.MaxItems)
	return &api.ListPolicyVersionsOutput{Versions: list.Items, Marker: list.Marker, IsTruncated: list.Truncated}, err
}

// SetDefaultPolicyVersion makes a version the one that holds.
func (s *Service) SetDefaultPolicyVersion(ctx context.Context, in *api.SetDefaultPolicyVersionInput) (*api.SetDefaultPolicyVersionOutput, error) {
	now := s.now()
	return nil, s.editPolicy(ctx, in.PolicyArn, func(_ *store.Tx, _ store.Scope, p *managedPolicy) error {
		v, err := p.versionBy(in.PolicyArn, in.VersionId)
		if err != nil {
			return err
		}
		p.Default, p.UpdatedAt = v.Number, now
		return nil
	})
}

// DeletePolicyVersion deletes a version that is not the default.
func (s *Service) DeletePolicyVersion(ctx context.Context, in *api.DeletePolicyVersionInput) (*api.DeletePolicyVersionOutput, error) {
	return nil, s.editPolicy(ctx, in.PolicyArn, func(_ *store.Tx, _ store.Scope, p *managedPolicy) error {
		v, err := p.versionBy(in.PolicyArn, in.VersionId)
		if err != nil {
			return err
		}
		if v.Number == p.Default {
			return errInUse("Cannot delete the default version of a policy.")
		}
		number := v.Number
		p.Versions = slices.DeleteFunc(p.Versions, func(v version) bool { return v.Number == number })
		return nil
	})
}
