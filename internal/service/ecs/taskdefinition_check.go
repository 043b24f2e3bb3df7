package ecs

import (
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/placement/cql"
)

const (
	maxContainers  = 10
	maxConstraints = 10
	// leastMemory is the least memory of a container, in MiB.
	leastMemory = 6
)

// checkDefinition refuses what AWS refuses whatever the launch type.
func checkDefinition(d *types.TaskDefinition) error {
	if deref(d.Family) == "" {
		return errClient("Family should not be null or blank.")
	}
	if !familyRE.MatchString(*d.Family) {
		return errClient("Family contains invalid characters.")
	}
	switch n := len(d.ContainerDefinitions); {
	case n == 0:
		return errClient("Container list cannot be empty.")
	case n > maxContainers:
		return errClient("Task definition has %d containers; it can have at most %d.", n, maxContainers)
	}
	for _, check := range []func(*types.TaskDefinition) error{
		checkRoles, checkTaskSize, checkVolumes, checkConstraints, checkStorage, checkAppMesh,
		checkContainers, checkContainerSizes, checkPorts, checkGraph, checkFirelens,
	} {
		if err := check(d); err != nil {
			return err
		}
	}
	return nil
}

var roleRE = regexp.MustCompile(`^(arn:[a-z-]+:iam::[0-9]{12}:role/)?[\w+=,.@/-]{1,512}$`)

func checkRoles(d *types.TaskDefinition) error {
	for _, role := range []*string{d.TaskRoleArn, d.ExecutionRoleArn} {
		if deref(role) != "" && !roleRE.MatchString(*role) {
			return errClient("Role is not valid.")
		}
	}
	return nil
}

// checkTaskSize checks the task's own cpu and memory.
func checkTaskSize(d *types.TaskDefinition) error {
	if text := deref(d.Cpu); text != "" {
		if n, ok := parseCPU(text); !ok || n < 128 || n > 196608 {
			return errClient("Invalid 'cpu' setting for task.")
		}
	}
	if text := deref(d.Memory); text != "" {
		if n, ok := parseMemory(text); !ok || n < leastMemory || n > 1<<30 {
			return errClient("Invalid 'memory' setting for task.")
		}
	}
	return nil
}

// checkContainerSizes holds the containers' cpu and memory against each other
// and against the task's.
func checkContainerSizes(d *types.TaskDefinition) error {
	taskCPU, _ := parseCPU(deref(d.Cpu))
	taskMemory, hasMemory := parseMemory(deref(d.Memory))
	var cpu, reserved int64
	for i := range d.ContainerDefinitions {
		c := &d.ContainerDefinitions[i]
		name := deref(c.Name)
		memory, reservation := int64(deref(c.Memory)), int64(deref(c.MemoryReservation))
		switch {
		case c.Cpu < 0:
			return errClient("Invalid setting for container '%s'. 'cpu' must not be negative.", name)
		case c.Memory != nil && memory < leastMemory:
			return errClient("Invalid setting for container '%s'. 'memory' must be at least %d MiB.", name, leastMemory)
		case c.MemoryReservation != nil && reservation < leastMemory:
			return errClient("Invalid setting for container '%s'. 'memoryReservation' must be at least %d MiB.", name, leastMemory)
		case memory == 0 && reservation == 0 && !hasMemory:
			return errClient("Invalid setting for container '%s'. At least one of 'memory' or 'memoryReservation' must be specified.", name)
		case memory > 0 && reservation > memory:
			return errClient("Invalid setting for container '%s'. 'memory' must be greater than 'memoryReservation'.", name)
		case hasMemory && memory > taskMemory:
			return errClient("Invalid setting for container '%s'. 'memory' must not be greater than the task's 'memory'.", name)
		}
		cpu += int64(c.Cpu)
		if reservation == 0 {
			reservation = memory
		}
		reserved += reservation
	}
	if taskCPU > 0 && cpu > taskCPU {
		return errClient("Invalid 'cpu' setting for task. The containers' 'cpu' adds up to %d, which is more than the task's %d.", cpu, taskCPU)
	}
	if hasMemory && reserved > taskMemory {
		return errClient("Invalid 'memory' setting for task. The containers reserve %d MiB, which is more than the task's %d.", reserved, taskMemory)
	}
	return nil
}

func checkConstraints(d *types.TaskDefinition) error {
	if len(d.PlacementConstraints) > maxConstraints {
		return errClient("A task definition can have at most %d placement constraints.", maxConstraints)
	}
	for _, c := range d.PlacementConstraints {
		if c.Type != types.TaskDefinitionPlacementConstraintTypeMemberOf {
			return errClient("Invalid constraint type: %s. A task definition's constraints are of type memberOf.", clip(string(c.Type)))
		}
		if _, err := cql.Parse(deref(c.Expression)); err != nil {
			return errClient("Invalid expression of a placement constraint: %s", err)
		}
	}
	return nil
}

// checkStorage checks the task's ephemeral storage.
func checkStorage(d *types.TaskDefinition) error {
	if e := d.EphemeralStorage; e != nil && (e.SizeInGiB < 21 || e.SizeInGiB > 200) {
		return errClient("The ephemeral storage size must be between 21 and 200 GiB.")
	}
	return nil
}

var appMeshProperties = []string{
	"IgnoredUID", "IgnoredGID", "AppPorts", "ProxyIngressPort", "ProxyEgressPort", "EgressIgnoredPorts", "EgressIgnoredIPs",
}

