package ecs

import (
	"math"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/placement"
	"longshore.dev/longshore/internal/rollout"
	"longshore.dev/longshore/internal/store"
)

// Percents of a DAEMON service that does not say.
const (
	daemonMinimumPercent = 0
	daemonMaximumPercent = 100
)

func (s *serviceRecord) daemon() bool { return s.Scheduling == types.SchedulingStrategyDaemon }

// checkDaemon refuses what a DAEMON service can't have.
func checkDaemon(desired *int32, launchType types.LaunchType, providers []types.CapacityProviderStrategyItem, strategy []types.PlacementStrategy) error {
	switch {
	case desired != nil:
		return errInvalidParameter("The daemon scheduling strategy does not support a desired count on this service. Remove desired count and try again.")
	case launchType == types.LaunchTypeFargate:
		return errInvalidParameter("The daemon scheduling strategy is not supported with the FARGATE launch type.")
	case len(providers) > 0:
		return errInvalidParameter("Specifying a capacity provider strategy is not supported with the DAEMON scheduling strategy.")
	case len(strategy) > 0:
		return errInvalidParameter("Placement strategies are not supported with the DAEMON scheduling strategy.")
	}
	return nil
}

// daemonNodes are the cluster's instances as a DAEMON service sees them: each that meets
// the constraints is to have a task, whether or not there is room for one now.
func (k *keeper) daemonNodes(tx *store.Tx, r *serviceRecord) ([]rollout.Node, error) {
	s, has := k.room, map[string]bool{}
	for _, t := range s.tasksByService.List(tx, k.scope, r.Cluster+"/"+r.Name) {
		if t.LastStatus != taskStopped {
			has[t.InstanceID] = true
		}
	}
	if r.Status != statusActive {
		return nil, nil
	}
	fits, err := k.eligible(tx, r)
	if err != nil {
		return nil, err
	}
	var nodes []rollout.Node
	for key, ci := range s.instances.ListPrefix(tx, k.scope, r.Cluster+"/") {
		n, known := s.nodeOf(tx, k.scope, ci)
		out := rollout.Node{ID: ci.ID, Want: rollout.Unwanted}
		switch {
		case !known:
		case ci.Status == statusDraining && has[ci.ID] && s.othersOn(tx, k.scope, key):
			out.Want = rollout.Tolerated // until the others have gone
			k.look(placeAgain)
		case ci.Status != statusActive || !fits[ci.ID]:
		case !agentConnected(n, ci) && !has[ci.ID]:
			out.Want = rollout.Tolerated
		default:
			out.Want = rollout.Wanted
		}
		nodes = append(nodes, out)
	}
	return nodes, nil
}

// eligible are the instances that meet what the service's tasks ask for, resources aside.
func (k *keeper) eligible(tx *store.Tx, r *serviceRecord) (map[string]bool, error) {
	d := &r.Deployments[0]
	if err := k.prepare(tx, r, d); err != nil {
		return nil, err
	}
	req := k.launch.request(1, daemonLot(d), r.Constraints, nil)
	req.Resources, req.TCPPorts, req.UDPPorts = placement.Resources{}, nil, nil
	fits := map[string]bool{}
	for _, c := range k.room.clusterCandidates(tx, k.scope, r.Cluster) {
		bare := *c
		bare.AgentConnected, bare.TaskGroups = true, nil
		bare.Remaining = placement.Resources{CPU: math.MaxInt32, Memory: math.MaxInt32, GPU: math.MaxInt32}
		fits[c.ID] = planned([]*placement.Instance{&bare}, req).Unplaced == 0
	}
	return fits, nil
}

func daemonLot(d *deployment) lot { return lot{count: 1, launchType: d.LaunchType} }

// othersOn tells whether an instance has tasks that are of no DAEMON service.
func (s *Service) othersOn(r store.Reader, sc store.Scope, instance string) bool {
	for _, t := range s.tasksByInstance.List(r, sc, instance) {
		if t.LastStatus == taskStopped {
			continue
		}
		if x, ok := s.services.Get(r, sc, memberKey(t.Cluster, t.Service)); t.Service == "" || !ok || !x.daemon() {
			return true
		}
	}
	return false
}

// startOn launches a task of the wanted deployment on each instance, as far as there is room.
func (k *keeper) startOn(tx *store.Tx, r *serviceRecord, instances []string) error {
	if len(instances) == 0 {
		return nil
	}
	d := &r.Deployments[0]
	if err := k.prepare(tx, r, d); err != nil {
		return k.refused(r, err)
	}
	if err := k.launch.supports(d.LaunchType); err != nil {
		return k.refused(r, err)
	}
	var started []string
	var failures []types.Failure
	for _, id := range instances {
		if len(started) == maxStarts {
			k.look(time.Millisecond)
			break
		}
		t, failure, err := k.room.startOn(tx, k.launch, daemonLot(d), k.launch.seeds[len(started)], id)
		switch {
		case err != nil:
			return err
		case failure != nil:
			failures = append(failures, *failure)
		default:
			started = append(started, "(task "+t.ID+")")
		}
	}
	k.started(r, d, started, failures)
	return nil
}
