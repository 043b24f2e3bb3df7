package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/service/ecs"
	"longshore.dev/longshore/internal/store"
)

// oracle reads every record as it is committed, by itself, and checks what must
// hold at every revision.
type oracle struct {
	w *World

	keys      map[string]bool
	tasks     map[string]*ecs.Task // by cluster/id
	services  map[string]*service
	addresses map[string]*ecs.Address
	nodes     map[string]*ecs.Node
	instances map[string]*ecs.ContainerInstance

	byService map[string]map[string]*ecs.Task // not STOPPED
	byNode    map[string]map[string]*ecs.Task // not STOPPED
	byAddress map[string]string               // a task that is not STOPPED
	starts    map[string]int                  // by ARN
	byRef     map[string]int                  // tasks ever made, by referenceId
	// raced: something else was committed after what is committed now was decided.
	raced bool
	// acted counts tasks that were made, or asked to stop.
	acted int
}

// service is what of a service's record the oracle reads.
type service struct {
	Name          string                        `json:"name"`
	Cluster       string                        `json:"cluster"`
	Status        string                        `json:"status"`
	Scheduling    types.SchedulingStrategy      `json:"scheduling"`
	Desired       int                           `json:"desired"`
	Configuration types.DeploymentConfiguration `json:"configuration"`
	Deployments   []struct {
		ID        string    `json:"id"`
		NotBefore time.Time `json:"notBefore"`
	} `json:"deployments"`
	Waiting *struct {
		For    string `json:"for"`
		Detail string `json:"detail"`
	} `json:"waiting"`
}

func (s *service) least() int {
	return (s.Desired*int(*s.Configuration.MinimumHealthyPercent) + 99) / 100
}

func (s *service) most() int { return s.Desired * int(*s.Configuration.MaximumPercent) / 100 }

func (s *service) daemon() bool { return s.Scheduling == types.SchedulingStrategyDaemon }

func newOracle(w *World) *oracle {
	return &oracle{
		w: w, keys: map[string]bool{}, tasks: map[string]*ecs.Task{}, services: map[string]*service{}, addresses: map[string]*ecs.Address{},
		nodes: map[string]*ecs.Node{}, instances: map[string]*ecs.ContainerInstance{},
		byService: map[string]map[string]*ecs.Task{}, byNode: map[string]map[string]*ecs.Task{}, byAddress: map[string]string{}, starts: map[string]int{}, byRef: map[string]int{},
	}
}

func (o *oracle) exists(key string) bool { return o.keys[key] }

// change is a task before and after a commit.
type change struct {
	key      string
	old, new *ecs.Task
}

// commit takes one revision in.
func (o *oracle) commit(events []store.Event) {
	var changes []change
	for _, ev := range events {
		o.w.trace.note(o.w.now, fmt.Sprintf("%d %s %x", ev.ModRevision, ev.Key, digest(ev.Value)))
		if o.keys[ev.Key] = !ev.Deleted; ev.Deleted {
			delete(o.keys, ev.Key)
		}
		parts := strings.SplitN(ev.Key, "/", 6) // ls/1/account/region/table/id
		id := parts[5]
		switch parts[4] {
		case "ecs.tasks":
			t := decode[ecs.Task](o.w, ev)
			changes = append(changes, change{id, o.tasks[id], t})
			keep(o.tasks, id, t)
			o.index(changes[len(changes)-1])
		case "ecs.services":
			keep(o.services, id, decode[service](o.w, ev))
		case "ecs.addresses":
			keep(o.addresses, id, decode[ecs.Address](o.w, ev))
		case "ecs.nodes":
			keep(o.nodes, id, decode[ecs.Node](o.w, ev))
		case "ecs.instances":
			keep(o.instances, id, decode[ecs.ContainerInstance](o.w, ev))
		}
	}
	for _, c := range changes {
		o.checkTask(c)
	}
	o.checkServices(changes)
}

func keep[T any](m map[string]*T, id string, v *T) {
	if v == nil {
		delete(m, id)
	} else {
		m[id] = v
	}
}

// decode reads a record out of its envelope; nil for one that was deleted.
func decode[T any](w *World, ev store.Event) *T {
	if ev.Deleted {
		return nil
	}
	var envelope struct {
		R T `json:"r"`
	}
	if err := json.Unmarshal(ev.Value, &envelope); err != nil {
		w.fail("the record %s can't be read: %v", ev.Key, err)
	}
	return &envelope.R
}

