package ecs

import (
	"iter"
	"strconv"
	"strings"
	"time"

	"longshore.dev/longshore/internal/placement"
)

// filterSubject is a container instance as the cluster query language of
// ListContainerInstances sees it.
type filterSubject struct{ placement.Instance }

// Value implements cql.Subject.
func (f filterSubject) Value(name string) (string, bool) {
	if attribute, ok := strings.CutPrefix(name, "attribute:"); ok {
		v, ok := f.Attributes[attribute]
		return v, ok
	}
	switch name {
	case "agentConnected":
		return strconv.FormatBool(f.AgentConnected), true
	case "agentVersion":
		return f.AgentVersion, f.AgentVersion != ""
	case "ec2InstanceId":
		return f.EC2InstanceID, f.EC2InstanceID != ""
	}
	return "", false
}

// TaskGroups implements cql.Subject.
func (f filterSubject) TaskGroups() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, g := range f.Instance.TaskGroups {
			if !yield(g.Group) {
				return
			}
		}
	}
}

// RunningTasks implements cql.Subject.
func (f filterSubject) RunningTasks() int { return f.Instance.RunningTasks }

// RegisteredAt implements cql.Subject.
func (f filterSubject) RegisteredAt() time.Time { return f.Instance.RegisteredAt }
