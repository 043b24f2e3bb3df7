package control

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	ecsroom "longshore.dev/longshore/internal/service/ecs"
	"longshore.dev/longshore/internal/wire"
)

// acting does for the ECS room's services what they do under their roles: each role is
// assumed, and each call made, like any other, so that policies decide and the audit log has
// it.
type acting struct{ server *Server }

// actingSession names the sessions.
const actingSession = "ecs-service"

// as is the principal of a service's role.
func (a acting) as(ctx context.Context, account, region string, who ecsroom.Acting) (wire.Principal, error) {
	service, name := wire.ServicePrincipal("ecs.amazonaws.com", account, who.For), actingSession
	out, err := wire.Invoke[sts.AssumeRoleInput, sts.AssumeRoleOutput](ctx, a.server.registry, service, account, region, "sts", "AssumeRole",
		&sts.AssumeRoleInput{RoleArn: &who.Role, RoleSessionName: &name})
	if err != nil {
		return wire.Principal{}, err
	}
	c, err := a.server.iam.Credential(ctx, *out.Credentials.AccessKeyId, *out.Credentials.SessionToken)
	if err != nil {
		return wire.Principal{}, fmt.Errorf("the session of %s: %w", who.Role, err)
	}
	return c.Principal, nil
}

// Forward implements ecs.Infrastructure.
func (a acting) Forward(ctx context.Context, account, region string, who ecsroom.Acting, rule string, weights map[string]int32) error {
	p, err := a.as(ctx, account, region, who)
	if err != nil {
		return err
	}
	actions := a.server.elb.Reweighed(account, region, rule, weights)
	if listener := a.server.elb.ListenerOf(account, region, rule); listener != "" {
		_, err = wire.Invoke[elb.ModifyListenerInput, elb.ModifyListenerOutput](ctx, a.server.registry, p, account, region, "elbv2", "ModifyListener",
			&elb.ModifyListenerInput{ListenerArn: &listener, DefaultActions: actions})
		return err
	}
	_, err = wire.Invoke[elb.ModifyRuleInput, elb.ModifyRuleOutput](ctx, a.server.registry, p, account, region, "elbv2", "ModifyRule",
		&elb.ModifyRuleInput{RuleArn: &rule, Actions: actions})
	return err
}

// RunTask implements ecs.Infrastructure.
func (a acting) RunTask(ctx context.Context, account, region string, who ecsroom.Acting, in *ecs.RunTaskInput) (*ecs.RunTaskOutput, error) {
	p, err := a.as(ctx, account, region, who)
	if err != nil {
		return nil, err
	}
	return wire.Invoke[ecs.RunTaskInput, ecs.RunTaskOutput](ctx, a.server.registry, p, account, region, "ecs", "RunTask", in)
}
