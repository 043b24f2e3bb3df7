package ecs

import (
	"context"
	"encoding/json"
	"errors"
	"hash/fnv"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
)

// launch is what RunTask and StartTask have in common: a request for new tasks
// of one task definition, all ids and times made before the transaction.
type launch struct {
	service *Service
	scope   store.Scope
	now     time.Time
	// seeds are secret random strings, one for each task; everything random of a
	// task derives from its own. generation is for a cluster that must be made.
	seeds      []string
	generation string

	// What the call asks for.
	askedGroup      string
	ofService       string
	startedBy       string
	referenceID     string
	platformVersion string
	overrides       *types.TaskOverride
	network         *types.NetworkConfiguration
	tags            []types.Tag
	propagate       types.PropagateTags
	managedTags     bool
	exec            bool
	volumes         []types.TaskVolumeConfiguration
	targets         []TaskTarget

	// What it means, by the records (resolve).
	cluster    *Cluster
	definition *TaskDefinition
	group      string
	vpc        *types.AwsVpcConfiguration
	size       taskSize
	allTags    []types.Tag
}

func newLaunch(s *Service, ctx context.Context, count int) *launch {
	l := &launch{service: s, scope: scopeOf(ctx), now: s.now().UTC(), generation: s.id()}
	for range count {
		l.seeds = append(l.seeds, s.id()+s.id())
	}
	return l
}

func (l *launch) runTask(in *ecs.RunTaskInput) {
	l.askedGroup, l.startedBy, l.referenceID = deref(in.Group), deref(in.StartedBy), deref(in.ReferenceId)
	l.platformVersion, l.overrides, l.network = deref(in.PlatformVersion), in.Overrides, in.NetworkConfiguration
	l.tags, l.propagate, l.managedTags = in.Tags, in.PropagateTags, in.EnableECSManagedTags
	l.exec, l.volumes = in.EnableExecuteCommand, in.VolumeConfigurations
}

func (l *launch) startTask(in *ecs.StartTaskInput) {
	l.askedGroup, l.startedBy, l.referenceID = deref(in.Group), deref(in.StartedBy), deref(in.ReferenceId)
	l.overrides, l.network = in.Overrides, in.NetworkConfiguration
	l.tags, l.propagate, l.managedTags = in.Tags, in.PropagateTags, in.EnableECSManagedTags
	l.exec, l.volumes = in.EnableExecuteCommand, in.VolumeConfigurations
}

var starterRE = regexp.MustCompile(`^[a-zA-Z0-9/_-]{0,128}$`)

// check refuses what is wrong whatever the records say.
func (l *launch) check() error {
	switch {
	case !starterRE.MatchString(l.startedBy):
		return errInvalidParameter("startedBy can have up to 128 letters, numbers, hyphens, forward slashes and underscores.")
	case len(l.referenceID) > 1024:
		return errInvalidParameter("referenceId can have at most 1024 characters.")
	case len(l.askedGroup) > 255:
		return errInvalidParameter("group can have at most 255 characters.")
	case strings.ContainsFunc(l.askedGroup, unicode.IsControl):
		return errInvalidParameter("group contains invalid characters.")
	case strings.HasPrefix(l.askedGroup, "service:"):
		return errInvalidParameter("Invalid namespace for group.")
	case l.propagate == types.PropagateTagsService:
		return errInvalidParameter("propagateTags SERVICE is not valid here: the task belongs to no service. Use TASK_DEFINITION.")
	case l.exec:
		return errUnsupported("enableExecuteCommand is not supported yet: execute-command is not served.")
	case len(l.volumes) > 0:
		return errUnsupported("volumeConfigurations are not supported yet: there are no EBS volumes.")
	}
	if l.overrides != nil && wireLength(l.overrides) > maxOverrides {
		return errInvalidParameter("Overrides length must be at most %d.", maxOverrides)
	}
	return checkTags(l.tags)
}

// maxOverrides bounds the overrides' JSON, formatting included.
const maxOverrides = 8192

// wireLength is about the length of v's JSON as a client sends it: without the
// members that are not given.
func wireLength(v any) int {
	raw, err := json.Marshal(v)
	if err != nil {
		return math.MaxInt
	}
	var given any
	if err := json.Unmarshal(raw, &given); err != nil {
		return math.MaxInt
	}
	raw, err = json.Marshal(dropNull(given))
	if err != nil {
		return math.MaxInt
	}
	return len(raw)
}

