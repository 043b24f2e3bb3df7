package acs

import (
	"encoding/json"
	"log/slog"
)

// Message types, server to agent.
const (
	TypeHeartbeat          = "HeartbeatMessage"
	TypePayload            = "PayloadMessage"
	TypeCredentials        = "IAMRoleCredentialsMessage"
	TypeManifest           = "TaskManifestMessage"
	TypeStopVerificationAk = "TaskStopVerificationAck"
	TypeAttachTaskENI      = "AttachTaskNetworkInterfacesMessage"
	TypeAttachInstanceENI  = "AttachInstanceNetworkInterfacesMessage"
	TypeConfirmAttachment  = "ConfirmAttachmentMessage"
	TypeStageUpdate        = "StageUpdateMessage"
	TypePerformUpdate      = "PerformUpdateMessage"
	TypeError              = "ErrorMessage"
	TypeClose              = "CloseMessage"
)

// Message types, agent to server.
const (
	TypeHeartbeatAck     = "HeartbeatAckRequest"
	TypeAck              = "AckRequest"
	TypeNack             = "NackRequest"
	TypeCredentialsAck   = "IAMRoleCredentialsAckRequest"
	TypeStopVerification = "TaskStopVerificationMessage"
)

// Envelope is one frame: {"type": …, "message": {…}}.
type Envelope struct {
	Type    string          `json:"type"`
	Message json.RawMessage `json:"message"`
}

// Heartbeat keeps a session alive. The agent answers with a HeartbeatAck.
type Heartbeat struct {
	MessageID string `json:"messageId,omitempty"`
	Healthy   bool   `json:"healthy"`
}

// HeartbeatAck answers a Heartbeat.
type HeartbeatAck struct {
	MessageID string `json:"messageId"`
}

// Ack acknowledges a payload, a manifest or an attachment.
type Ack struct {
	Cluster           string `json:"cluster,omitempty"`
	ContainerInstance string `json:"containerInstance,omitempty"`
	MessageID         string `json:"messageId"`
}

// Nack refuses an update.
type Nack struct {
	Ack
	Reason string `json:"reason"`
}

// Payload assigns tasks to an instance, or asks for their stop.
type Payload struct {
	ClusterARN           string `json:"clusterArn"`
	ContainerInstanceARN string `json:"containerInstanceArn"`
	MessageID            string `json:"messageId"`
	// SeqNum shares one growing counter with Manifest.Timeline.
	SeqNum int64  `json:"seqNum"`
	Tasks  []Task `json:"tasks"`
}

// Manifest lists every task that should be running on the instance.
type Manifest struct {
	ClusterARN           string         `json:"clusterArn"`
	ContainerInstanceARN string         `json:"containerInstanceArn"`
	MessageID            string         `json:"messageId"`
	Timeline             int64          `json:"timeline"`
	Tasks                []ManifestTask `json:"tasks"`
}

// ManifestTask names one task of a Manifest.
type ManifestTask struct {
	TaskARN        string `json:"taskArn"`
	TaskClusterARN string `json:"taskClusterArn"`
	DesiredStatus  string `json:"desiredStatus"`
}

// StopVerification is the agent's question whether tasks that it runs, and that
// the manifest does not list, should really stop.
type StopVerification struct {
	MessageID      string         `json:"messageId"`
	StopCandidates []ManifestTask `json:"stopCandidates"`
}

// StopVerificationAck confirms which tasks to stop.
type StopVerificationAck struct {
	MessageID string         `json:"messageId"`
	StopTasks []ManifestTask `json:"stopTasks"`
}

// AttachENI announces a task's interfaces before the task itself comes. The agent
// confirms them with SubmitTaskStateChange within the time given.
type AttachENI struct {
	ClusterARN           string `json:"clusterArn"`
	ContainerInstanceARN string `json:"containerInstanceArn"`
	MessageID            string `json:"messageId"`
	TaskARN              string `json:"taskArn"`
	TaskClusterARN       string `json:"taskClusterArn,omitempty"`
	WaitTimeoutMs        int64  `json:"waitTimeoutMs"`
	ENIs                 []ENI  `json:"elasticNetworkInterfaces"`
}

// Role types: whose credentials a CredentialsMessage brings.
const (
	RoleTask      = "TaskApplication"
	RoleExecution = "TaskExecution"
)

// CredentialsMessage renews a role's credentials of a task.
type CredentialsMessage struct {
	MessageID      string      `json:"messageId"`
	TaskARN        string      `json:"taskArn"`
	TaskClusterARN string      `json:"taskClusterArn,omitempty"`
	RoleType       string      `json:"roleType"`
	Credentials    Credentials `json:"roleCredentials"`
}

