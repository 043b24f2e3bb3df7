package elbv2

import (
	"context"
	"maps"
	"slices"
	"strings"

	api "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"longshore.dev/longshore/internal/store"
)

const maxTags = 50

// tagged adds tags to what there is.
func tagged(had map[string]string, tags []types.Tag) (map[string]string, error) {
	out, seen := cloned(had), map[string]bool{}
	for _, t := range tags {
		key := deref(t.Key)
		switch {
		case seen[key]:
			return nil, fail("DuplicateTagKeys", "A tag key was specified more than once: '%.130s'", key)
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			return nil, fail("ValidationError", "Tag keys can't start with aws:")
		}
		seen[key] = true
		out[key] = deref(t.Value)
	}
	if len(out) > maxTags {
		return nil, fail("TooManyTags", "The maximum number of tags has been reached: %d", maxTags)
	}
	return out, nil
}

// withTags changes the tags of the resource of an ARN.
func (s *Service) withTags(tx *store.Tx, sc store.Scope, arn string, change func(map[string]string) (map[string]string, error)) error {
	if x, ok := s.balancers.Get(tx, sc, pathOf(sc, kindBalancer, arn)); ok {
		return retag(tx, sc, s.balancers, x.Path, x, func(x *loadBalancer) *map[string]string { return &x.Tags }, change)
	}
	if x, ok := s.groupsOf.Get(tx, sc, pathOf(sc, kindGroup, arn)); ok {
		return retag(tx, sc, s.groupsOf, x.Path, x, func(x *targetGroup) *map[string]string { return &x.Tags }, change)
	}
	if x, ok := s.listeners.Get(tx, sc, pathOf(sc, kindListener, arn)); ok {
		return retag(tx, sc, s.listeners, x.Path, x, func(x *listener) *map[string]string { return &x.Tags }, change)
	}
	if x, ok := s.rules.Get(tx, sc, pathOf(sc, kindRule, arn)); ok {
		return retag(tx, sc, s.rules, x.Path, x, func(x *rule) *map[string]string { return &x.Tags }, change)
	}
	return missing(arn)
}

func retag[T any](tx *store.Tx, sc store.Scope, table *store.Table[T], key string, x *T, tags func(*T) *map[string]string, change func(map[string]string) (map[string]string, error)) error {
	x = table.Clone(x)
	next, err := change(*tags(x))
	if err != nil {
		return err
	}
	*tags(x) = next
	table.Put(tx, sc, key, x)
	return nil
}

// missing says that there is no resource of an ARN, with the code of its kind.
func missing(arn string) error {
	for kind, code := range map[string]string{"loadbalancer/": "LoadBalancerNotFound", "targetgroup/": "TargetGroupNotFound", "listener/": "ListenerNotFound", "listener-rule/": "RuleNotFound"} {
		if f := strings.SplitN(arn, ":", 6); len(f) == 6 && strings.HasPrefix(f[5], kind) {
			return fail(code, "'%.300s' not found", arn)
		}
	}
	return fail("ValidationError", "'%.300s' is not a valid ARN of a load balancer, target group, listener or rule", arn)
}

// tagsOf are the tags of the resource of an ARN; ok is false if there is none.
func (s *Service) tagsOf(r store.Reader, sc store.Scope, arn string) (tags map[string]string, ok bool) {
	if x, ok := s.balancers.Get(r, sc, pathOf(sc, kindBalancer, arn)); ok {
		return x.Tags, true
	}
	if x, ok := s.groupsOf.Get(r, sc, pathOf(sc, kindGroup, arn)); ok {
		return x.Tags, true
	}
	if x, ok := s.listeners.Get(r, sc, pathOf(sc, kindListener, arn)); ok {
		return x.Tags, true
	}
	if x, ok := s.rules.Get(r, sc, pathOf(sc, kindRule, arn)); ok {
		return x.Tags, true
	}
	if path := pathOf(sc, kindRule, arn); path != "" && s.defaultOf(r, sc, path) != nil {
		return nil, true
	}
	return nil, false
}

