package edge

import (
	"encoding/json"
	"fmt"
	"strings"

	"longshore.dev/longshore/internal/edge/balance"
	"longshore.dev/longshore/internal/nodestate"
)

// Kind is the kind of state that an edge follows.
const Kind = "balancers"

// Prefixes of its keys; the rest is the ID.
const (
	balancerKey = "load-balancer/"
	groupKey    = "target-group/"
)

// Entries are a table as a node's state.
func Entries(t *balance.Table) (nodestate.Entries, error) {
	all := nodestate.Entries{}
	for i := range t.LoadBalancers {
		raw, err := json.Marshal(&t.LoadBalancers[i])
		if err != nil {
			return nil, fmt.Errorf("encode load balancer %s: %w", t.LoadBalancers[i].ID, err)
		}
		all[balancerKey+t.LoadBalancers[i].ID] = raw
	}
	for i := range t.TargetGroups {
		raw, err := json.Marshal(&t.TargetGroups[i])
		if err != nil {
			return nil, fmt.Errorf("encode target group %s: %w", t.TargetGroups[i].ID, err)
		}
		all[groupKey+t.TargetGroups[i].ID] = raw
	}
	return all, nil
}

// Serves tells whether there is a load balancer to serve.
func Serves(entries nodestate.Entries) bool {
	for key := range entries {
		if strings.HasPrefix(key, balancerKey) {
			return true
		}
	}
	return false
}

// tableOf is the table of a node's state. Keys of what this version does not know are
// passed over.
func tableOf(entries nodestate.Entries) (balance.Table, error) {
	var t balance.Table
	for key, raw := range entries {
		switch {
		case strings.HasPrefix(key, balancerKey):
			var b balance.LoadBalancer
			if err := json.Unmarshal(raw, &b); err != nil {
				return t, fmt.Errorf("%s: %w", key, err)
			}
			t.LoadBalancers = append(t.LoadBalancers, b)
		case strings.HasPrefix(key, groupKey):
			var g balance.TargetGroup
			if err := json.Unmarshal(raw, &g); err != nil {
				return t, fmt.Errorf("%s: %w", key, err)
			}
			t.TargetGroups = append(t.TargetGroups, g)
		}
	}
	return t, nil
}
