package ecs

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/placement"
	"longshore.dev/longshore/internal/store"
)

// usage is what the tasks of a node that are not STOPPED, of every cluster, take
// of it: a running total that the store keeps with the tasks (tables.usageByNode).
// It is immutable. The zero value is an idle node's.
type usage struct {
	tasks       int
	cpu, memory int64
	gpus        []string // sorted
	// tcp and udp are host ports, sorted; one that is taken in two ways (fixed, and
	// reported by the agent) is there twice.
	tcp, udp placement.Ports
	// members are sorted by cluster and instance.
	members []memberUsage
}

// memberUsage is what of a usage belongs to one container instance, or, with an
// empty instance, to the Fargate tasks of a cluster.
type memberUsage struct {
	cluster, instance       string
	tasks, pending, running int
	// groups counts the tasks that shall run, sorted by group.
	groups []placement.TaskGroup
}

var idle usage

// usage is what is taken of a node.
func (s *Service) usage(r store.Reader, sc store.Scope, node string) *usage {
	if u := s.usageByNode.Get(r, sc, node); u != nil {
		return u
	}
	return &idle
}

// addUsage is the sum's step: u with a task put in or taken out.
func addUsage(u *usage, t *Task, out bool) *usage {
	next := usage{}
	if u != nil {
		next = *u
	}
	sign := 1
	if out {
		sign = -1
	}
	if next.tasks += sign; next.tasks == 0 {
		return nil
	}
	next.cpu += int64(sign) * t.Allocation.CPU
	next.memory += int64(sign) * t.Allocation.Memory
	next.gpus = changed(next.gpus, t.Allocation.GPUs, out)
	tcp, udp := t.hostPorts()
	next.tcp = changed(next.tcp, tcp, out)
	next.udp = changed(next.udp, udp, out)
	next.members = changedMembers(next.members, t, sign)
	return &next
}

// hostPorts are the host ports that a task was given and those that its agent chose.
func (t *Task) hostPorts() (tcp, udp []uint16) {
	tcp, udp = t.Allocation.TCP, t.Allocation.UDP
	for i := range t.Containers {
		for _, b := range t.Containers[i].NetworkBindings {
			ports := boundPorts(b)
			if b.Protocol == types.TransportProtocolUdp {
				udp = append(slices.Clip(udp), ports...)
			} else {
				tcp = append(slices.Clip(tcp), ports...)
			}
		}
	}
	return tcp, udp
}

// boundPorts are the host ports of a binding: one, or a range.
func boundPorts(b types.NetworkBinding) (ports []uint16) {
	if p := deref(b.HostPort); p > 0 && p <= math.MaxUint16 {
		return []uint16{uint16(p)}
	}
	first, last, _ := strings.Cut(deref(b.HostPortRange), "-")
	from, err := strconv.ParseUint(first, 10, 16)
	to, err2 := strconv.ParseUint(last, 10, 16)
	if err != nil || err2 != nil {
		return nil
	}
	for p := from; p <= to && p > 0; p++ {
		ports = append(ports, uint16(p))
	}
	return ports
}

// changed returns a sorted list with items put in or taken out, each once.
func changed[L ~[]E, E interface{ ~string | ~uint16 }](list L, items []E, out bool) L {
	if len(items) == 0 {
		return list
	}
	next := make(L, len(list), len(list)+len(items))
	copy(next, list)
	for _, item := range items {
		at, found := slices.BinarySearch(next, item)
		switch {
		case !out:
			next = slices.Insert(next, at, item)
		case found:
			next = slices.Delete(next, at, at+1)
		}
	}
	return next
}

func changedMembers(list []memberUsage, t *Task, sign int) []memberUsage {
	next := slices.Clone(list)
	at, found := findMember(next, t.Cluster, t.InstanceID)
	if !found {
		next = slices.Insert(next, at, memberUsage{cluster: t.Cluster, instance: t.InstanceID})
	}
	m := &next[at]
	if m.tasks += sign; m.tasks == 0 {
		return slices.Delete(next, at, at+1)
	}
	switch t.LastStatus {
	case taskProvisioning, taskPending, taskActivating:
		m.pending += sign
	case taskRunning:
		m.running += sign
	}
	if t.DesiredStatus == taskRunning {
		m.groups = placement.CountTask(m.groups, t.Group, sign)
	}
	return next
}

func findMember(list []memberUsage, cluster, instance string) (int, bool) {
	return slices.BinarySearchFunc(list, instance, func(m memberUsage, instance string) int {
		if c := strings.Compare(m.cluster, cluster); c != 0 {
			return c
		}
		return strings.Compare(m.instance, instance)
	})
}

// member is what the tasks of one container instance take.
func (u *usage) member(cluster, instance string) memberUsage {
	if at, ok := findMember(u.members, cluster, instance); ok {
		return u.members[at]
	}
	return memberUsage{}
}

// cluster is what all tasks of a cluster take.
func (u *usage) cluster(name string) memberUsage {
	var all memberUsage
	for _, m := range u.members {
		if m.cluster != name {
			continue
		}
		all.tasks, all.pending, all.running = all.tasks+m.tasks, all.pending+m.pending, all.running+m.running
		if all.groups == nil {
			all.groups = m.groups
			continue
		}
		for _, g := range m.groups {
			all.groups = placement.CountTask(all.groups, g.Group, g.Tasks)
		}
	}
	return all
}

// freeGPUs are the node's devices that no task has.
func (u *usage) freeGPUs(n *Node) []string {
	var free []string
	for _, g := range n.Resources.GPUs {
		if _, taken := slices.BinarySearch(u.gpus, g); !taken {
			free = append(free, g)
		}
	}
	return free
}

// remaining is what the node has left.
func (u *usage) remaining(n *Node) placement.Resources {
	return placement.Resources{
		CPU:    n.Resources.CPU - u.cpu,
		Memory: n.Resources.Memory - u.memory,
		GPU:    int64(len(u.freeGPUs(n))),
	}
}
