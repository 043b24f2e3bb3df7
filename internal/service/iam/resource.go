package iam

import (
	"cmp"
	"context"
	"reflect"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

// noun is one kind of resource, as authorisation sees it.
type noun struct {
	kind string // in ARNs: "user"
	// name is the member of an input that names the resource: "UserName".
	name string
	// find returns what is known of the resource of a name; an empty name is the
	// caller's own. An ok of false is one that does not exist.
	find func(ctx context.Context, name string) (known, bool)
}

type known struct {
	arn, boundary string
	tags          map[string]string
}

// key says which of IAM's own condition keys an action has, as the service
// authorization reference lists them.
type conditionKey int

const (
	// boundary: iam:PermissionsBoundary is that which the resource has.
	boundary conditionKey = iota
	// requestBoundary: iam:PermissionsBoundary is that which the call sets.
	requestBoundary
	// policyARN: iam:PolicyARN is the policy to be attached or detached.
	policyARN
)

// handle registers an operation on one resource. The resource and its conditions
// follow from the input's members: the one that names the resource, Path of what is
// to be made, PathPrefix of what is listed, Tags and TagKeys.
func handle[I, O any](w *wire.Service, op wire.Operation[I], fn func(context.Context, *I) (*O, error), on noun, keys ...conditionKey) {
	op.Resources = func(ctx context.Context, in *I) []string { return on.resources(ctx, in) }
	op.Conditions = func(ctx context.Context, in *I) map[string][]string { return on.conditions(ctx, in, keys) }
	wire.Handle(w, op, fn)
}

// member returns an input's string member, empty when it is not given, and whether
// the input has such a member.
func member(in any, name string) (string, bool) {
	f := reflect.ValueOf(in).Elem().FieldByName(name)
	if !f.IsValid() {
		return "", false
	}
	p, _ := f.Interface().(*string)
	return deref(p), true
}

// resources are the resource, and what it becomes where the call renames or moves it:
// who may rename one thing could otherwise make it one of others.
func (n noun) resources(ctx context.Context, in any) []string {
	arn := n.resource(ctx, in)
	newName, _ := member(in, "New"+n.name)
	newPath, _ := member(in, "NewPath")
	first := strings.IndexByte(arn, '/')
	if newName == "" && newPath == "" || first < 0 {
		return []string{arn}
	}
	was := arn[first:]
	slash := strings.LastIndexByte(was, '/') + 1
	return []string{arn, arnOf(wire.CallFrom(ctx).Account, n.kind, cmp.Or(newPath, was[:slash]), cmp.Or(newName, was[slash:]))}
}

func (n noun) resource(ctx context.Context, in any) string {
	account := wire.CallFrom(ctx).Account
	name, isNamed := member(in, n.name)
	if prefix, ok := member(in, "PathPrefix"); ok && !isNamed {
		return arnOf(account, n.kind, orRoot(prefix), "")
	}
	if path, made := member(in, "Path"); made && isNamed {
		return arnOf(account, n.kind, orRoot(path), name)
	}
	if k, ok := n.find(ctx, name); ok {
		return k.arn
	}
	if n.kind == "policy" {
		return name // it is an ARN
	}
	return arnOf(account, n.kind, "/", name)
}

func orRoot(path string) string {
	if path == "" {
		return "/"
	}
	return path
}

func (n noun) conditions(ctx context.Context, in any, keys []conditionKey) map[string][]string {
	c := map[string][]string{}
	name, isNamed := member(in, n.name)
	var resource known
	if _, made := member(in, "Path"); isNamed && !made {
		resource, _ = n.find(ctx, name)
	}
	for k, v := range resource.tags {
		c["aws:ResourceTag/"+k] = []string{v}
		c["iam:ResourceTag/"+k] = []string{v}
	}
	addRequestTags(c, in)
	for _, key := range keys {
		switch key {
		case boundary:
			addSome(c, "iam:PermissionsBoundary", resource.boundary)
		case requestBoundary:
			arn, _ := member(in, "PermissionsBoundary")
			addSome(c, "iam:PermissionsBoundary", arn)
		case policyARN:
			arn, _ := member(in, "PolicyArn")
			addSome(c, "iam:PolicyARN", arn)
		}
	}
	return c
}

func addSome(c map[string][]string, key, value string) {
	if value != "" {
		c[key] = []string{value}
	}
}

func addRequestTags(c map[string][]string, in any) {
	v := reflect.ValueOf(in).Elem()
	if f := v.FieldByName("Tags"); f.IsValid() {
		tags, _ := f.Interface().([]types.Tag)
		for _, t := range tags {
			c["aws:RequestTag/"+deref(t.Key)] = []string{deref(t.Value)}
			c["aws:TagKeys"] = append(c["aws:TagKeys"], deref(t.Key))
		}
	}
	if f := v.FieldByName("TagKeys"); f.IsValid() {
		if keys, _ := f.Interface().([]string); len(keys) > 0 {
			c["aws:TagKeys"] = keys
		}
	}
}

// onIdentity is a user, group or role as a resource.
func (s *Service) onIdentity(b *book, name string) noun {
	return noun{kind: b.noun, name: name, find: func(ctx context.Context, name string) (known, bool) {
		sc, r := scopeOf(ctx), s.snapshot()
		if p := wire.CallFrom(ctx).Principal; name == "" && b == s.users {
			if u := s.users.find(r, sc, p.UserID); u != nil {
				name = u.Name
			} else {
				return known{arn: p.ARN}, true
			}
		}
		i, err := b.get(r, sc, name)
		if err != nil {
			return known{}, false
		}
		return known{arn: b.arn(sc.Account, i), boundary: i.Boundary, tags: i.Tags}, true
	}}
}

// onPolicy is a managed policy as a resource. It is made by its name, and named by
// its ARN from then on.
func (s *Service) onPolicy() noun {
	return noun{kind: "policy", name: "PolicyArn", find: func(ctx context.Context, arn string) (known, bool) {
		p, ok := s.policyBy(s.snapshot(), scopeOf(ctx), arn)
		if !ok {
			return known{}, false
		}
		return known{arn: arn, tags: p.Tags}, true
	}}
}

// onProfile is an instance profile as a resource.
func (s *Service) onProfile() noun {
	return noun{kind: "instance-profile", name: "InstanceProfileName", find: func(ctx context.Context, name string) (known, bool) {
		sc := scopeOf(ctx)
		p, err := s.profile(s.snapshot(), sc, &name)
		if err != nil {
			return known{}, false
		}
		return known{arn: p.arn(sc.Account), tags: p.Tags}, true
	}}
}

// onSource is the user, group or role whose policies are simulated as a resource.
func (s *Service) onSource() noun {
	return noun{name: "PolicySourceArn", find: func(ctx context.Context, arn string) (known, bool) {
		k := known{arn: arn}
		if b, i, err := s.identityBy(s.snapshot(), scopeOf(ctx), arn); err == nil && b != s.groups {
			k.tags = i.Tags
		}
		return k, true
	}}
}

// onKeyOwner is the user that an access key belongs to as a resource.
func (s *Service) onKeyOwner() noun {
	return noun{kind: "user", name: "AccessKeyId", find: func(ctx context.Context, id string) (known, bool) {
		r, sc := s.snapshot(), scopeOf(ctx)
		if k, ok := s.keys.Get(r, store.Scope{}, id); ok && k.Account == sc.Account {
			if u := s.users.find(r, sc, k.UserID); u != nil {
				return known{arn: s.users.arn(sc.Account, u), boundary: u.Boundary, tags: u.Tags}, true
			}
		}
		return known{arn: arnOf(sc.Account, "user", "/", "*")}, true
	}}
}
