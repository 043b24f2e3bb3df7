package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	goruntime "runtime"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/smithy-go"
)

// Resources are what a node offers.
type Resources struct {
	// CPU in units of 1/1024 of a core, Memory in MiB.
	CPU, Memory int64
}

// reservedPorts are never given to tasks: ssh and the agent's own.
var reservedPorts = []string{"22", "2375", "2376", "51678", "51679"}

// capabilities are what this agent can do, by the names that ECS gives to what
// task definitions require.
var capabilities = []string{
	"com.amazonaws.ecs.capability.privileged-container",
	"com.amazonaws.ecs.capability.logging-driver.awslogs",
	"com.amazonaws.ecs.capability.logging-driver.json-file",
	"com.amazonaws.ecs.capability.logging-driver.none",
	"com.amazonaws.ecs.capability.task-iam-role",
	"com.amazonaws.ecs.capability.task-iam-role-network-host",
	"ecs.capability.execution-role-awslogs",
	"ecs.capability.logging-driver.awslogs-create-group",
	"ecs.capability.task-eni",
	"ecs.capability.task-cpu-mem-limit",
	"ecs.capability.container-ordering",
	"ecs.capability.container-health-check",
	"ecs.capability.container-restart-policy",
	"ecs.capability.network.container-port-range",
	"ecs.capability.pid-ipc-namespace-sharing",
	"ecs.capability.docker-plugin.local",
	"ecs.capability.full-sync",
	"longshore.agent", // it is ours, and says only what it can do with this control plane
}

// dockerAPIFirst to dockerAPILast are the Docker API versions whose features the
// agent offers; task definitions require them by name.
const dockerAPIFirst, dockerAPILast = 17, 44

// attributeZone carries the node's zone, and the control plane's answer to it.
const attributeZone = "ecs.availability-zone"

// dockerVersion is what the agent announces in the place of Docker's version.
const dockerVersion = "longshore"

func (a *Agent) attributes() []ecstypes.Attribute {
	var all []ecstypes.Attribute
	add := func(name, value string) {
		all = append(all, ecstypes.Attribute{Name: aws.String(name), Value: optional(value)})
	}
	for _, name := range capabilities {
		add(name, "")
	}
	for v := dockerAPIFirst; v <= dockerAPILast; v++ {
		add("com.amazonaws.ecs.capability.docker-remote-api.1."+strconv.Itoa(v), "")
	}
	add("ecs.os-type", "linux")
	add("ecs.os-family", "LINUX")
	add("ecs.cpu-architecture", architecture())
	if a.options.Zone != "" {
		add(attributeZone, a.options.Zone)
	}
	for _, name := range sortedKeys(a.options.Attributes) {
		add(name, a.options.Attributes[name])
	}
	return all
}

// architecture in ECS's names.
func architecture() string {
	if goruntime.GOARCH == "amd64" {
		return "x86_64"
	}
	return goruntime.GOARCH
}

// Waits between attempts to register, as Amazon's agent has them: for a control
// plane that asks for patience, and how often one may say that the node may not.
const (
	registerBackoffFirst = 3 * time.Second
	registerBackoffLast  = 192 * time.Second
	registerDenials      = 3
)

// registerUntilDone registers, for as long as the control plane can't be reached
// or asks for patience: the node's tasks are looked after meanwhile. A refusal is
// final, unless it is of the instance that the node was: deregistered, in another
// cluster, or of a control plane that began anew. Then the node becomes a new one.
func (a *Agent) registerUntilDone(ctx context.Context) error {
	unreachable := newBackoff(time.Minute)
	patience := registerBackoffFirst
	for denials := 0; ; {
		err := a.register(ctx)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		var wait time.Duration
		switch registrationTrouble(err) {
		case troubleBusy:
			wait, patience = jittered(patience), min(2*patience, registerBackoffLast)
		case troubleUnreachable:
			wait = unreachable.next()
		case troubleDenied:
			if denials++; denials < registerDenials {
				wait = jittered(registerBackoffFirst)
				break
			}
			fallthrough
		case troubleRefused:
			if former := a.forgetInstance(); former != "" {
				a.log.Warn("the container instance that this node was cannot be taken up again; registering as a new one", "instance", former, "error", err)
				denials = 0
				continue
			}
			fallthrough
		default:
			return fmt.Errorf("the control plane refused to register this node: %w", err)
		}
		a.log.Warn("the node could not register yet; trying again", "error", err, "nextAttemptIn", wait)
		if !pause(ctx, wait) {
			return nil
		}
	}
}