func digest(b []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}

func live(t *ecs.Task) bool { return t != nil && t.LastStatus != "STOPPED" }

func (o *oracle) index(c change) {
	set := func(m map[string]map[string]*ecs.Task, key string) {
		if key == "" {
			return
		}
		if m[key] == nil {
			m[key] = map[string]*ecs.Task{}
		}
		if live(c.new) {
			m[key][c.key] = c.new
		} else if delete(m[key], c.key); len(m[key]) == 0 {
			delete(m, key)
		}
	}
	t := c.new
	if t == nil {
		t = c.old
	}
	if t.Service != "" {
		set(o.byService, t.Cluster+"/"+t.Service)
	}
	set(o.byNode, t.NodeID)
	if c.old == nil && t.ReferenceID != "" {
		o.byRef[t.ReferenceID]++
	}
	if !live(c.new) && t.ENI != nil && o.byAddress[t.ENI.Address] == c.key {
		delete(o.byAddress, t.ENI.Address)
	}
}

var statuses = []string{"PROVISIONING", "PENDING", "ACTIVATING", "RUNNING", "DEACTIVATING", "STOPPING", "DEPROVISIONING", "STOPPED"}

// checkTask checks one task's step.
func (o *oracle) checkTask(c change) {
	w, old, t := o.w, c.old, c.new
	if t == nil {
		if old != nil && (old.LastStatus != "STOPPED" || w.now.Sub(old.StoppedAt) < time.Hour) {
			w.fail("the task %s was forgotten while it was %s, stopped at %s", c.key, old.LastStatus, old.StoppedAt)
		}
		return
	}
	if old == nil {
		o.acted++
		w.stats.Tasks++
		o.checkPlace(c.key, t)
		return
	}
	if slices.Index(statuses, t.LastStatus) < slices.Index(statuses, old.LastStatus) {
		w.fail("the task %s went back from %s to %s", c.key, old.LastStatus, t.LastStatus)
	}
	if old.DesiredStatus == "STOPPED" && t.DesiredStatus != "STOPPED" {
		w.fail("the task %s is desired %s again", c.key, t.DesiredStatus)
	}
	if old.LastStatus == "STOPPED" && (!old.StoppedAt.Equal(t.StoppedAt) || old.StopCode != t.StopCode || old.StoppedReason != t.StoppedReason) {
		w.fail("the end of the task %s changed", c.key)
	}
	if !old.StartedAt.IsZero() && !old.StartedAt.Equal(t.StartedAt) || old.NodeID != t.NodeID || old.InstanceID != t.InstanceID {
		w.fail("the task %s started twice or moved", c.key)
	}
	if old.DesiredStatus != "STOPPED" && t.DesiredStatus == "STOPPED" {
		o.acted++
		o.checkStop(c.key, old, t)
	}
	if live(old) && !live(t) && t.ENI != nil {
		if a := o.addresses[t.ENI.SubnetID+"/"+t.ENI.Address]; a == nil || a.Task == c.key && a.ReleasedAt.IsZero() {
			w.fail("the task %s is STOPPED, its address %s is not released", c.key, t.ENI.Address)
		}
	}
}

// checkStop checks that who stops a task may.
func (o *oracle) checkStop(key string, old, t *ecs.Task) {
	w := o.w
	if t.StoppedReason == "" {
		w.fail("the task %s is stopped (%s) without a reason", key, t.StopCode)
	}
	n := o.nodes[t.NodeID]
	switch t.StopCode {
	case types.TaskStopCodeTerminationNotice:
		since := later(n.ConnectivityAt, n.RegisteredAt)
		if n.Connected || w.now.Sub(since) < ecs.DefaultLostAfter {
			w.fail("the task %s is given up, and its node %s is there, or away since %s only", key, n.ID, since)
		}
	case types.TaskStopCodeServiceSchedulerInitiated:
		s := o.services[t.Cluster+"/"+t.Service]
		if t.ProtectedUntil.After(w.now) && s != nil && s.Status == "ACTIVE" && old.Health != types.HealthStatusUnhealthy {
			w.fail("the protected task %s is stopped by its service: %s", key, t.StoppedReason)
		}
	}
}

