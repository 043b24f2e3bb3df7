package ecs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/placement"
	"longshore.dev/longshore/internal/store"
)

const (
	maxLaunch = 10
	// What a task may state of its placement.
	maxTaskConstraints, maxTaskStrategies = 10, 5
)

// tokenLife is how long a client token answers with the tasks that it made.
const tokenLife = 24 * time.Hour

// RunTask places and starts up to ten tasks of a task definition.
func (s *Service) RunTask(ctx context.Context, in *ecs.RunTaskInput) (*ecs.RunTaskOutput, error) {
	count := 1
	if in.Count != nil {
		count = int(*in.Count)
	}
	if count < 1 || count > maxLaunch {
		return nil, errInvalidParameter("Count should be between 1 and %d.", maxLaunch)
	}
	if in.LaunchType != "" && len(in.CapacityProviderStrategy) > 0 {
		return nil, errInvalidParameter("Specifying both a launch type and capacity provider strategy is not supported. Remove one and try again.")
	}
	l := newLaunch(s, ctx, count)
	l.runTask(in)
	if err := l.check(); err != nil {
		return nil, err
	}
	var out *ecs.RunTaskOutput
	err := s.db.UpdateJointly(ctx, func(tx *store.Tx) (err error) {
		out, err = s.runTask(tx, l, in)
		return err
	})
	if err != nil {
		return nil, launchError(err)
	}
	return out, nil
}

// launchError turns lost races that did not end into an answer that clients retry.
func launchError(err error) error {
	if errors.Is(err, store.ErrConflict) {
		return errServer("The placement met too many concurrent ones. Try again.")
	}
	return err
}

func (s *Service) runTask(tx *store.Tx, l *launch, in *ecs.RunTaskInput) (*ecs.RunTaskOutput, error) {
	if err := l.resolve(tx, in.Cluster, deref(in.TaskDefinition)); err != nil {
		return nil, err
	}
	out, err := s.replay(tx, l, in)
	if out != nil || err != nil {
		return out, err
	}
	lots, err := capacityLots(in, l.cluster, len(l.seeds))
	if err != nil {
		return nil, err
	}
	out = &ecs.RunTaskOutput{Tasks: []types.Task{}, Failures: []types.Failure{}}
	made, next := []*Task{}, 0
	for _, lot := range lots {
		if err := l.supports(lot.launchType); err != nil {
			return nil, err
		}
		tasks, failures, err := s.place(tx, l, lot, l.seeds[next:next+lot.count], in.PlacementConstraints, in.PlacementStrategy)
		if err != nil {
			return nil, err
		}
		next += lot.count
		made = append(made, tasks...)
		out.Failures = append(out.Failures, failures...)
	}
	for _, t := range made {
		out.Tasks = append(out.Tasks, s.taskView(tx, l.scope, t, true))
	}
	if token := deref(in.ClientToken); token != "" && len(made) > 0 {
		record := &ClientToken{Request: digest(in), CreatedAt: l.now}
		for _, t := range made {
			record.Tasks = append(record.Tasks, t.ID)
		}
		s.tokens.Put(tx, l.scope, tokenKey(l.cluster.Name, token), record)
	}
	return out, nil
}

// place asks the placement where tasks of one lot go and makes them there.
func (s *Service) place(tx *store.Tx, l *launch, lot lot, seeds []string, constraints []types.PlacementConstraint, strategy []types.PlacementStrategy) ([]*Task, []types.Failure, error) {
	fargate := lot.launchType == types.LaunchTypeFargate
	var candidates []*placement.Instance
	if fargate {
		if len(constraints) > 0 || len(strategy) > 0 {
			return nil, nil, errInvalidParameter("Placement constraints and strategies are not supported with FARGATE launch type.")
		}
		candidates = s.fargateCandidates(tx, l.scope, l.cluster.Name)
	} else {
		candidates = s.clusterCandidates(tx, l.scope, l.cluster.Name)
		if lot.launchType == types.LaunchTypeExternal {
			candidates = slices.DeleteFunc(candidates, func(c *placement.Instance) bool {
				_, ok := c.Attributes["ecs.capability.external"]
				return !ok
			})
		}
		if len(candidates) == 0 {
			return nil, nil, errInvalidParameter("No Container Instances were found in your cluster.")
		}
	}
	req := l.request(len(seeds), lot, constraints, strategy)
	if len(req.Constraints) > maxTaskConstraints {
		return nil, nil, errInvalidParameter("A task can have at most %d placement constraints, those of its definition included.", maxTaskConstraints)
	}
	if len(req.Strategies) > maxTaskStrategies {
		return nil, nil, errInvalidParameter("A task can have at most %d placement strategies.", maxTaskStrategies)
	}
	if err := req.Validate(); err != nil {
		return nil, nil, errInvalidParameter("Invalid placement: %s", err)
	}
	plan := planned(candidates, req)
	var tasks []*Task
	var failures []types.Failure
	for i, id := range plan.Assignments {
		t, failure, err := s.make(tx, l, lot, seeds[i], id)
		if err != nil {
			return nil, nil, err
		}
		if failure != nil {
			failures = append(failures, *failure)
			continue
		}
		tasks = append(tasks, t)
	}
	if plan.Unplaced > 0 {
		failures = append(failures, s.refusals(l, fargate, plan.Refusal)...)
	}
	return tasks, failures, nil
}

