package ecs

import (
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
)

func (s *serviceRecord) rebalancing() types.AvailabilityZoneRebalancing {
	if s.Rebalance {
		return types.AvailabilityZoneRebalancingEnabled
	}
	return types.AvailabilityZoneRebalancingDisabled
}

// askedRebalancing is what an update asks for: by default what there is, as long as the
// service can have it.
func (s *serviceRecord) askedRebalancing(asked types.AvailabilityZoneRebalancing) types.AvailabilityZoneRebalancing {
	if asked == "" && !s.Rebalance {
		return types.AvailabilityZoneRebalancingDisabled
	}
	return asked
}

// rebalance turns the rebalancing of zones on or off. By default it is on for services that
// can have it.
func (s *serviceRecord) rebalance(asked types.AvailabilityZoneRebalancing, v version) error {
	why := ""
	switch first := firstStrategy(s.Strategy); {
	case s.daemon():
		why = "the DAEMON scheduling strategy"
	case v.LaunchType != types.LaunchTypeEc2:
		why = "anything but the EC2 launch type"
	case deref(s.Configuration.MaximumPercent) <= 100:
		why = "a maximumPercent of 100 or less"
	case first != "" && first != "spread attribute:ecs.availability-zone":
		why = "a placement strategy that does not begin with spread over attribute:ecs.availability-zone"
	}
	if asked == types.AvailabilityZoneRebalancingEnabled && why != "" {
		return errInvalidParameter("Availability Zone rebalancing does not support %s.", why)
	}
	s.Rebalance = why == "" && asked != types.AvailabilityZoneRebalancingDisabled
	return nil
}

func firstStrategy(all []types.PlacementStrategy) string {
	if len(all) == 0 {
		return ""
	}
	return string(all[0].Type) + " " + deref(all[0].Field)
}

// zones are those in which a service's tasks can be.
func (k *keeper) zones(tx *store.Tx, r *serviceRecord) (zones []string) {
	if !r.Rebalance {
		return nil
	}
	for _, c := range k.room.clusterCandidates(tx, k.scope, r.Cluster) {
		if c.Active && c.AgentConnected && c.Zone != "" && !slices.Contains(zones, c.Zone) {
			zones = append(zones, c.Zone)
		}
	}
	slices.Sort(zones)
	return zones
}

// startIn starts one task in a zone, and returns the zone if there was room. Where there is
// none the service is no less steady for it, and it is tried again.
func (k *keeper) startIn(tx *store.Tx, r *serviceRecord, zone string) (started string, err error) {
	if zone == "" {
		return "", nil
	}
	d := &r.Deployments[0]
	if err := k.prepare(tx, r, d); err != nil {
		return "", k.refused(r, err)
	}
	l := k.launch
	constraints := append(slices.Clone(r.Constraints), types.PlacementConstraint{
		Type: types.PlacementConstraintTypeMemberOf, Expression: optional("attribute:" + attributeZone + " == " + zone),
	})
	only := lot{count: 1, launchType: d.LaunchType}
	tasks, failures, err := k.room.place(tx, l, only, l.seeds[k.used:k.used+1], constraints, d.strategy(only, r.Strategy))
	if err != nil {
		return "", k.refused(r, err)
	}
	k.used++
	if len(tasks) == 0 {
		r.say(k.newID("event"), k.now, fmt.Sprintf("(service %s) was unable to rebalance its tasks: %s has no room. Reason: %s.", r.Name, zone, deref(failures[0].Reason)))
		k.look(placeAgain)
		return "", nil
	}
	r.say(k.newID("event"), k.now, fmt.Sprintf("(service %s) is not balanced over its Availability Zones: it has started 1 tasks in %s: (task %s).", r.Name, zone, tasks[0].ID))
	r.Steady, d.UpdatedAt = false, k.now
	return zone, nil
}