// checkPlace checks that there was room for a new task.
func (o *oracle) checkPlace(key string, t *ecs.Task) {
	w, n := o.w, o.nodes[t.NodeID]
	if n == nil {
		w.fail("the task %s is on the unknown node %s", key, t.NodeID)
		return
	}
	var cpu, memory int64
	ports := map[uint16]string{}
	for k, other := range o.byNode[n.ID] {
		cpu, memory = cpu+other.Allocation.CPU, memory+other.Allocation.Memory
		for _, p := range other.Allocation.TCP {
			if ports[p] != "" {
				w.fail("the tasks %s and %s have the port %d of %s", min(k, ports[p]), max(k, ports[p]), p, n.ID)
			}
			ports[p] = k
		}
	}
	if cpu > n.Resources.CPU || memory > n.Resources.Memory {
		w.fail("the tasks of %s take %d CPU and %d MiB, it has %d and %d", n.ID, cpu, memory, n.Resources.CPU, n.Resources.Memory)
	}
	if t.ENI != nil {
		if other := o.byAddress[t.ENI.Address]; other != "" {
			w.fail("the tasks %s and %s have the address %s", key, other, t.ENI.Address)
		}
		o.byAddress[t.ENI.Address] = key
	}
	if ci := o.instances[t.Cluster+"/"+t.InstanceID]; t.InstanceID != "" && (ci == nil || ci.Status != "ACTIVE") && !o.raced {
		w.fail("the task %s is on the instance %s, which takes none", key, t.InstanceID)
	}
}

func (o *oracle) healthy(t *ecs.Task) bool {
	if t.LastStatus != "RUNNING" || t.DesiredStatus != "RUNNING" {
		return false
	}
	if slices.ContainsFunc(t.Containers, func(c ecs.TaskContainer) bool { return c.Essential && c.Health != "" }) {
		return t.Health == types.HealthStatusHealthy
	}
	return o.w.now.Sub(t.StartedAt) >= ecs.DefaultHealthyAfter
}

// checkServices checks the percentages of the services whose tasks were changed.
func (o *oracle) checkServices(changes []change) {
	for _, c := range changes {
		if c.new == nil || c.new.Service == "" {
			continue
		}
		key := c.new.Cluster + "/" + c.new.Service
		s := o.services[key]
		if s == nil || s.Status != "ACTIVE" {
			continue
		}
		switch {
		case c.old == nil && s.daemon():
			o.checkDaemon(key, c.new)
		case c.old == nil:
			if n := len(o.byService[key]); n > s.most() {
				o.w.fail("the service %s has %d tasks after a start, %d%% of %d are %d", s.Name, n, *s.Configuration.MaximumPercent, s.Desired, s.most())
			}
		case !s.daemon() && !o.raced && c.old.DesiredStatus == "RUNNING" && c.new.StopCode == types.TaskStopCodeServiceSchedulerInitiated && o.healthy(c.old):
			left := 0
			for _, t := range o.byService[key] {
				if o.healthy(t) {
					left++
				}
			}
			if left < s.least() {
				o.w.fail("the service %s stopped the healthy task %s (%s) and has %d healthy ones left, %d%% of %d are %d",
					s.Name, c.key, c.new.StoppedReason, left, *s.Configuration.MinimumHealthyPercent, s.Desired, s.least())
			}
		}
	}
}

func (o *oracle) checkDaemon(key string, made *ecs.Task) {
	for _, t := range o.byService[key] {
		if t.ID != made.ID && t.InstanceID == made.InstanceID {
			o.w.fail("the daemon %s has two tasks on the instance %s", key, t.InstanceID)
		}
	}
}

// started is told when containers of a task begin to run.
func (o *oracle) started(a *agent, t *task) {
	o.w.stats.Starts++
	if o.starts[t.arn]++; o.starts[t.arn] > 1 {
		o.w.fail("the task %s was started %d times", t.arn, o.starts[t.arn])
	}
	if r := o.tasks[cluster+"/"+t.id()]; r != nil && r.NodeID != a.name {
		o.w.fail("the task %s of the node %s was started on %s", t.arn, r.NodeID, a.name)
	}
}
