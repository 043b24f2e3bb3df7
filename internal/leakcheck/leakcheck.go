package leakcheck

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// patience is how long the kernel may take to remove what was given up.
const patience = 3 * time.Second

// Scope says what belongs to a test. Zero fields compare nothing.
type Scope struct {
	// Node names the cgroup /longshore/<Node>: processes in it and the shims that
	// serve it, and the cgroups themselves.
	Node string
	// Paths are directories: mounts at or below them, and files below them.
	Paths []string
	// LinkPrefix begins the names of the test's network links.
	LinkPrefix string
	// Addresses are the networks from which the test gives addresses to links.
	Addresses []netip.Prefix
	// NetNSPrefix begins the names of the test's namespaces in /run/netns.
	NetNSPrefix string
	// TablePrefix begins the names of the test's nftables tables.
	TablePrefix string
	// Ports compares the ports on which this process, or one of Node's, listens.
	Ports bool
}

// Check compares what is there at the end of the test with what is there now.
func Check(t testing.TB, scope Scope) {
	t.Helper()
	before, err := take(scope)
	if err != nil {
		t.Fatalf("leakcheck: %v", err)
	}
	t.Cleanup(func() {
		t.Helper()
		leaked, err := settle(scope, before)
		if err != nil {
			t.Errorf("leakcheck: %v", err)
		}
		for _, thing := range leaked {
			t.Errorf("leaked: %s", thing)
		}
	})
}

// settle looks until nothing more is there than before, or patience ends.
func settle(scope Scope, before map[string]bool) ([]string, error) {
	deadline := time.Now().Add(patience)
	for {
		after, err := take(scope)
		if err != nil {
			return nil, err
		}
		leaked := diff(before, after)
		if len(leaked) == 0 || time.Now().After(deadline) {
			return leaked, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func diff(before, after map[string]bool) []string {
	var leaked []string
	for _, thing := range slices.Sorted(maps.Keys(after)) {
		if !before[thing] {
			leaked = append(leaked, thing)
		}
	}
	return leaked
}

// take describes everything in scope, one line each.
func take(scope Scope) (map[string]bool, error) {
	found := map[string]bool{}
	add := func(format string, args ...any) { found[fmt.Sprintf(format, args...)] = true }
	for _, look := range []func(Scope, func(string, ...any)) error{
		processes, cgroups, mounts, files, namespaces, links, tables, ports,
	} {
		if err := look(scope, add); err != nil {
			return nil, err
		}
	}
	return found, nil
}
