package control

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/sts"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"

	"longshore.dev/longshore/internal/wire"
)

// roles gives tasks' roles to the ECS room. Each is assumed by a call like any
// other: the role's trust policy decides, and the audit log has it.
type roles struct{ server *Server }

// AssumeForTask implements ecs.Roles.
func (r roles) AssumeForTask(ctx context.Context, account, region, taskARN, roleARN, session string) (*ststypes.Credentials, error) {
	service := wire.ServicePrincipal("ecs-tasks.amazonaws.com", account, taskARN)
	out, err := wire.Invoke[sts.AssumeRoleInput, sts.AssumeRoleOutput](ctx, r.server.registry, service, account, region, "sts", "AssumeRole",
		&sts.AssumeRoleInput{RoleArn: &roleARN, RoleSessionName: &session})
	if err != nil {
		return nil, err
	}
	return out.Credentials, nil
}

// CredentialsID implements ecs.Roles.
func (r roles) CredentialsID(ctx context.Context, taskARN, roleType string) (string, error) {
	return r.server.iam.CredentialsID(ctx, taskARN, roleType)
}