func checkAppMesh(d *types.TaskDefinition) error {
	p := d.ProxyConfiguration
	if p == nil {
		return nil
	}
	if d.NetworkMode != types.NetworkModeAwsvpc {
		return errClient("Proxy configuration is only supported when networkMode=awsvpc.")
	}
	if containerNamed(d, deref(p.ContainerName)) == nil {
		return errClient("Proxy configuration names the container '%s', which the task definition does not have.", clip(deref(p.ContainerName)))
	}
	given := map[string]string{}
	for _, x := range p.Properties {
		if !slices.Contains(appMeshProperties, deref(x.Name)) {
			return errClient("Unknown property of the proxy configuration: %s", clip(deref(x.Name)))
		}
		given[*x.Name] = deref(x.Value)
	}
	if given["IgnoredUID"] == "" && given["IgnoredGID"] == "" {
		return errClient("Proxy configuration needs IgnoredUID or IgnoredGID.")
	}
	for _, name := range []string{"AppPorts", "ProxyIngressPort", "ProxyEgressPort"} {
		if given[name] == "" {
			return errClient("Proxy configuration needs %s.", name)
		}
	}
	return nil
}

func containerNamed(d *types.TaskDefinition, name string) *types.ContainerDefinition {
	for i := range d.ContainerDefinitions {
		if deref(d.ContainerDefinitions[i].Name) == name {
			return &d.ContainerDefinitions[i]
		}
	}
	return nil
}

// checkFirelens: one container at most routes the others' logs.
func checkFirelens(d *types.TaskDefinition) error {
	routers := 0
	for i := range d.ContainerDefinitions {
		f := d.ContainerDefinitions[i].FirelensConfiguration
		if f == nil {
			continue
		}
		if routers++; routers > 1 {
			return errClient("A task definition can have only one container with a firelensConfiguration.")
		}
		for key := range f.Options {
			if !slices.Contains([]string{"enable-ecs-log-metadata", "config-file-type", "config-file-value"}, key) {
				return errClient("Unknown option of firelensConfiguration: %s", clip(key))
			}
		}
		kind, value := f.Options["config-file-type"], f.Options["config-file-value"]
		if kind != "" && kind != "s3" && kind != "file" || (kind == "") != (value == "") {
			return errClient("The firelensConfiguration option config-file-type is 's3' or 'file', together with config-file-value.")
		}
	}
	for i := range d.ContainerDefinitions {
		l := d.ContainerDefinitions[i].LogConfiguration
		if l != nil && l.LogDriver == types.LogDriverAwsfirelens && routers == 0 {
			return errClient("When a container uses the log driver awsfirelens, the task definition must have a container with a firelensConfiguration.")
		}
	}
	return nil
}

// dependency is an edge of the graph of containers.
type dependency struct{ to, by string }

// checkGraph checks what containers need of each other: dependsOn, links and
// volumesFrom all order their starts, so that there may be no cycle among them.
func checkGraph(d *types.TaskDefinition) error {
	edges := map[string][]dependency{}
	for i := range d.ContainerDefinitions {
		c := &d.ContainerDefinitions[i]
		needs, err := dependencies(d, c)
		if err != nil {
			return err
		}
		for _, n := range needs {
			if containerNamed(d, n.to) == nil {
				return errClient("Container '%s' names the container '%s' in %s, which the task definition does not have.", *c.Name, clip(n.to), n.by)
			}
			if n.to == *c.Name {
				return errClient("Container '%s' names itself in %s.", *c.Name, n.by)
			}
		}
		edges[*c.Name] = needs
	}
	done := map[string]bool{}
	for i := range d.ContainerDefinitions {
		if cycle := findCycle(edges, *d.ContainerDefinitions[i].Name, nil, done); cycle != nil {
			return errClient("There is a cycle in the containers' dependsOn, links and volumesFrom: %s", strings.Join(cycle, " → "))
		}
	}
	return nil
}

// dependencies are the containers that c names.
func dependencies(d *types.TaskDefinition, c *types.ContainerDefinition) (needs []dependency, err error) {
	for _, x := range c.DependsOn {
		other := containerNamed(d, deref(x.ContainerName))
		switch {
		case other == nil:
		case x.Condition == types.ContainerConditionHealthy && other.HealthCheck == nil:
			return nil, errClient("Container '%s' depends on '%s' being HEALTHY, but that has no health check.", *c.Name, *other.Name)
		case (x.Condition == types.ContainerConditionComplete || x.Condition == types.ContainerConditionSuccess) && essential(other):
			return nil, errClient("Container '%s' depends on '%s' with the condition %s, which can't be set on an essential container.", *c.Name, *other.Name, x.Condition)
		}
		needs = append(needs, dependency{deref(x.ContainerName), "dependsOn"})
	}
	for _, link := range c.Links {
		name, _, _ := strings.Cut(link, ":")
		needs = append(needs, dependency{name, "links"})
	}
	for _, v := range c.VolumesFrom {
		needs = append(needs, dependency{deref(v.SourceContainer), "volumesFrom"})
	}
	return needs, nil
}

// findCycle looks for a cycle from name on; path is the way to it.
func findCycle(edges map[string][]dependency, name string, path []string, done map[string]bool) []string {
	if i := slices.Index(path, name); i >= 0 {
		return append(slices.Clone(path[i:]), name)
	}
	if done[name] {
		return nil
	}
	for _, e := range edges[name] {
		if cycle := findCycle(edges, e.to, append(slices.Clone(path), name), done); cycle != nil {
			return cycle
		}
	}
	done[name] = true
	return nil
}

func essential(c *types.ContainerDefinition) bool { return c.Essential == nil || *c.Essential }