// refusals are RunTask's failures: one for each instance that was considered.
// Fargate does not show its machines.
func (s *Service) refusals(l *launch, fargate bool, r placement.Refusal) []types.Failure {
	if fargate {
		detail := r.Explain(nil)
		return []types.Failure{{
			Reason: optional("Capacity is unavailable at this time. Please try again later or in a different availability zone"),
			Detail: &detail,
		}}
	}
	var failures []types.Failure
	for _, i := range r.Instances {
		f := types.Failure{
			Arn:    optional(instanceARN(l.scope, l.cluster.Name, i.ID)),
			Reason: optional(string(i.Reason)),
		}
		if i.ID == r.Nearest {
			f.Detail = optional(r.Explain(func(id string) string { return instanceARN(l.scope, l.cluster.Name, id) }))
		}
		failures = append(failures, f)
	}
	return failures
}

// request is what the placement is asked for.
func (l *launch) request(count int, lot lot, constraints []types.PlacementConstraint, strategy []types.PlacementStrategy) placement.Request {
	d := &l.definition.Definition
	req := placement.Request{
		Count: count, Group: l.group,
		Resources: placement.Resources{CPU: l.size.cpu, Memory: l.size.memory, GPU: l.size.gpus},
		TCPPorts:  l.size.tcp, UDPPorts: l.size.udp,
		Rand: rand.New(rand.NewPCG(l.random())),
	}
	// Fargate's machines too must be able to do what the task asks for.
	for _, a := range requiredWith(l.scope, d, l.overrides) {
		req.RequiresAttributes = append(req.RequiresAttributes, placement.Attribute{Name: deref(a.Name), Value: deref(a.Value)})
	}
	if lot.launchType == types.LaunchTypeFargate {
		return req
	}
	for _, c := range d.PlacementConstraints {
		req.Constraints = append(req.Constraints, placement.Constraint{Type: string(c.Type), Expression: deref(c.Expression)})
	}
	for _, c := range constraints {
		req.Constraints = append(req.Constraints, placement.Constraint{Type: string(c.Type), Expression: deref(c.Expression)})
	}
	for _, p := range strategy {
		req.Strategies = append(req.Strategies, placement.Strategy{Type: string(p.Type), Field: deref(p.Field)})
	}
	return req
}

// lot is a number of tasks that are launched in the same way.
type lot struct {
	count      int
	launchType types.LaunchType
	provider   string
}

// capacityLots divides count tasks by launch type or capacity provider strategy;
// without either, the cluster's default strategy applies, and else EC2.
func capacityLots(in *ecs.RunTaskInput, cluster *Cluster, count int) ([]lot, error) {
	strategy := in.CapacityProviderStrategy
	if len(strategy) == 0 && in.LaunchType == "" {
		strategy = cluster.DefaultCapacityProviderStrategy
	}
	if len(strategy) == 0 {
		switch in.LaunchType {
		case "", types.LaunchTypeEc2:
			return []lot{{count: count, launchType: types.LaunchTypeEc2}}, nil
		case types.LaunchTypeFargate, types.LaunchTypeExternal:
			return []lot{{count: count, launchType: in.LaunchType}}, nil
		}
		return nil, errInvalidParameter("launchType %s is not supported here; use EC2, FARGATE or EXTERNAL.", clip(string(in.LaunchType)))
	}
	if err := checkStrategy(strategy, cluster); err != nil {
		return nil, err
	}
	var lots []lot
	for i, n := range divide(strategy, count) {
		if n > 0 {
			lots = append(lots, lot{count: n, launchType: types.LaunchTypeFargate, provider: deref(strategy[i].CapacityProvider)})
		}
	}
	return lots, nil
}

