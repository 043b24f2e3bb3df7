package placement

import (
	"slices"
	"strings"
)

// Ports is a sorted list of host ports.
type Ports []uint16

// Has tells whether p is in the list.
func (l Ports) Has(p uint16) bool {
	_, ok := slices.BinarySearch(l, p)
	return ok
}

// TaskGroup counts the tasks of one group.
type TaskGroup struct {
	Group string
	Tasks int
}

// CountTask returns counts, which are sorted by group, with n tasks of a group
// more (or less); the given list is not changed.
func CountTask(counts []TaskGroup, group string, n int) []TaskGroup {
	at, found := slices.BinarySearchFunc(counts, group, func(g TaskGroup, group string) int {
		return strings.Compare(g.Group, group)
	})
	next := slices.Clone(counts)
	switch {
	case !found:
		return slices.Insert(next, at, TaskGroup{group, n})
	case next[at].Tasks+n == 0:
		return slices.Delete(next, at, at+1)
	}
	next[at].Tasks += n
	return next
}

// groupTasks is the number of the instance's tasks of a group.
func (i *Instance) groupTasks(group string) int {
	for _, g := range i.TaskGroups {
		if g.Group == group {
			return g.Tasks
		}
	}
	return 0
}

// takesTCP and takesUDP tell whether a host port of the instance's node is taken.
func (i *Instance) takesTCP(p uint16) bool { return i.UsedTCP.Has(p) || i.KeptTCP.Has(p) }
func (i *Instance) takesUDP(p uint16) bool { return i.UsedUDP.Has(p) || i.KeptUDP.Has(p) }