func dropNull(v any) any {
	switch v := v.(type) {
	case map[string]any:
		maps.DeleteFunc(v, func(_ string, member any) bool { return member == nil })
		for name, member := range v {
			v[name] = dropNull(member)
		}
	case []any:
		for i, member := range v {
			v[i] = dropNull(member)
		}
	}
	return v
}

// checkTags applies the rules of tags that a caller gives.
func checkTags(tags []types.Tag) error {
	if len(tags) > 50 {
		return errInvalidParameter("The number of tags exceeds the limit of 50.")
	}
	seen := map[string]bool{}
	for _, t := range tags {
		key := deref(t.Key)
		switch {
		case key == "" || len([]rune(key)) > 128 || len([]rune(deref(t.Value))) > 256:
			return errInvalidParameter("Tag keys have 1 to 128 characters and values up to 256.")
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			return errInvalidParameter("Tag keys can't start with aws:.")
		case seen[key]:
			return errInvalidParameter("Duplicate tag keys found: %s", clip(key))
		}
		seen[key] = true
	}
	return nil
}

// resolve reads the records that the launch is about and checks it against them.
func (l *launch) resolve(tx *store.Tx, cluster *string, definition string) (err error) {
	s := l.service
	if l.cluster, err = s.clusterForWrite(tx, l.scope, cluster, l.generation, l.now); err != nil {
		return err
	}
	find := s.runnableDefinition
	if l.ofService != "" {
		find = s.definition // one that was deregistered still serves the services that have it
	}
	if l.definition, err = find(tx, l.scope, definition); err != nil {
		return err
	}
	d := &l.definition.Definition
	if l.group = l.askedGroup; l.group == "" {
		l.group = "family:" + deref(d.Family)
	}
	if l.vpc, err = s.checkNetwork(l.scope, d.NetworkMode, l.network); err != nil {
		return err
	}
	if err := checkOverrides(d, l.overrides); err != nil {
		return err
	}
	if l.size, err = sizeOf(d, l.overrides); err != nil {
		return err
	}
	l.allTags = slices.Clone(l.tags)
	if l.propagate == types.PropagateTagsTaskDefinition {
		l.allTags = mergeTags(l.definition.Tags, l.tags)
	}
	if l.managedTags {
		l.allTags = append(l.allTags, types.Tag{Key: optional("aws:ecs:clusterName"), Value: &l.cluster.Name})
	}
	return nil
}

// mergeTags adds more to tags; more wins.
func mergeTags(tags, more []types.Tag) []types.Tag {
	merged := slices.Clone(more)
	for _, t := range tags {
		if !slices.ContainsFunc(more, func(m types.Tag) bool { return deref(m.Key) == deref(t.Key) }) {
			merged = append(merged, t)
		}
	}
	return merged
}

// supports tells whether the task definition can run with a launch type.
func (l *launch) supports(launchType types.LaunchType) error {
	d := &l.definition.Definition
	if !slices.Contains(d.Compatibilities, types.Compatibility(launchType)) {
		return errInvalidParameter("Task definition does not support launch_type %s.", launchType)
	}
	if launchType != types.LaunchTypeFargate {
		if l.platformVersion != "" {
			return errInvalidParameter("The platform version must be null when specifying an %s launch type.", launchType)
		}
		return nil
	}
	if !fargateSize(l.size.cpu, l.size.memory) {
		return errInvalidParameter("No Fargate configuration exists for given values: %d CPU, %d memory.", l.size.cpu, l.size.memory)
	}
	switch l.platformVersion {
	case "", "LATEST", fargatePlatform:
		return nil
	}
	return &types.PlatformUnknownException{Message: optional("The specified platform version doesn't exist.")}
}

const fargatePlatform = "1.4.0"

// random returns two numbers that follow from the launch's seeds.
func (l *launch) random() (uint64, uint64) {
	h := fnv.New64a()
	for _, seed := range l.seeds {
		h.Write([]byte(seed))
	}
	return h.Sum64(), uint64(len(l.seeds))
}