func checkStrategy(strategy []types.CapacityProviderStrategyItem, cluster *Cluster) error {
	if len(strategy) > 20 {
		return errInvalidParameter("The capacity provider strategy can contain a maximum of 20 capacity providers.")
	}
	weights, bases := 0, 0
	seen := map[string]bool{}
	for _, item := range strategy {
		name := deref(item.CapacityProvider)
		if seen[name] {
			return errInvalidParameter("The capacity provider strategy cannot contain duplicate capacity providers. Remove any duplicates and try again.")
		}
		seen[name] = true
		if name != "FARGATE" && name != "FARGATE_SPOT" {
			return errInvalidParameter("The specified capacity provider '%s' was not found.", clip(name))
		}
		if !slices.Contains(cluster.CapacityProviders, name) {
			return errInvalidParameter("The specified capacity provider strategy cannot contain a capacity provider that is not associated with the cluster. Associate the capacity provider with the cluster and try again.")
		}
		if item.Weight > 0 {
			weights++
		}
		if item.Base > 0 {
			bases++
		}
	}
	if weights == 0 {
		return errInvalidParameter("The capacity provider strategy must contain at least one capacity provider with a weight greater than 0.")
	}
	if bases > 1 {
		return errInvalidParameter("Only one capacity provider in a capacity provider strategy can have a base defined.")
	}
	return nil
}

// divide gives each item its base first and then, task by task, to the one
// furthest behind its weight.
func divide(strategy []types.CapacityProviderStrategyItem, count int) []int {
	shares, weighted := make([]int, len(strategy)), make([]int, len(strategy))
	left := count
	for i, item := range strategy {
		if item.Weight > 0 || item.Base > 0 {
			shares[i] = min(int(item.Base), left)
			left -= shares[i]
		}
	}
	for ; left > 0; left-- {
		best := -1
		for i, item := range strategy {
			if item.Weight == 0 {
				continue
			}
			if best < 0 || weighted[i]*int(strategy[best].Weight) < weighted[best]*int(item.Weight) {
				best = i
			}
		}
		weighted[best]++
		shares[best]++
	}
	return shares
}

func tokenKey(cluster, token string) string { return "RunTask/" + cluster + "/" + token }

// digest tells requests with the same client token apart.
func digest(in *ecs.RunTaskInput) string {
	other := *in
	other.ClientToken = nil
	raw, err := json.Marshal(other)
	if err != nil {
		return "unencodable"
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// replay answers a call whose client token was used before. The read guards the
// token, so that of two calls at the same time only one makes tasks.
func (s *Service) replay(tx *store.Tx, l *launch, in *ecs.RunTaskInput) (*ecs.RunTaskOutput, error) {
	token := deref(in.ClientToken)
	if token == "" {
		return nil, nil
	}
	if len(token) > 64 || strings.ContainsFunc(token, func(r rune) bool { return r < 33 || r > 126 }) {
		return nil, errInvalidParameter("clientToken must have up to 64 ASCII characters in the range 33-126.")
	}
	record, ok := s.tokens.Get(tx, l.scope, tokenKey(l.cluster.Name, token))
	if !ok || l.now.Sub(record.CreatedAt) >= tokenLife {
		return nil, nil
	}
	if record.Request != digest(in) {
		conflict := &types.ConflictException{
			Message: optional("The clientToken is already in use with a different RunTask request."),
		}
		for _, id := range record.Tasks {
			conflict.ResourceIds = append(conflict.ResourceIds, taskARN(l.scope, l.cluster.Name, id))
		}
		return nil, conflict
	}
	out := &ecs.RunTaskOutput{Tasks: []types.Task{}, Failures: []types.Failure{}}
	for _, id := range record.Tasks {
		if t, ok := s.tasks.Get(tx, l.scope, memberKey(l.cluster.Name, id)); ok {
			out.Tasks = append(out.Tasks, s.taskView(tx, l.scope, t, true))
		}
	}
	return out, nil
}
