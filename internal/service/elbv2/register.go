package elbv2

import (
	"context"

	api "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"longshore.dev/longshore/internal/wire"
)

// arns are the resources that an operation names by ARN.
func arns[I any](of func(*I) []string) func(context.Context, *I) []string {
	return func(_ context.Context, in *I) []string { return of(in) }
}

func one(arn *string) []string { return []string{deref(arn)} }

// tagging is the permission to tag what an operation makes.
func tagging(operation string, tags []types.Tag, resources []string) []wire.Permission {
	if len(tags) == 0 {
		return nil
	}
	c := tagConditions(tags)
	c["elasticloadbalancing:CreateAction"] = []string{operation}
	return []wire.Permission{{Action: "elasticloadbalancing:AddTags", Resources: resources, Conditions: c}}
}

func tagConditions(tags []types.Tag) map[string][]string {
	c := map[string][]string{}
	for _, t := range tags {
		c["aws:RequestTag/"+deref(t.Key)] = []string{deref(t.Value)}
		c["aws:TagKeys"] = append(c["aws:TagKeys"], deref(t.Key))
	}
	return c
}

func (s *Service) registerBalancers(w *wire.Service) {
	create := wire.Operation[api.CreateLoadBalancerInput]{Name: "CreateLoadBalancer"}
	create.Resources = func(ctx context.Context, in *api.CreateLoadBalancerInput) []string {
		path := "app/"
		if in.Type == types.LoadBalancerTypeEnumNetwork {
			path = "net/"
		}
		return []string{arnOf(scopeOf(ctx), kindBalancer, path+deref(in.Name)+"/*")}
	}
	create.Conditions = func(_ context.Context, in *api.CreateLoadBalancerInput) map[string][]string {
		c := tagConditions(in.Tags)
		if in.Scheme != "" {
			c["elasticloadbalancing:Scheme"] = []string{string(in.Scheme)}
		}
		if len(in.SecurityGroups) > 0 {
			c["elasticloadbalancing:SecurityGroup"] = in.SecurityGroups
		}
		if len(in.Subnets) > 0 {
			c["elasticloadbalancing:Subnet"] = in.Subnets
		}
		return c
	}
	create.Also = func(ctx context.Context, in *api.CreateLoadBalancerInput) []wire.Permission {
		return tagging("CreateLoadBalancer", in.Tags, create.Resources(ctx, in))
	}
	wire.Handle(w, create, s.CreateLoadBalancer)
	wire.Handle(w, wire.Operation[api.DescribeLoadBalancersInput]{Name: "DescribeLoadBalancers", ReadOnly: true}, s.DescribeLoadBalancers)
	wire.Handle(w, wire.Operation[api.DeleteLoadBalancerInput]{Name: "DeleteLoadBalancer", Resources: arns(func(in *api.DeleteLoadBalancerInput) []string { return one(in.LoadBalancerArn) })}, s.DeleteLoadBalancer)
	wire.Handle(w, wire.Operation[api.ModifyLoadBalancerAttributesInput]{Name: "ModifyLoadBalancerAttributes", Resources: arns(func(in *api.ModifyLoadBalancerAttributesInput) []string { return one(in.LoadBalancerArn) })}, s.ModifyLoadBalancerAttributes)
	wire.Handle(w, wire.Operation[api.DescribeLoadBalancerAttributesInput]{Name: "DescribeLoadBalancerAttributes", ReadOnly: true}, s.DescribeLoadBalancerAttributes)
	wire.Handle(w, wire.Operation[api.SetSubnetsInput]{Name: "SetSubnets", Resources: arns(func(in *api.SetSubnetsInput) []string { return one(in.LoadBalancerArn) })}, s.SetSubnets)
	wire.Handle(w, wire.Operation[api.SetSecurityGroupsInput]{Name: "SetSecurityGroups", Resources: arns(func(in *api.SetSecurityGroupsInput) []string { return one(in.LoadBalancerArn) })}, s.SetSecurityGroups)
	add := wire.Operation[api.AddTagsInput]{Name: "AddTags", Resources: arns(func(in *api.AddTagsInput) []string { return in.ResourceArns })}
	add.Conditions = func(_ context.Context, in *api.AddTagsInput) map[string][]string { return tagConditions(in.Tags) }
	wire.Handle(w, add, s.AddTags)
	remove := wire.Operation[api.RemoveTagsInput]{Name: "RemoveTags", Resources: arns(func(in *api.RemoveTagsInput) []string { return in.ResourceArns })}
	remove.Conditions = func(_ context.Context, in *api.RemoveTagsInput) map[string][]string {
		return map[string][]string{"aws:TagKeys": in.TagKeys}
	}
	wire.Handle(w, remove, s.RemoveTags)
	wire.Handle(w, wire.Operation[api.DescribeTagsInput]{Name: "DescribeTags", ReadOnly: true}, s.DescribeTags)
	wire.Handle(w, wire.Operation[api.DescribeAccountLimitsInput]{Name: "DescribeAccountLimits", ReadOnly: true}, s.DescribeAccountLimits)
}