// CredentialsAck confirms a set of credentials.
type CredentialsAck struct {
	MessageID     string `json:"messageId"`
	CredentialsID string `json:"credentialsId"`
	Expiration    string `json:"expiration"`
}

// Credentials are a role's temporary credentials. The id is the secret part of
// the URL at which the task fetches them.
type Credentials struct {
	CredentialsID   string `json:"credentialsId"`
	RoleARN         string `json:"roleArn"`
	AccessKeyID     string `json:"accessKeyId"`
	SecretAccessKey string `json:"secretAccessKey"`
	SessionToken    string `json:"sessionToken"`
	// Expiration in RFC 3339.
	Expiration string `json:"expiration"`
}

// String implements fmt.Stringer: neither the id nor the keys are shown.
func (c Credentials) String() string { return "credentials of " + c.RoleARN + " (redacted)" }

// GoString implements fmt.GoStringer, as String.
func (c Credentials) GoString() string { return c.String() }

// LogValue implements slog.LogValuer, as String.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Rejection is the body of a refused websocket handshake.
type Rejection struct {
	Type    string `json:"type"`
	Message struct {
		Message string `json:"message"`
	} `json:"message"`
}

// RejectInactiveInstance makes an agent wait an hour before it tries again.
const RejectInactiveInstance = "InactiveInstanceException"

// Desired statuses of a task.
const (
	DesiredRunning = "RUNNING"
	DesiredStopped = "STOPPED"
)

// Task is a task as it is sent to an agent: the task definition with overrides
// and placement already applied.
type Task struct {
	ARN            string `json:"arn"`
	TaskClusterARN string `json:"taskClusterArn,omitempty"`
	Family         string `json:"family,omitempty"`
	Version        string `json:"version,omitempty"`
	DesiredStatus  string `json:"desiredStatus"`
	Overrides      string `json:"overrides,omitempty"`

	TaskDefinitionAccountID string `json:"taskDefinitionAccountId,omitempty"`
	LaunchType              string `json:"launchType,omitempty"`
	ServiceName             string `json:"serviceName,omitempty"`
	Group                   string `json:"group,omitempty"`
	Zone                    string `json:"zone,omitempty"`

	// CPU in vCPUs, Memory in MiB; zero when the task has no limit of its own.
	CPU         float64 `json:"cpu,omitempty"`
	Memory      int64   `json:"memory,omitempty"`
	NetworkMode string  `json:"networkMode,omitempty"`
	PIDMode     string  `json:"pidMode,omitempty"`
	IPCMode     string  `json:"ipcMode,omitempty"`

	Containers []Container `json:"containers,omitempty"`
	Volumes    []Volume    `json:"volumes,omitempty"`
	ENIs       []ENI       `json:"elasticNetworkInterfaces,omitempty"`

	Associations []Association `json:"associations,omitempty"`

	RoleCredentials          *Credentials `json:"roleCredentials,omitempty"`
	ExecutionRoleCredentials *Credentials `json:"executionRoleCredentials,omitempty"`
}

// Container is one container of a Task.
type Container struct {
	Name         string `json:"name"`
	ContainerARN string `json:"containerArn,omitempty"`
	Image        string `json:"image"`
	Essential    bool   `json:"essential"`
	// CPU in shares (1024 = one vCPU), Memory in MiB (hard limit, 0: none).
	CPU         int64             `json:"cpu,omitempty"`
	Memory      int64             `json:"memory,omitempty"`
	Command     []string          `json:"command,omitempty"`
	EntryPoint  *[]string         `json:"entryPoint,omitempty"`
	Environment map[string]string `json:"environment,omitempty"`
	Links       []string          `json:"links,omitempty"`

	PortMappings []PortMapping `json:"portMappings,omitempty"`
	MountPoints  []MountPoint  `json:"mountPoints,omitempty"`
	VolumesFrom  []VolumeFrom  `json:"volumesFrom,omitempty"`
	DependsOn    []Dependency  `json:"dependsOn,omitempty"`

	// StartTimeout and StopTimeout in seconds; 0 means the agent's default.
	StartTimeout  int64          `json:"startTimeout,omitempty"`
	StopTimeout   int64          `json:"stopTimeout,omitempty"`
	RestartPolicy *RestartPolicy `json:"restartPolicy,omitempty"`
	// HealthCheckType is "docker" when DockerConfig.Config holds a Healthcheck.
	HealthCheckType   string        `json:"healthCheckType,omitempty"`
	LogsAuthStrategy  string        `json:"logsAuthStrategy,omitempty"`
	Secrets           []Secret      `json:"secrets,omitempty"`
	RegistryAuth      *RegistryAuth `json:"registryAuthentication,omitempty"`
	NetworkInterfaces []string      `json:"networkInterfaceNames,omitempty"`
	DockerConfig      DockerConfig  `json:"dockerConfig"`
	// Overrides is a JSON string in which only "command" is allowed.
	Overrides string `json:"overrides,omitempty"`
}

