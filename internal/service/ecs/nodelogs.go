package ecs

import (
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
)

// NodeLogs tells whether a node has a task that writes its output to the log
// group by the awslogs driver. With a task id only that task counts. Stopped
// tasks count as long as they are visible: their last lines may come late.
func (s *Service) NodeLogs(account, region, node, group, task string) bool {
	snap := s.db.Snapshot()
	sc := store.Scope{Account: account, Region: region}
	if task != "" {
		for _, t := range s.tasksByID.List(snap, sc, task) {
			return t.NodeID == node && s.logsTo(snap, sc, t, group)
		}
		return false
	}
	for _, t := range s.liveByNode.List(snap, sc, node) {
		if s.logsTo(snap, sc, t, group) {
			return true
		}
	}
	return false
}

func (s *Service) logsTo(r store.Reader, sc store.Scope, t *Task, group string) bool {
	d, ok := s.definitions.Get(r, sc, definitionID(t.Family, t.Revision))
	if !ok {
		return false
	}
	for i := range d.Definition.ContainerDefinitions {
		l := d.Definition.ContainerDefinitions[i].LogConfiguration
		if l != nil && l.LogDriver == types.LogDriverAwslogs && l.Options["awslogs-group"] == group {
			return true
		}
	}
	return false
}