// What a failed registration means.
const (
	troubleUnreachable = iota // no answer
	troubleBusy               // it has trouble of its own, or asks for patience
	troubleDenied             // who asks may not, perhaps not yet
	troubleRefused            // what was asked is wrong
	troubleFinal              // it took less than was sent
)

// errAttributesLost is a control plane that did not take the node's attributes:
// it would place tasks without knowing what the node can do.
var errAttributesLost = errors.New("the control plane did not take the node's attributes")

func registrationTrouble(err error) int {
	if errors.Is(err, errAttributesLost) {
		return troubleFinal
	}
	var api smithy.APIError
	if !errors.As(err, &api) {
		return troubleUnreachable
	}
	switch code := api.ErrorCode(); {
	case refusal(err) == notRefused:
		return troubleBusy
	case code == "AccessDeniedException", code == "UnrecognizedClientException", code == "InvalidSignatureException",
		code == "ExpiredTokenException", code == "IncompleteSignatureException", code == "MissingAuthenticationTokenException":
		return troubleDenied
	default:
		return troubleRefused
	}
}

// forgetInstance makes the next registration that of a new instance.
func (a *Agent) forgetInstance() (former string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	former, a.registered.ContainerInstanceARN = a.registered.ContainerInstanceARN, ""
	return former
}

func (a *Agent) register(ctx context.Context) error {
	resources, err := a.resources()
	if err != nil {
		return err
	}
	id := a.identity()
	in := &ecs.RegisterContainerInstanceInput{
		Cluster: optional(firstOf(a.options.Cluster, id.Cluster, "default")), Attributes: a.attributes(),
		ContainerInstanceArn: optional(id.ContainerInstanceARN),
		TotalResources: []ecstypes.Resource{
			{Name: aws.String("CPU"), Type: aws.String("INTEGER"), IntegerValue: int32(resources.CPU)},
			{Name: aws.String("MEMORY"), Type: aws.String("INTEGER"), IntegerValue: int32(resources.Memory)},
			{Name: aws.String("PORTS"), Type: aws.String("STRINGSET"), StringSetValue: reservedPorts},
			{Name: aws.String("PORTS_UDP"), Type: aws.String("STRINGSET"), StringSetValue: []string{}},
		},
		VersionInfo: &ecstypes.VersionInfo{
			AgentVersion: aws.String(a.options.Version), AgentHash: aws.String(a.options.Version),
			DockerVersion: aws.String(dockerVersion),
		},
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	out, err := a.control.RegisterContainerInstance(ctx, in, onlyOnce)
	if err != nil {
		return err
	}
	if out.ContainerInstance == nil || aws.ToString(out.ContainerInstance.ContainerInstanceArn) == "" {
		return errors.New("the control plane's answer to the registration names no container instance")
	}
	if err := echoed(in.Attributes, out.ContainerInstance.Attributes); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.zone = firstOf(attributeValue(out.ContainerInstance.Attributes, attributeZone), a.options.Zone)
	a.registered.Cluster, a.registered.ContainerInstanceARN = aws.ToString(in.Cluster), *out.ContainerInstance.ContainerInstanceArn
	return a.db.putIdentity(a.registered)
}

// echoed checks that every attribute sent has come back as it was.
func echoed(sent, back []ecstypes.Attribute) error {
	kept := make(map[string]string, len(back))
	for _, b := range back {
		kept[aws.ToString(b.Name)] = aws.ToString(b.Value)
	}
	var lost []string
	for _, s := range sent {
		if value, ok := kept[aws.ToString(s.Name)]; !ok || value != aws.ToString(s.Value) {
			lost = append(lost, aws.ToString(s.Name))
		}
	}
	if len(lost) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %d of %d did not come back as sent (%s …)", errAttributesLost, len(lost), len(sent), strings.Join(lost[:min(3, len(lost))], ", "))
}

func attributeValue(list []ecstypes.Attribute, name string) string {
	for _, a := range list {
		if aws.ToString(a.Name) == name {
			return aws.ToString(a.Value)
		}
	}
	return ""
}

// resources are what was configured, or what the machine has less a reserve.
func (a *Agent) resources() (Resources, error) {
	r := a.options.Resources
	if r.CPU == 0 {
		r.CPU = int64(goruntime.NumCPU()) * 1024
	}
	if r.Memory == 0 {
		total, err := machineMemory()
		if err != nil {
			return r, err
		}
		r.Memory = total - max(total/16, 128)
	}
	return r, nil
}

// machineMemory reads the machine's memory in MiB.
func machineMemory() (int64, error) {
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("read the machine's memory: %w", err)
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read the machine's memory: %w", err)
			}
			return kib / 1024, nil
		}
	}
	return 0, errors.New("/proc/meminfo names no MemTotal")
}