// make makes one task where the placement put it: on the instance target, or,
// for Fargate, on the node target.
func (s *Service) make(tx *store.Tx, l *launch, lot lot, seed, target string) (*Task, *types.Failure, error) {
	nodeID := target
	if lot.launchType != types.LaunchTypeFargate {
		ci, ok := s.instances.Get(tx, l.scope, memberKey(l.cluster.Name, target))
		if !ok {
			return nil, nil, errServer("The container instance is gone.")
		}
		nodeID = ci.NodeID
	}
	n, ok := s.node(tx, l.scope, nodeID)
	if !ok {
		return nil, nil, errServer("The container instance's node is gone.")
	}
	t := l.newTask(seed, lot, n)
	if lot.launchType != types.LaunchTypeFargate {
		t.InstanceID = target
	}
	if l.size.gpus > 0 {
		t.assignGPUs(s.usage(tx, l.scope, n.ID).freeGPUs(n), &l.definition.Definition, l.overrides)
	}
	if l.vpc != nil {
		err := s.allocateENI(tx, l.scope, t, l.vpc, n.Zone, seed, l.now)
		if errors.Is(err, errNoAddress) {
			return nil, &types.Failure{Arn: optional(l.cluster.arn(l.scope)), Reason: optional("RESOURCE:ENI"), Detail: optional(err.Error())}, nil
		}
		if err != nil {
			return nil, nil, err
		}
		t.VPC = l.vpc
	}
	s.writeLedger(tx, l.scope, n.ID)
	s.tasks.Put(tx, l.scope, t.Key(), t)
	return t, nil, nil
}

func (c *Cluster) arn(sc store.Scope) string { return clusterARN(sc, c.Name) }

// newTask fills a task's record in, but for what depends on the node's use.
func (l *launch) newTask(seed string, lot lot, n *Node) *Task {
	d := &l.definition.Definition
	t := &Task{
		ID: derive(seed, "task", 32), Cluster: l.cluster.Name,
		Family: deref(d.Family), Revision: d.Revision, CreatedAt: l.now, NodeID: n.ID, Zone: n.Zone,
		LaunchType: lot.launchType, CapacityProvider: lot.provider,
		NetworkMode: d.NetworkMode, Group: l.group, Service: l.ofService, StartedBy: l.startedBy, ReferenceID: l.referenceID,
		CPU: l.size.taskCPU, Memory: l.size.taskMemory, Overrides: l.overrides,
		Allocation: Allocation{CPU: l.size.cpu, Memory: l.size.memory, TCP: l.size.tcp, UDP: l.size.udp},
		Tags:       l.allTags, LastStatus: taskPending, DesiredStatus: taskRunning, Version: 1,
		Health: types.HealthStatusUnknown, Targets: slices.Clone(l.targets),
	}
	if d.NetworkMode == types.NetworkModeAwsvpc {
		t.LastStatus = taskProvisioning
	}
	for _, a := range n.Attributes {
		if deref(a.Name) == "ecs.cpu-architecture" {
			t.Attributes = []types.Attribute{{Name: a.Name, Value: a.Value}}
		}
	}
	if lot.launchType == types.LaunchTypeFargate {
		t.PlatformVersion, t.PlatformFamily, t.Ephemeral = fargatePlatform, "Linux", fargateStorage(d, l.overrides)
	}
	for i := range d.ContainerDefinitions {
		t.Containers = append(t.Containers, newContainer(seed, &d.ContainerDefinitions[i], overrideFor(l.overrides, d.ContainerDefinitions[i].Name)))
	}
	return t
}

func newContainer(seed string, c *types.ContainerDefinition, o *types.ContainerOverride) TaskContainer {
	k := TaskContainer{
		ID: deriveUUID(seed, "container "+deref(c.Name)), Name: deref(c.Name), Image: deref(c.Image),
		LastStatus: taskPending, Essential: c.Essential == nil || *c.Essential,
		CPU: decimal(containerCPU(c, o)), Memory: decimalIf(containerMemory(c, o)),
		MemoryReservation: decimalIf(containerReservation(c, o)),
	}
	if c.HealthCheck != nil && len(c.HealthCheck.Command) > 0 && c.HealthCheck.Command[0] != "NONE" {
		k.Health = types.HealthStatusUnknown
	}
	return k
}

func fargateStorage(d *types.TaskDefinition, o *types.TaskOverride) int32 {
	if o != nil && o.EphemeralStorage != nil {
		return o.EphemeralStorage.SizeInGiB
	}
	if d.EphemeralStorage != nil {
		return d.EphemeralStorage.SizeInGiB
	}
	return 20
}

// assignGPUs gives the task's containers devices that no other task has.
func (t *Task) assignGPUs(free []string, d *types.TaskDefinition, o *types.TaskOverride) {
	for i := range t.Containers {
		c := &d.ContainerDefinitions[i]
		want := min(int(containerGPUs(c, overrideFor(o, c.Name))), len(free))
		t.Containers[i].GPUs, free = slices.Clone(free[:want]), free[want:]
		t.Allocation.GPUs = append(t.Allocation.GPUs, t.Containers[i].GPUs...)
	}
}
