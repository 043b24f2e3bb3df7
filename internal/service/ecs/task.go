package ecs

import (
	"context"
	"iter"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
)

const maxDescribe = 100

// DescribeTasks describes up to a hundred tasks.
func (s *Service) DescribeTasks(ctx context.Context, in *ecs.DescribeTasksInput) (*ecs.DescribeTasksOutput, error) {
	switch n := len(in.Tasks); {
	case n == 0:
		return nil, errInvalidParameter("Tasks cannot be empty.")
	case n > maxDescribe:
		return nil, errInvalidParameter("Tasks can have at most %d items.", maxDescribe)
	}
	sc, snap := scopeOf(ctx), s.db.Snapshot()
	c, err := s.cluster(snap, sc, in.Cluster)
	if err != nil {
		return nil, err
	}
	tags := slices.Contains(in.Include, types.TaskFieldTags)
	out := &ecs.DescribeTasksOutput{Tasks: []types.Task{}, Failures: []types.Failure{}}
	for _, ref := range in.Tasks {
		id, err := memberID(sc, "task", c.Name, ref)
		if err != nil {
			return nil, err
		}
		t, ok := s.tasks.Get(snap, sc, memberKey(c.Name, id))
		if !ok {
			out.Failures = append(out.Failures, types.Failure{
				Arn: optional(taskARN(sc, c.Name, id)), Reason: optional("MISSING"),
			})
			continue
		}
		out.Tasks = append(out.Tasks, s.taskView(snap, sc, t, tags))
	}
	return out, nil
}

// ListTasks lists the ARNs of a cluster's tasks that pass every filter.
func (s *Service) ListTasks(ctx context.Context, in *ecs.ListTasksInput) (*ecs.ListTasksOutput, error) {
	sc, snap := scopeOf(ctx), s.db.Snapshot()
	c, err := s.cluster(snap, sc, in.Cluster)
	if err != nil {
		return nil, err
	}
	f := taskFilter{
		cluster: c.Name, family: deref(in.Family), startedBy: deref(in.StartedBy),
		service: lastPart(deref(in.ServiceName)), daemon: deref(in.DaemonName),
		desired: string(in.DesiredStatus), launchType: in.LaunchType,
	}
	if f.desired == "" {
		f.desired = taskRunning
	}
	if !slices.Contains(in.DesiredStatus.Values(), types.DesiredStatus(f.desired)) {
		return nil, errInvalidParameter("desiredStatus must be RUNNING, PENDING or STOPPED.")
	}
	if ref := deref(in.ContainerInstance); ref != "" {
		ci, err := s.instance(snap, sc, c.Name, ref)
		if err != nil {
			return nil, err
		}
		f.instance = ci.ID
	}
	if f.startedBy != "" && (f.service != "" || f.family != "") {
		return nil, errInvalidParameter("startedBy can't be combined with family or serviceName.")
	}
	keys, token, err := page(s.matchingTasks(snap, sc, &f), in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &ecs.ListTasksOutput{TaskArns: []string{}, NextToken: token}
	for _, key := range keys {
		out.TaskArns = append(out.TaskArns, arnOf(sc, "task", key))
	}
	return out, nil
}

// lastPart returns a name out of a name or ARN.
func lastPart(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }

type taskFilter struct {
	cluster, instance, family, startedBy, service, daemon, desired string
	launchType                                                     types.LaunchType
}

func (f *taskFilter) passes(t *Task) bool {
	match := func(want, got string) bool { return want == "" || want == got }
	return match(f.instance, t.InstanceID) && match(f.family, t.Family) && match(f.startedBy, t.StartedBy) &&
		match(f.service, t.Service) && match(f.daemon, "") && match(f.desired, t.DesiredStatus) &&
		match(string(f.launchType), string(t.LaunchType))
}

// matchingTasks goes through the narrowest index, in key order.
func (s *Service) matchingTasks(r store.Reader, sc store.Scope, f *taskFilter) iter.Seq[string] {
	index, value := s.tasksByDesired, f.desired
	switch {
	case f.startedBy != "":
		index, value = s.tasksByStarter, f.startedBy
	case f.instance != "":
		index, value = s.tasksByInstance, f.instance
	case f.service != "":
		index, value = s.tasksByService, f.service
	case f.family != "" && f.desired == taskRunning:
		index, value = s.tasksByFamily, f.family
	}
	return func(yield func(string) bool) {
		for key, t := range index.List(r, sc, f.cluster+"/"+value) {
			if f.passes(t) && !yield(key) {
				return
			}
		}
	}
}

// StopTask asks for a task's stop. Stopping what is stopped changes nothing.
func (s *Service) StopTask(ctx context.Context, in *ecs.StopTaskInput) (*ecs.StopTaskOutput, error) {
	reason := deref(in.Reason)
	if len([]rune(reason)) > 255 {
		return nil, errInvalidParameter("Reason must have at most 255 characters.")
	}
	if reason == "" {
		reason = "Task stopped by user"
	}
	sc, now := scopeOf(ctx), s.now().UTC()
	var shown types.Task
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		c, err := s.cluster(tx, sc, in.Cluster)
		if err != nil {
			return err
		}
		t, err := s.task(tx, sc, c.Name, deref(in.Task))
		if err != nil {
			return err
		}
		t = s.tasks.Clone(t)
		if t.requestStop(types.TaskStopCodeUserInitiated, reason, now) {
			t.Version++
			// The answer shows the status that the task was stopped in; from then on
			// it waits for its agent. (A view shares what it shows.)
			shown = s.taskView(tx, sc, s.tasks.Clone(t), false)
			if t.LastStatus == taskRunning {
				t.advance(taskStopping, now)
			}
			s.tasks.Put(tx, sc, t.Key(), t)
			return nil
		}
		shown = s.taskView(tx, sc, t, false)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &ecs.StopTaskOutput{Task: &shown}, nil
}
