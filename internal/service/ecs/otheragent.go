package ecs

import (
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// AttributeAgent is announced by our own agent. What other agents announce tells
// what they can do with a control plane that gives them all that AWS does.
const AttributeAgent = "longshore.agent"

// ours tells whether the node's agent is our own.
func (n *Node) ours() bool {
	return n.Universal || n.Fargate || announces(n.Attributes, AttributeAgent)
}

// withheld are the capabilities of other agents that need what they don't get
// yet: images of ECR, secrets, interfaces, files of S3, managed agents. A task that requires one is not placed on them, and the refusal names it; to
// ignore what it asks for, or to let it wait in the agent's queue, would be worse.
var withheld = []string{
	capabilityLong + "logging-driver.awsfirelens",
	capability + "execution-role-ecr-pull", capability + "secrets.", capability + "private-registry-authentication.",
	capability + "env-files.", capability + "efs", capability + "s3files", capability + "fsxWindowsFileServer",
	capability + "storage.", capability + "firelens.", capability + "task-eni", capability + "task-eia",
	capability + "aws-appmesh", capability + "service-connect", capability + "execute-command",
	capability + "gmsa", capability + "fault-injection",
}

// offers are the attributes that count when a task is placed on the node.
func (n *Node) offers() []types.Attribute {
	if n.ours() {
		return n.Attributes
	}
	return slices.DeleteFunc(slices.Clone(n.Attributes), func(a types.Attribute) bool {
		return slices.ContainsFunc(withheld, func(prefix string) bool { return strings.HasPrefix(deref(a.Name), prefix) })
	})
}

// withDockerLogs puts the awslogs options as Docker's own driver takes them: it
// does not know stream prefixes, and would look for AWS.
func withDockerLogs(d *types.TaskDefinition, t *Task, endpoint string) *types.TaskDefinition {
	changed := *d
	changed.ContainerDefinitions = slices.Clone(d.ContainerDefinitions)
	for i := range changed.ContainerDefinitions {
		c := &changed.ContainerDefinitions[i]
		if c.LogConfiguration == nil || c.LogConfiguration.LogDriver != types.LogDriverAwslogs {
			continue
		}
		l := *c.LogConfiguration
		l.Options = maps.Clone(l.Options)
		l.Options["awslogs-stream"] = dockerLogStream(l.Options["awslogs-stream-prefix"], deref(c.Name), t.ID)
		delete(l.Options, "awslogs-stream-prefix")
		if l.Options["awslogs-endpoint"] == "" {
			l.Options["awslogs-endpoint"] = endpoint
		}
		c.LogConfiguration = &l
	}
	return &changed
}

// dockerLogStream is prefix/container/task, as ECS names streams. Without a
// prefix the name begins with the task's id, which is what the node may write to.
func dockerLogStream(prefix, container, task string) string {
	name := task + "-" + container
	if prefix != "" {
		name = prefix + "/" + container + "/" + task
	}
	return strings.NewReplacer(":", "_", "*", "_").Replace(name) // stream names cannot hold them
}
