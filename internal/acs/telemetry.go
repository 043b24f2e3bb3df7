package acs

import "time"

// Telemetry message types.
const (
	TypePublishMetrics  = "PublishMetricsRequest"
	TypePublishHealth   = "PublishHealthRequest"
	TypePublishInstance = "PublishInstanceStatusRequest"
	TypeAckMetrics      = "AckPublishMetric"
	TypeAckHealth       = "AckPublishHealth"
	TypeAckInstance     = "AckPublishInstanceStatus"
)

// Timestamp is epoch seconds with a fraction.
type Timestamp float64

// TimestampOf converts a time.
func TimestampOf(t time.Time) Timestamp { return Timestamp(float64(t.UnixMilli()) / 1000) }

// Time converts back.
func (t Timestamp) Time() time.Time { return time.UnixMilli(int64(float64(t) * 1000)) }

// MetricsMetadata heads a metrics or health frame. Fin marks the last page.
type MetricsMetadata struct {
	Cluster           string `json:"cluster"`
	ContainerInstance string `json:"containerInstance"`
	MessageID         string `json:"messageId,omitempty"`
	RequestID         string `json:"requestId,omitempty"`
	Idle              bool   `json:"idle,omitempty"`
	Fin               bool   `json:"fin,omitempty"`
}

// PublishMetrics carries up to ten tasks' measurements.
type PublishMetrics struct {
	Metadata    MetricsMetadata `json:"metadata"`
	Timestamp   Timestamp       `json:"timestamp"`
	TaskMetrics []TaskMetric    `json:"taskMetrics,omitempty"`
}

// TaskMetric holds a task's containers' measurements.
type TaskMetric struct {
	TaskARN          string            `json:"taskArn"`
	Family           string            `json:"taskDefinitionFamily,omitempty"`
	Version          string            `json:"taskDefinitionVersion,omitempty"`
	ContainerMetrics []ContainerMetric `json:"containerMetrics,omitempty"`
}

// ContainerMetric holds the statistic sets of one container over one interval.
type ContainerMetric struct {
	ContainerName string           `json:"containerName"`
	CPU           *StatsSet        `json:"cpuStatsSet,omitempty"`    // percent of one CPU
	Memory        *StatsSet        `json:"memoryStatsSet,omitempty"` // MiB
	Storage       *StorageStatsSet `json:"storageStatsSet,omitempty"`
	Network       *NetworkStatsSet `json:"networkStatsSet,omitempty"`
	Restart       *RestartStatsSet `json:"restartStatsSet,omitempty"`
}

// StatsSet is a statistic set.
type StatsSet struct {
	Min         float64 `json:"min"`
	Max         float64 `json:"max"`
	Sum         float64 `json:"sum"`
	SampleCount int64   `json:"sampleCount"`
}

// StorageStatsSet counts bytes read and written in the interval.
type StorageStatsSet struct {
	ReadSizeBytes  *ULongStatsSet `json:"readSizeBytes,omitempty"`
	WriteSizeBytes *ULongStatsSet `json:"writeSizeBytes,omitempty"`
}

// NetworkStatsSet counts traffic in the interval.
type NetworkStatsSet struct {
	RxBytes   *ULongStatsSet `json:"rxBytes,omitempty"`
	RxPackets *ULongStatsSet `json:"rxPackets,omitempty"`
	TxBytes   *ULongStatsSet `json:"txBytes,omitempty"`
	TxPackets *ULongStatsSet `json:"txPackets,omitempty"`
}

// ULongStatsSet is a statistic set of 64-bit counts; what does not fit a signed
// 64-bit number is in the overflow members.
type ULongStatsSet struct {
	Min         int64 `json:"min"`
	Max         int64 `json:"max"`
	Sum         int64 `json:"sum"`
	SampleCount int64 `json:"sampleCount"`
	OverflowMin int64 `json:"overflowMin,omitempty"`
	OverflowMax int64 `json:"overflowMax,omitempty"`
	OverflowSum int64 `json:"overflowSum,omitempty"`
}

// RestartStatsSet counts restarts under a restart policy.
type RestartStatsSet struct {
	RestartCount int64 `json:"restartCount"`
}

// PublishHealth carries the health of tasks' containers.
type PublishHealth struct {
	Metadata  MetricsMetadata `json:"metadata"`
	Timestamp Timestamp       `json:"timestamp"`
	Tasks     []TaskHealth    `json:"tasks"`
}

// TaskHealth holds one task's containers' health.
type TaskHealth struct {
	TaskARN    string            `json:"taskArn"`
	Family     string            `json:"taskDefinitionFamily,omitempty"`
	Version    string            `json:"taskDefinitionVersion,omitempty"`
	Containers []ContainerHealth `json:"containers"`
}

// ContainerHealth is HEALTHY, UNHEALTHY or UNKNOWN since a time.
type ContainerHealth struct {
	ContainerName string    `json:"containerName"`
	HealthStatus  string    `json:"healthStatus"`
	StatusSince   Timestamp `json:"statusSince"`
	StatusMessage string    `json:"statusMessage,omitempty"`
}

// PublishInstanceStatus carries how the instance itself is.
type PublishInstanceStatus struct {
	Metadata  MetricsMetadata  `json:"metadata"`
	Timestamp Timestamp        `json:"timestamp"`
	Statuses  []InstanceStatus `json:"statuses"`
}

// Types and statuses of an instance's parts.
const (
	InstanceRuntime          = "ContainerRuntime"
	InstanceOK               = "OK"
	InstanceImpaired         = "IMPAIRED"
	InstanceInsufficientData = "INSUFFICIENT_DATA"
)

// InstanceStatus is the state of one part of an instance.
type InstanceStatus struct {
	Type             string    `json:"type"`
	Status           string    `json:"status"`
	LastUpdated      Timestamp `json:"lastUpdated"`
	LastStatusChange Timestamp `json:"lastStatusChange"`
}

// TelemetryAck acknowledges a telemetry frame.
type TelemetryAck struct {
	Message string `json:"message,omitempty"`
}