// PortMapping maps a container's port to the host's; HostPort 0 asks for a dynamic one.
type PortMapping struct {
	ContainerPort      int64  `json:"containerPort,omitempty"`
	HostPort           int64  `json:"hostPort"`
	ContainerPortRange string `json:"containerPortRange,omitempty"`
	Protocol           string `json:"protocol,omitempty"`
}

// MountPoint mounts a volume of the task in a container.
type MountPoint struct {
	SourceVolume  string `json:"sourceVolume"`
	ContainerPath string `json:"containerPath"`
	ReadOnly      bool   `json:"readOnly"`
}

// VolumeFrom mounts all volumes of another container.
type VolumeFrom struct {
	SourceContainer string `json:"sourceContainer"`
	ReadOnly        bool   `json:"readOnly"`
}

// Dependency orders containers: Condition is START, COMPLETE, SUCCESS or HEALTHY.
type Dependency struct {
	ContainerName string `json:"containerName"`
	Condition     string `json:"condition"`
}

// RestartPolicy restarts a container without stopping its task.
type RestartPolicy struct {
	Enabled              bool    `json:"enabled"`
	IgnoredExitCodes     []int64 `json:"ignoredExitCodes,omitempty"`
	RestartAttemptPeriod int64   `json:"restartAttemptPeriod,omitempty"`
}

// Secret names a value that the agent resolves with the execution role.
type Secret struct {
	Name      string `json:"name"`
	ValueFrom string `json:"valueFrom"`
	Region    string `json:"region,omitempty"`
	Provider  string `json:"provider"`
	Type      string `json:"type"`
	Target    string `json:"target"`
}

// RegistryAuth tells how a private registry is entered.
type RegistryAuth struct {
	Type        string `json:"type"`
	ECRAuthData *struct {
		RegistryID       string `json:"registryId,omitempty"`
		Region           string `json:"region,omitempty"`
		EndpointOverride string `json:"endpointOverride,omitempty"`
		UseExecutionRole bool   `json:"useExecutionRole,omitempty"`
	} `json:"ecrAuthData,omitempty"`
	ASMAuthData *struct {
		CredentialsParameter string `json:"credentialsParameter"`
		Region               string `json:"region"`
	} `json:"asmAuthData,omitempty"`
}

// Volume is a volume of a task. Host must be present for type "host"; an empty
// SourcePath makes an anonymous volume.
type Volume struct {
	Name   string        `json:"name"`
	Type   string        `json:"type,omitempty"`
	Host   *HostVolume   `json:"host,omitempty"`
	Docker *DockerVolume `json:"dockerVolumeConfiguration,omitempty"`
}

// HostVolume is a path of the host.
type HostVolume struct {
	SourcePath string `json:"sourcePath,omitempty"`
}

// DockerVolume is a named volume.
type DockerVolume struct {
	Scope         string            `json:"scope,omitempty"`
	Autoprovision bool              `json:"autoprovision,omitempty"`
	Driver        string            `json:"driver,omitempty"`
	DriverOpts    map[string]string `json:"driverOpts,omitempty"`
	Labels        map[string]string `json:"labels,omitempty"`
}

// ENI is an elastic network interface of a task.
type ENI struct {
	AttachmentARN string        `json:"attachmentArn"`
	EC2ID         string        `json:"ec2Id"`
	MACAddress    string        `json:"macAddress"`
	Index         int64         `json:"index"`
	IPv4Addresses []IPv4Address `json:"ipv4Addresses"`
	// SubnetGatewayIPv4Address is "address/prefix length".
	SubnetGatewayIPv4Address string   `json:"subnetGatewayIpv4Address"`
	DomainName               []string `json:"domainName,omitempty"`
	DomainNameServers        []string `json:"domainNameServers,omitempty"`
	PrivateDNSName           string   `json:"privateDnsName,omitempty"`
	AssociationProtocol      string   `json:"interfaceAssociationProtocol,omitempty"`
}

// Association gives a device of the instance (type "gpu", the name is the
// device's id) to one container.
type Association struct {
	Containers []string `json:"containers"`
	Name       string   `json:"name"`
	Type       string   `json:"type"`
}

// IPv4Address is one address of an ENI.
type IPv4Address struct {
	PrivateAddress string `json:"privateAddress"`
	Primary        bool   `json:"primary"`
}
