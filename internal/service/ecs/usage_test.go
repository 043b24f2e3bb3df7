package ecs

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"pgregory.net/rapid"

	"longshore.dev/longshore/internal/placement"
	"longshore.dev/longshore/internal/store"
)

// recount is the usage of a node by the plainest means.
func (s *Service) recount(r store.Reader, node string) *usage {
	u := &usage{}
	members := map[[2]string]*memberUsage{}
	groups := map[[2]string]map[string]int{}
	for _, t := range s.tasks.List(r, testScope) {
		if t.NodeID != node || t.LastStatus == taskStopped {
			continue
		}
		u.tasks++
		u.cpu += t.Allocation.CPU
		u.memory += t.Allocation.Memory
		u.gpus = append(u.gpus, t.Allocation.GPUs...)
		u.tcp = append(u.tcp, t.Allocation.TCP...)
		u.udp = append(u.udp, t.Allocation.UDP...)
		for _, c := range t.Containers {
			for _, b := range c.NetworkBindings {
				if b.Protocol == types.TransportProtocolUdp {
					u.udp = append(u.udp, uint16(*b.HostPort))
				} else {
					u.tcp = append(u.tcp, uint16(*b.HostPort))
				}
			}
		}
		k := [2]string{t.Cluster, t.InstanceID}
		if members[k] == nil {
			members[k], groups[k] = &memberUsage{cluster: t.Cluster, instance: t.InstanceID}, map[string]int{}
		}
		members[k].tasks++
		switch {
		case t.LastStatus == taskRunning:
			members[k].running++
		case slices.Index(taskOrder, t.LastStatus) < slices.Index(taskOrder, taskRunning):
			members[k].pending++
		}
		if t.DesiredStatus == taskRunning {
			groups[k][t.Group]++
		}
	}
	slices.Sort(u.gpus)
	slices.Sort(u.tcp)
	slices.Sort(u.udp)
	for _, k := range slices.SortedFunc(maps.Keys(members), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) }) {
		for _, g := range slices.Sorted(maps.Keys(groups[k])) {
			members[k].groups = append(members[k].groups, placement.TaskGroup{Group: g, Tasks: groups[k][g]})
		}
		u.members = append(u.members, *members[k])
	}
	return u
}

// sameUsage compares without telling nil lists from empty ones.
func sameUsage(a, b *usage) bool {
	text := func(u *usage) string { return fmt.Sprintf("%+v", *u) }
	return reflect.DeepEqual(a, b) || text(a) == text(b)
}

var drawTask = rapid.Custom(func(t *rapid.T) *Task {
	ports := rapid.SliceOfN(rapid.Uint16Range(80, 84), 0, 3)
	k := &Task{
		Cluster: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "cluster"), NodeID: rapid.SampledFrom([]string{"n1", "n2", "n"}).Draw(t, "node"),
		InstanceID: rapid.SampledFrom([]string{"", "i1", "i2"}).Draw(t, "instance"), Group: rapid.SampledFrom([]string{"", "x", "y", "xx"}).Draw(t, "group"),
		LastStatus:    rapid.SampledFrom(taskOrder).Draw(t, "last"),
		DesiredStatus: rapid.SampledFrom([]string{taskRunning, taskStopped}).Draw(t, "desired"),
		Allocation: Allocation{
			CPU: rapid.Int64Range(0, 9).Draw(t, "cpu"), Memory: rapid.Int64Range(0, 9).Draw(t, "memory"),
			GPUs: rapid.SliceOfN(rapid.SampledFrom([]string{"g0", "g1"}), 0, 2).Draw(t, "gpus"),
			TCP:  ports.Draw(t, "tcp"), UDP: ports.Draw(t, "udp"),
		},
	}
	for _, p := range ports.Draw(t, "bound") {
		protocol := rapid.SampledFrom([]types.TransportProtocol{"", types.TransportProtocolTcp, types.TransportProtocolUdp}).Draw(t, "protocol")
		k.Containers = append(k.Containers, TaskContainer{NetworkBindings: []types.NetworkBinding{{HostPort: aws.Int32(int32(p)), Protocol: protocol}}})
	}
	return k
})

// The running total is what a recount gives, after any writes, inside the
// transaction that makes them and after it.
func TestTheRunningSumEqualsTheRecount(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := newRoom(t)
		compare := func(reader store.Reader) {
			for _, node := range []string{"n1", "n2", "n", "idle"} {
				if got, want := r.usage(reader, testScope, node), r.recount(reader, node); !sameUsage(got, want) {
					rt.Fatalf("node %s: %+v, recounted %+v", node, *got, *want)
				}
			}
		}
		for range rapid.IntRange(1, 12).Draw(rt, "transactions") {
			abort := rapid.IntRange(0, 4).Draw(rt, "abort") == 0
			_ = r.db.Update(context.Background(), func(tx *store.Tx) error {
				for range rapid.IntRange(1, 5).Draw(rt, "writes") {
					id := rapid.SampledFrom([]string{"1", "2", "3", "4"}).Draw(rt, "id")
					if rapid.IntRange(0, 3).Draw(rt, "kind") == 0 {
						r.tasks.Delete(tx, testScope, id)
					} else {
						r.tasks.Put(tx, testScope, id, drawTask.Draw(rt, "task"))
					}
					if rapid.Bool().Draw(rt, "look") {
						compare(tx)
					}
				}
				if abort {
					return context.Canceled
				}
				return nil
			})
			compare(r.db.Snapshot())
		}
	})
}