func (s *Service) registerGroups(w *wire.Service) {
	create := wire.Operation[api.CreateTargetGroupInput]{Name: "CreateTargetGroup"}
	create.Resources = func(ctx context.Context, in *api.CreateTargetGroupInput) []string {
		return []string{arnOf(scopeOf(ctx), kindGroup, deref(in.Name)+"/*")}
	}
	create.Conditions = func(_ context.Context, in *api.CreateTargetGroupInput) map[string][]string {
		return tagConditions(in.Tags)
	}
	create.Also = func(ctx context.Context, in *api.CreateTargetGroupInput) []wire.Permission {
		return tagging("CreateTargetGroup", in.Tags, create.Resources(ctx, in))
	}
	wire.Handle(w, create, s.CreateTargetGroup)
	wire.Handle(w, wire.Operation[api.DescribeTargetGroupsInput]{Name: "DescribeTargetGroups", ReadOnly: true}, s.DescribeTargetGroups)
	wire.Handle(w, wire.Operation[api.ModifyTargetGroupInput]{Name: "ModifyTargetGroup", Resources: arns(func(in *api.ModifyTargetGroupInput) []string { return one(in.TargetGroupArn) })}, s.ModifyTargetGroup)
	wire.Handle(w, wire.Operation[api.DeleteTargetGroupInput]{Name: "DeleteTargetGroup", Resources: arns(func(in *api.DeleteTargetGroupInput) []string { return one(in.TargetGroupArn) })}, s.DeleteTargetGroup)
	wire.Handle(w, wire.Operation[api.ModifyTargetGroupAttributesInput]{Name: "ModifyTargetGroupAttributes", Resources: arns(func(in *api.ModifyTargetGroupAttributesInput) []string { return one(in.TargetGroupArn) })}, s.ModifyTargetGroupAttributes)
	wire.Handle(w, wire.Operation[api.DescribeTargetGroupAttributesInput]{Name: "DescribeTargetGroupAttributes", ReadOnly: true}, s.DescribeTargetGroupAttributes)
	wire.Handle(w, wire.Operation[api.RegisterTargetsInput]{Name: "RegisterTargets", Resources: arns(func(in *api.RegisterTargetsInput) []string { return one(in.TargetGroupArn) })}, s.RegisterTargets)
	wire.Handle(w, wire.Operation[api.DeregisterTargetsInput]{Name: "DeregisterTargets", Resources: arns(func(in *api.DeregisterTargetsInput) []string { return one(in.TargetGroupArn) })}, s.DeregisterTargets)
	wire.Handle(w, wire.Operation[api.DescribeTargetHealthInput]{Name: "DescribeTargetHealth", ReadOnly: true}, s.DescribeTargetHealth)
}

