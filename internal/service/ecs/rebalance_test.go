package ecs

import (
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
)

// inZones counts the service's running tasks by zone, as "a 2, b 2".
func (r *room) inZones() string {
	n := map[string]int{}
	for _, t := range r.tasksByService.List(r.db.Snapshot(), testScope, "default/svc") {
		if t.LastStatus == taskRunning && t.DesiredStatus == taskRunning {
			n[t.Zone]++
		}
	}
	return fmt.Sprint(n)
}

// A zone that comes later gets its part of the tasks, one after the other; a zone without
// room leaves the service as it is, and steady.
func TestZonesAreRebalanced(t *testing.T) {
	for _, c := range []struct {
		asked types.AvailabilityZoneRebalancing
		room  int32
		want  string
	}{
		{"", 10_000, "map[eu-west-1a:2 eu-west-1b:2]"},
		{types.AvailabilityZoneRebalancingDisabled, 10_000, "map[eu-west-1a:4]"},
		{types.AvailabilityZoneRebalancingEnabled, 1, "map[eu-west-1a:4]"},
	} {
		r := newRoom(t)
		r.join("n1", "default", 10_000, 10_000, attribute("ecs.availability-zone", "eu-west-1a"))
		r.define(simple("web", 1, 6))
		r.create(4, func(in *ecs.CreateServiceInput) { in.AvailabilityZoneRebalancing = c.asked })
		r.settle()
		r.join("n2", "default", c.room, c.room, attribute("ecs.availability-zone", "eu-west-1b"))
		for range 3 {
			r.settle()
		}
		if got := r.inZones(); got != c.want {
			t.Errorf("%q: the tasks are in %s, want %s: %q", c.asked, got, c.want, messages(r.service()))
		}
		if c.room == 1 {
			r.wantEvent("was unable to rebalance its tasks: eu-west-1b has no room")
			r.update(func(tx *store.Tx) {
				if s, _ := r.services.Get(tx, testScope, "default/svc"); !s.Steady {
					t.Error("for want of room in a zone the service is unsteady")
				}
			})
		}
		want := c.asked
		if want == "" {
			want = types.AvailabilityZoneRebalancingEnabled
		}
		r.updateService(&ecs.UpdateServiceInput{DesiredCount: aws.Int32(2)})
		if got := r.service().AvailabilityZoneRebalancing; got != want {
			t.Errorf("it is shown %s", got)
		}
	}
}
