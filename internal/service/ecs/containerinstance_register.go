package ecs

import (
	"context"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

// Attributes by which a node's agent announces what it may serve.
const (
	AttributeUniversal = "longshore.universal"
	AttributeFargate   = "longshore.fargate"

	attributeZone = "ecs.availability-zone"
)

// registration is a RegisterContainerInstance call made ready.
type registration struct {
	source                  string // the caller's address
	scope                   store.Scope
	now                     time.Time
	node                    string // of the principal; empty for others
	id, incarnation, random string // new ids
	resources               NodeResources
	// announced are the agent's attributes, custom what it was configured to add.
	announced, custom []types.Attribute
	in                *ecs.RegisterContainerInstanceInput
}

// RegisterContainerInstance makes a node a member of a cluster. An agent that
// registers again (by its instance's ARN, or with the credentials of a node that
// is a member already) gets the same instance.
func (s *Service) RegisterContainerInstance(ctx context.Context, in *ecs.RegisterContainerInstanceInput) (*ecs.RegisterContainerInstanceOutput, error) {
	p := wire.CallFrom(ctx).Principal
	r := &registration{scope: scopeOf(ctx), now: s.now().UTC(), id: s.id(), incarnation: s.id(), random: s.id(), source: wire.CallFrom(ctx).SourceIP, in: in}
	if p.Kind == wire.PrincipalNode {
		r.node = p.NodeID
	}
	if err := r.read(); err != nil {
		return nil, err
	}
	var shown types.ContainerInstance
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		n, ci, err := s.register(tx, r)
		if err != nil {
			return err
		}
		shown = s.instanceView(tx, r.scope, n, ci, true, false)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &ecs.RegisterContainerInstanceOutput{ContainerInstance: &shown}, nil
}

var attributeNameRE = regexp.MustCompile(`^[a-zA-Z0-9_./\\-]{1,128}$`)

// read takes the input apart.
func (r *registration) read() error {
	var err error
	if r.resources, err = readResources(r.in.TotalResources); err != nil {
		return err
	}
	for _, d := range r.in.PlatformDevices {
		if d.Type == types.PlatformDeviceTypeGpu && !slices.Contains(r.resources.GPUs, deref(d.Id)) {
			r.resources.GPUs = append(r.resources.GPUs, deref(d.Id))
		}
	}
	if len(r.in.Attributes) > 1000 {
		return errInvalidParameter("There are more than 1000 attributes.")
	}
	seen := map[string]string{}
	for _, a := range r.in.Attributes {
		name := deref(a.Name)
		if !attributeNameRE.MatchString(name) || len([]rune(deref(a.Value))) > 2048 {
			return errInvalidParameter("The attribute %s is not valid.", clip(name))
		}
		if value, ok := seen[name]; ok {
			if value == deref(a.Value) {
				continue // agents repeat what they find twice, such as a volume plugin
			}
			return errInvalidParameter("The attribute %s is given twice, with different values.", clip(name))
		}
		seen[name] = deref(a.Value)
		kept := types.Attribute{Name: a.Name, Value: a.Value}
		if agentAttribute(name) {
			r.announced = append(r.announced, kept)
		} else {
			r.custom = append(r.custom, kept)
		}
	}
	if _, ok := seen[attributeZone]; !ok {
		zone := r.scope.Region + "a"
		r.announced = append(r.announced, types.Attribute{Name: optional(attributeZone), Value: &zone})
	}
	return checkTags(r.in.Tags)
}

// agentAttribute tells the attributes that an agent sends with each registration
// from those that it sends only with its first.
func agentAttribute(name string) bool {
	return strings.HasPrefix(name, "ecs.") || strings.HasPrefix(name, "com.amazonaws.ecs.") || strings.HasPrefix(name, "longshore.")
}

func readResources(resources []types.Resource) (NodeResources, error) {
	var n NodeResources
	for _, r := range resources {
		amount := min(max(int64(r.IntegerValue), r.LongValue, int64(min(r.DoubleValue, 1<<40))), math.MaxInt32)
		switch deref(r.Name) {
		case "CPU":
			n.CPU = amount
		case "MEMORY":
			n.Memory = amount
		case "PORTS":
			n.TCP = r.StringSetValue
		case "PORTS_UDP":
			n.UDP = r.StringSetValue
		case "GPU":
			n.GPUs = r.StringSetValue
		}
	}
	if n.CPU <= 0 || n.Memory <= 0 {
		return n, errInvalidParameter("totalResources must state CPU and MEMORY, both greater than 0.")
	}
	if len(n.TCP)+len(n.UDP)+len(n.GPUs) > 2000 {
		return n, errInvalidParameter("totalResources states too many ports or devices.")
	}
	return n, nil
}

// register finds or makes the instance and brings its node's record up to date.
func (s *Service) register(tx *store.Tx, r *registration) (*Node, *ContainerInstance, error) {
	c, err := s.clusterForWrite(tx, r.scope, r.in.Cluster, r.random, r.now)
	if err != nil {
		return nil, nil, err
	}
	n, ci, err := s.knownInstance(tx, r, c)
	if err != nil {
		return nil, nil, err
	}
	if !n.RevokedAt.IsZero() {
		return nil, nil, errAccessDenied("The node %s was revoked.", n.ID)
	}
	anew := ci == nil
	if anew {
		ci = &ContainerInstance{
			ID: r.id, Cluster: c.Name, NodeID: n.ID, Status: statusActive, RegisteredAt: r.now, Tags: r.in.Tags,
		}
		n.Incarnation = r.incarnation
		// Whoever deletes the cluster at the same time must see the instance.
		s.clusters.Put(tx, r.scope, c.Name, c)
	}
	n.HomeCluster, n.HomeInstance = c.Name, ci.ID
	n.Resources, n.Attributes, n.VersionInfo, n.RegisteredAt = r.resources, r.announced, r.in.VersionInfo, r.now
	n.Zone, n.Address = attributeValue(r.announced, attributeZone), r.source
	n.Attributes = append(n.Attributes, s.vpcAttributes(r.scope, n)...)
	n.Universal = n.MayServeAll && announces(r.announced, AttributeUniversal)
	n.Fargate = n.MayServeFargate && announces(r.announced, AttributeFargate)
	ci.Attributes = mergeAttributes(ci.Attributes, r.custom)
	ci.Version++
	s.nodes.Put(tx, r.scope, n.ID, n)
	s.instances.Put(tx, r.scope, ci.Key(), ci)
	// Whoever places at the same time must see the new resources.
	s.writeLedger(tx, r.scope, n.ID)
	if n.Universal {
		s.joinAll(tx, r.scope, n, anew, r.now)
	}
	return n, ci, nil
}

// joinAll makes a universal node's instances in all clusters. One that was
// deregistered stays so until the node registers anew.
func (s *Service) joinAll(tx *store.Tx, sc store.Scope, n *Node, anew bool, now time.Time) {
	member := map[string]bool{}
	for _, ci := range s.instancesByNode.List(tx, sc, n.ID) {
		if ci.Status != statusInactive || !anew {
			member[ci.Cluster] = true
		}
	}
	for name := range s.clusters.List(tx, sc) {
		// A guarded read: the cluster must not vanish meanwhile.
		if c, ok := s.clusters.Get(tx, sc, name); ok && c.Status == statusActive && !member[name] {
			s.joinCluster(tx, sc, n, c, now)
		}
	}
}

// knownInstance returns copies of the node's record, made if needed, and of the
// instance that the call registers again, nil if it is a new one.
func (s *Service) knownInstance(tx *store.Tx, r *registration, c *Cluster) (*Node, *ContainerInstance, error) {
	var ci *ContainerInstance
	if ref := deref(r.in.ContainerInstanceArn); ref != "" {
		found, err := s.instance(tx, r.scope, c.Name, ref)
		if err != nil {
			return nil, nil, err
		}
		if r.node != "" && found.NodeID != r.node {
			return nil, nil, errAccessDenied("The container instance %s belongs to another node.", found.ID)
		}
		ci = found
	}
	nodeID := r.node
	switch {
	case ci != nil:
		nodeID = ci.NodeID
	case nodeID == "":
		nodeID = "i-" + r.random[:17]
	}
	n := &Node{ID: nodeID}
	if old, ok := s.nodes.Get(tx, r.scope, nodeID); ok {
		n = s.nodes.Clone(old)
	}
	if ci == nil && r.node != "" && n.HomeCluster == c.Name {
		ci, _ = s.instances.Get(tx, r.scope, memberKey(c.Name, n.HomeInstance))
	}
	if ci != nil && ci.Status == statusInactive {
		if deref(r.in.ContainerInstanceArn) != "" && !n.MayServeAll {
			return nil, nil, errInvalidParameter("The container instance %s was deregistered. Register without its ARN to make a new one.", ci.ID)
		}
		ci = nil
	}
	return n, s.instances.Clone(ci), nil
}

func attributeValue(list []types.Attribute, name string) string {
	for _, a := range list {
		if deref(a.Name) == name {
			return deref(a.Value)
		}
	}
	return ""
}

// announces tells whether an attribute is there and not "false".
func announces(list []types.Attribute, name string) bool {
	for _, a := range list {
		if deref(a.Name) == name {
			return deref(a.Value) != "false"
		}
	}
	return false
}

// mergeAttributes adds more to list; more wins.
func mergeAttributes(list, more []types.Attribute) []types.Attribute {
	merged := slices.Clone(list)
	for _, a := range more {
		i := slices.IndexFunc(merged, func(m types.Attribute) bool { return deref(m.Name) == deref(a.Name) })
		if i >= 0 {
			merged[i] = a
		} else {
			merged = append(merged, a)
		}
	}
	return merged
}
