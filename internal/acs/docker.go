package acs

import (
	"encoding/json"
	"fmt"
)

// DockerConfig carries Docker's API objects as JSON strings: what the protocol
// has no member of its own for. Both our agent and Amazon's read them. With a
// Version, Amazon's agent asks Docker for that very version of its API, and fails
// where the daemon is older or newer; without, it takes the one that it agreed on.
type DockerConfig struct {
	Version    string `json:"version,omitempty"`
	Config     string `json:"config,omitempty"`
	HostConfig string `json:"hostConfig,omitempty"`
}

// Config is the part of Docker's container Config that the protocol uses, with
// Docker's names. Durations are nanoseconds.
type Config struct {
	Hostname        string            `json:"Hostname,omitempty"`
	Domainname      string            `json:"Domainname,omitempty"`
	User            string            `json:"User,omitempty"`
	WorkingDir      string            `json:"WorkingDir,omitempty"`
	Tty             bool              `json:"Tty,omitempty"`
	OpenStdin       bool              `json:"OpenStdin,omitempty"`
	NetworkDisabled bool              `json:"NetworkDisabled,omitempty"`
	Labels          map[string]string `json:"Labels,omitempty"`
	Healthcheck     *Healthcheck      `json:"Healthcheck,omitempty"`
}

// Healthcheck is Docker's HealthConfig.
type Healthcheck struct {
	Test        []string `json:"Test,omitempty"`
	Interval    int64    `json:"Interval,omitempty"`
	Timeout     int64    `json:"Timeout,omitempty"`
	StartPeriod int64    `json:"StartPeriod,omitempty"`
	Retries     int      `json:"Retries,omitempty"`
}

// HostConfig is the part of Docker's HostConfig that the protocol uses.
type HostConfig struct {
	NetworkMode       string            `json:"NetworkMode,omitempty"`
	LogConfig         LogConfig         `json:"LogConfig"`
	MemoryReservation int64             `json:"MemoryReservation,omitempty"` // bytes
	MemorySwap        int64             `json:"MemorySwap,omitempty"`        // bytes, memory included
	MemorySwappiness  *int64            `json:"MemorySwappiness,omitempty"`
	Ulimits           []Ulimit          `json:"Ulimits,omitempty"`
	CapAdd            []string          `json:"CapAdd,omitempty"`
	CapDrop           []string          `json:"CapDrop,omitempty"`
	Devices           []DeviceMapping   `json:"Devices,omitempty"`
	Privileged        bool              `json:"Privileged,omitempty"`
	ReadonlyRootfs    bool              `json:"ReadonlyRootfs,omitempty"`
	ShmSize           int64             `json:"ShmSize,omitempty"` // bytes
	Init              *bool             `json:"Init,omitempty"`
	Sysctls           map[string]string `json:"Sysctls,omitempty"`
	Tmpfs             map[string]string `json:"Tmpfs,omitempty"` // path → options
	DNS               []string          `json:"Dns,omitempty"`
	DNSSearch         []string          `json:"DnsSearch,omitempty"`
	ExtraHosts        []string          `json:"ExtraHosts,omitempty"` // "name:address"
	SecurityOpt       []string          `json:"SecurityOpt,omitempty"`
}

// LogConfig names a log driver and its options.
type LogConfig struct {
	Type   string            `json:"Type,omitempty"`
	Config map[string]string `json:"Config,omitempty"`
}

// Ulimit is Docker's resource limit.
type Ulimit struct {
	Name string `json:"Name"`
	Soft int64  `json:"Soft"`
	Hard int64  `json:"Hard"`
}

// DeviceMapping is Docker's device mapping.
type DeviceMapping struct {
	PathOnHost        string `json:"PathOnHost"`
	PathInContainer   string `json:"PathInContainer"`
	CgroupPermissions string `json:"CgroupPermissions"`
}

// NewDockerConfig renders both objects.
func NewDockerConfig(c Config, h HostConfig) (DockerConfig, error) {
	cj, err := json.Marshal(c)
	if err != nil {
		return DockerConfig{}, fmt.Errorf("render docker config: %w", err)
	}
	hj, err := json.Marshal(h)
	if err != nil {
		return DockerConfig{}, fmt.Errorf("render docker host config: %w", err)
	}
	return DockerConfig{Config: string(cj), HostConfig: string(hj)}, nil
}

// Parse reads both objects; missing ones are zero.
func (d DockerConfig) Parse() (Config, HostConfig, error) {
	var c Config
	var h HostConfig
	if d.Config != "" {
		if err := json.Unmarshal([]byte(d.Config), &c); err != nil {
			return c, h, fmt.Errorf("dockerConfig.config: %w", err)
		}
	}
	if d.HostConfig != "" {
		if err := json.Unmarshal([]byte(d.HostConfig), &h); err != nil {
			return c, h, fmt.Errorf("dockerConfig.hostConfig: %w", err)
		}
	}
	return c, h, nil
}