func (s *Service) registerListeners(w *wire.Service) {
	create := wire.Operation[api.CreateListenerInput]{Name: "CreateListener", Resources: arns(func(in *api.CreateListenerInput) []string { return one(in.LoadBalancerArn) })}
	create.Conditions = func(_ context.Context, in *api.CreateListenerInput) map[string][]string {
		c := tagConditions(in.Tags)
		c["elasticloadbalancing:ListenerProtocol"] = []string{string(in.Protocol)}
		return c
	}
	create.Also = func(_ context.Context, in *api.CreateListenerInput) []wire.Permission {
		return tagging("CreateListener", in.Tags, one(in.LoadBalancerArn))
	}
	wire.Handle(w, create, s.CreateListener)
	wire.Handle(w, wire.Operation[api.DescribeListenersInput]{Name: "DescribeListeners", ReadOnly: true}, s.DescribeListeners)
	wire.Handle(w, wire.Operation[api.ModifyListenerInput]{Name: "ModifyListener", Resources: arns(func(in *api.ModifyListenerInput) []string { return one(in.ListenerArn) })}, s.ModifyListener)
	wire.Handle(w, wire.Operation[api.DeleteListenerInput]{Name: "DeleteListener", Resources: arns(func(in *api.DeleteListenerInput) []string { return one(in.ListenerArn) })}, s.DeleteListener)
	wire.Handle(w, wire.Operation[api.ModifyListenerAttributesInput]{Name: "ModifyListenerAttributes", Resources: arns(func(in *api.ModifyListenerAttributesInput) []string { return one(in.ListenerArn) })}, s.ModifyListenerAttributes)
	wire.Handle(w, wire.Operation[api.DescribeListenerAttributesInput]{Name: "DescribeListenerAttributes", ReadOnly: true}, s.DescribeListenerAttributes)
	wire.Handle(w, wire.Operation[api.AddListenerCertificatesInput]{Name: "AddListenerCertificates", Resources: arns(func(in *api.AddListenerCertificatesInput) []string { return one(in.ListenerArn) })}, s.AddListenerCertificates)
	wire.Handle(w, wire.Operation[api.RemoveListenerCertificatesInput]{Name: "RemoveListenerCertificates", Resources: arns(func(in *api.RemoveListenerCertificatesInput) []string { return one(in.ListenerArn) })}, s.RemoveListenerCertificates)
	wire.Handle(w, wire.Operation[api.DescribeListenerCertificatesInput]{Name: "DescribeListenerCertificates", ReadOnly: true}, s.DescribeListenerCertificates)
	wire.Handle(w, wire.Operation[api.DescribeSSLPoliciesInput]{Name: "DescribeSSLPolicies", ReadOnly: true}, s.DescribeSSLPolicies)
	rule := wire.Operation[api.CreateRuleInput]{Name: "CreateRule", Resources: arns(func(in *api.CreateRuleInput) []string { return one(in.ListenerArn) })}
	rule.Conditions = func(_ context.Context, in *api.CreateRuleInput) map[string][]string { return tagConditions(in.Tags) }
	rule.Also = func(_ context.Context, in *api.CreateRuleInput) []wire.Permission {
		return tagging("CreateRule", in.Tags, one(in.ListenerArn))
	}
	wire.Handle(w, rule, s.CreateRule)
	wire.Handle(w, wire.Operation[api.DescribeRulesInput]{Name: "DescribeRules", ReadOnly: true}, s.DescribeRules)
	wire.Handle(w, wire.Operation[api.ModifyRuleInput]{Name: "ModifyRule", Resources: arns(func(in *api.ModifyRuleInput) []string { return one(in.RuleArn) })}, s.ModifyRule)
	wire.Handle(w, wire.Operation[api.DeleteRuleInput]{Name: "DeleteRule", Resources: arns(func(in *api.DeleteRuleInput) []string { return one(in.RuleArn) })}, s.DeleteRule)
	wire.Handle(w, wire.Operation[api.SetRulePrioritiesInput]{Name: "SetRulePriorities", Resources: arns(func(in *api.SetRulePrioritiesInput) []string {
		var arns []string
		for _, p := range in.RulePriorities {
			arns = append(arns, deref(p.RuleArn))
		}
		return arns
	})}, s.SetRulePriorities)
}
