package ecs

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/events"
	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire/codec"
)

// Bus takes the room's events.
type Bus interface {
	// Wanted tells whether anybody takes the events of an account and region.
	Wanted(account, region string) bool
	// Publish must not block.
	Publish(e events.Event)
}

// eventSource, and what events tell of, are AWS's.
const (
	eventSource       = "aws.ecs"
	taskChanged       = "ECS Task State Change"
	instanceChanged   = "ECS Container Instance State Change"
	serviceActed      = "ECS Service Action"
	deploymentChanged = "ECS Deployment State Change"
)

// watchEvents publishes what changes. What nobody takes is not made.
func (s *Service) watchEvents() {
	if s.deps.Events == nil {
		return
	}
	encode := codec.New(codec.Options{Service: "ecs", LowerCamel: true, Unions: unions()})
	s.tasks.Subscribe(func(c store.Change[Task]) {
		if c.New == nil || c.Old != nil && c.Old.Version == c.New.Version || !s.deps.Events.Wanted(c.Account, c.Region) {
			return
		}
		v := s.taskView(s.db.Snapshot(), c.Scope, c.New, false)
		s.publish(c.Scope, taskChanged, *v.TaskArn, fmt.Sprint(c.New.ID, c.New.Version), s.detail(encode, &v, c.New.Version))
	})
	s.instances.Subscribe(func(c store.Change[ContainerInstance]) {
		if c.New != nil && s.deps.Events.Wanted(c.Account, c.Region) {
			s.publishInstance(encode, c.Scope, c.New, c.Revision, "")
		}
	})
	s.nodes.Subscribe(func(c store.Change[Node]) {
		if c.New == nil || c.Old != nil && c.Old.Connected == c.New.Connected || !s.deps.Events.Wanted(c.Account, c.Region) {
			return
		}
		for _, ci := range s.instances.List(s.db.Snapshot(), c.Scope) {
			if ci.NodeID == c.New.ID && ci.Status != statusInactive {
				s.publishInstance(encode, c.Scope, ci, c.Revision, "connection ")
			}
		}
	})
	s.services.Subscribe(func(c store.Change[serviceRecord]) {
		if c.New != nil && s.deps.Events.Wanted(c.Account, c.Region) {
			s.publishService(c)
		}
	})
}

// publish publishes an event of a resource; its id follows from what makes it another one.
func (s *Service) publish(sc store.Scope, kind, arn, seed string, detail any) {
	s.deps.Events.Publish(events.Event{
		Version: "0", ID: deriveUUID(seed, kind), DetailType: kind, Source: eventSource, Account: sc.Account, Region: sc.Region,
		Time: s.now().UTC().Truncate(time.Second), Resources: []string{arn}, Detail: detail,
	})
}

func (s *Service) publishInstance(encode *codec.Codec, sc store.Scope, ci *ContainerInstance, revision int64, seed string) {
	snap := s.db.Snapshot()
	n, ok := s.node(snap, sc, ci.NodeID)
	if !ok {
		return
	}
	v := s.instanceView(snap, sc, n, ci, false, false)
	s.publish(sc, instanceChanged, *v.ContainerInstanceArn, fmt.Sprint(seed, ci.ID, revision), s.detail(encode, &v, revision))
}

// detail is what the API shows, with times as events have them.
func (s *Service) detail(encode *codec.Codec, v any, version int64) map[string]any {
	raw, err := encode.AppendJSON(nil, v)
	detail := map[string]any{}
	if err == nil {
		err = json.Unmarshal(raw, &detail)
	}
	if err != nil {
		s.log.Error("an event has no detail", "error", err)
	}
	datesIn(detail)
	detail["updatedAt"], detail["version"] = eventTime(s.now()), version
	return detail
}

// datesIn makes dates of the times in an answer: members that end in At, of seconds.
func datesIn(v any) {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			if seconds, ok := member.(float64); ok && strings.HasSuffix(name, "At") {
				v[name] = eventTime(time.UnixMilli(int64(math.Round(seconds * 1000))))
				continue
			}
			datesIn(member)
		}
	case []any:
		for _, item := range v {
			datesIn(item)
		}
	}
}

func eventTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// publishService tells of a service's deployments, and of what it came to.
func (s *Service) publishService(c store.Change[serviceRecord]) {
	r, old := c.New, c.Old
	if old == nil {
		old = &serviceRecord{}
	}
	arn, now := serviceARNOf(c.Scope, r.Cluster, r.Name), eventTime(s.now())
	tell := func(kind, level, name, seed string, more map[string]any) {
		more["eventType"], more["eventName"] = level, name
		s.publish(c.Scope, kind, arn, fmt.Sprint(seed, name, c.Revision), more)
	}
	for i := range r.Deployments {
		d := &r.Deployments[i]
		if before := old.deployment(d.ID); before != nil && before.State == d.State {
			continue
		}
		level := "INFO"
		if d.State == types.DeploymentRolloutStateFailed {
			level = "ERROR"
		}
		tell(deploymentChanged, level, "SERVICE_DEPLOYMENT_"+string(d.State), d.ID, map[string]any{"deploymentId": d.ID, "updatedAt": now, "reason": d.Reason})
	}
	act := func(level, name string, more map[string]any) {
		more["clusterArn"], more["createdAt"] = clusterARN(c.Scope, r.Cluster), now
		tell(serviceActed, level, name, r.Key(), more)
	}
	if r.Steady && !old.Steady {
		act("INFO", "SERVICE_STEADY_STATE", map[string]any{})
	}
	waited := ""
	if old.Waiting != nil {
		waited = old.Waiting.For
	}
	switch w := r.Waiting; {
	case w == nil || w.For == waited:
	case w.For == waitPlace:
		act("ERROR", "SERVICE_TASK_PLACEMENT_FAILURE", map[string]any{"reason": w.Detail})
	case w.For == waitBackoff:
		act("WARN", "SERVICE_TASK_START_IMPAIRED", map[string]any{})
	}
}
