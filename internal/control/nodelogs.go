package control

import (
	"context"
	"errors"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"

	"longshore.dev/longshore/internal/service/ecs"
	"longshore.dev/longshore/internal/wire"
)

// taskIDLength is the length of a task's id, with which the log driver begins or
// ends the name of a task's log stream.
const taskIDLength = 32

// logsForNodes lets a node write what its own tasks log, where their task
// definitions say, and nothing else. The rooms of logs and ECS know nothing of
// each other.
type logsForNodes struct{ ecs *ecs.Service }

// NodeMay implements iam.Nodes.
func (l logsForNodes) NodeMay(_ context.Context, req *wire.AuthorizationRequest) error {
	var group, stream string
	switch in := req.Input.(type) {
	case *cloudwatchlogs.PutLogEventsInput:
		group, stream = aws.ToString(in.LogGroupName), aws.ToString(in.LogStreamName)
	case *cloudwatchlogs.CreateLogStreamInput:
		group, stream = aws.ToString(in.LogGroupName), aws.ToString(in.LogStreamName)
	case *cloudwatchlogs.CreateLogGroupInput:
		if l.ecs.NodeLogs(req.Call.Account, req.Call.Region, req.Call.Principal.NodeID, aws.ToString(in.LogGroupName), "") {
			return nil
		}
		return errors.New("no task of the node logs to the group")
	default:
		return errors.New("a node may only write its tasks' log events")
	}
	task, ok := taskOfStream(stream)
	if !ok || !l.ecs.NodeLogs(req.Call.Account, req.Call.Region, req.Call.Principal.NodeID, group, task) {
		return errors.New("no task of the node logs to the stream")
	}
	return nil
}

// taskOfStream takes the task's id out of a stream's name: "prefix/container/ID",
// or the container's id, which begins with it.
func taskOfStream(stream string) (string, bool) {
	last := stream[strings.LastIndexByte(stream, '/')+1:]
	if len(last) < taskIDLength {
		return "", false
	}
	return last[:taskIDLength], true
}