// AddTags adds tags to resources.
func (s *Service) AddTags(ctx context.Context, in *api.AddTagsInput) (*api.AddTagsOutput, error) {
	err := s.retagAll(ctx, in.ResourceArns, func(had map[string]string) (map[string]string, error) { return tagged(had, in.Tags) })
	if err != nil {
		return nil, err
	}
	return &api.AddTagsOutput{}, nil
}

// RemoveTags removes tags from resources.
func (s *Service) RemoveTags(ctx context.Context, in *api.RemoveTagsInput) (*api.RemoveTagsOutput, error) {
	err := s.retagAll(ctx, in.ResourceArns, func(had map[string]string) (map[string]string, error) {
		next := cloned(had)
		for _, key := range in.TagKeys {
			delete(next, key)
		}
		return next, nil
	})
	if err != nil {
		return nil, err
	}
	return &api.RemoveTagsOutput{}, nil
}

func (s *Service) retagAll(ctx context.Context, arns []string, change func(map[string]string) (map[string]string, error)) error {
	sc := scopeOf(ctx)
	if len(arns) == 0 || len(arns) > maxDescribe {
		return fail("ValidationError", "Between 1 and %d resources must be specified", maxDescribe)
	}
	return s.db.Update(ctx, func(tx *store.Tx) error {
		for _, arn := range arns {
			if err := s.withTags(tx, sc, arn, change); err != nil {
				return err
			}
		}
		return nil
	})
}

// DescribeTags shows the tags of resources.
func (s *Service) DescribeTags(ctx context.Context, in *api.DescribeTagsInput) (*api.DescribeTagsOutput, error) {
	sc, snap := scopeOf(ctx), s.db.Snapshot()
	if len(in.ResourceArns) == 0 || len(in.ResourceArns) > maxDescribe {
		return nil, fail("ValidationError", "Between 1 and %d resources must be specified", maxDescribe)
	}
	out := &api.DescribeTagsOutput{}
	for _, arn := range in.ResourceArns {
		tags, ok := s.tagsOf(snap, sc, arn)
		if !ok {
			return nil, missing(arn)
		}
		d := types.TagDescription{ResourceArn: &arn, Tags: []types.Tag{}}
		for _, key := range slices.Sorted(maps.Keys(tags)) {
			d.Tags = append(d.Tags, types.Tag{Key: &key, Value: pointer(tags[key])})
		}
		out.TagDescriptions = append(out.TagDescriptions, d)
	}
	return out, nil
}

// DescribeAccountLimits shows the room's limits.
func (s *Service) DescribeAccountLimits(_ context.Context, _ *api.DescribeAccountLimitsInput) (*api.DescribeAccountLimitsOutput, error) {
	out := &api.DescribeAccountLimitsOutput{}
	for _, l := range []struct{ name, most string }{
		{"application-load-balancers", "50"}, {"network-load-balancers", "50"}, {"target-groups", "3000"}, {"targets-per-application-load-balancer", "1000"},
		{"listeners-per-application-load-balancer", "50"}, {"listeners-per-network-load-balancer", "50"}, {"rules-per-application-load-balancer", "100"},
		{"target-groups-per-action-on-application-load-balancer", "5"}, {"condition-values-per-alb-rule", "5"},
	} {
		out.Limits = append(out.Limits, types.Limit{Name: &l.name, Max: &l.most})
	}
	return out, nil
}

// resourceConditions are the keys of a resource's tags.
func (s *Service) resourceConditions(ctx context.Context, arn string) map[string][]string {
	tags, _ := s.tagsOf(s.db.Snapshot(), scopeOf(ctx), arn)
	c := map[string][]string{}
	for key, value := range tags {
		c["aws:ResourceTag/"+key] = []string{value}
		c["elasticloadbalancing:ResourceTag/"+key] = []string{value}
	}
	return c
}
