package network

import (
	"context"
	"errors"
	"net/netip"
)

// Errors of the contract, wrapped with %w.
var (
	// ErrPortInUse: a static host port is taken on this node.
	ErrPortInUse = errors.New("host port is in use")
	// ErrNoPort: no dynamic host port is left.
	ErrNoPort = errors.New("no host port is free")
	// ErrNoAddress: the bridge has no address left.
	ErrNoAddress = errors.New("no address is free")
	ErrNotFound  = errors.New("sandbox not found")
)

// Mode is a sandbox's network mode, with ECS's names.
type Mode string

// The network modes.
const (
	ModeBridge Mode = "bridge"
	ModeAWSVPC Mode = "awsvpc"
	ModeHost   Mode = "host"
	ModeNone   Mode = "none"
)

// PortMapping asks for, or states, one mapped port.
type PortMapping struct {
	// Protocol is "tcp" or "udp".
	Protocol      string `json:"protocol"`
	ContainerPort uint16 `json:"containerPort"`
	// HostPort 0 asks for a dynamic port (49153–65535 by default, ECS's range).
	HostPort uint16 `json:"hostPort"`
	// Run, in the first of mappings of consecutive container ports with dynamic host
	// ports, says how many there are: their host ports are consecutive too.
	Run uint16 `json:"run,omitempty"`
}

// ENI is the elastic network interface of an awsvpc sandbox.
type ENI struct {
	// Address with its subnet's prefix length: the container's own address.
	Address netip.Prefix `json:"address"`
	Gateway netip.Addr   `json:"gateway"`
	// MAC in colon form; when empty, one is derived from the address.
	MAC string `json:"mac,omitempty"`
}

// Request asks for a sandbox.
type Request struct {
	// ID is unique on the node: [a-z0-9-]{1,64}.
	ID       string        `json:"id"`
	Mode     Mode          `json:"mode"`
	Hostname string        `json:"hostname,omitempty"` // default: the id's first 12 characters, the host's in host mode
	Ports    []PortMapping `json:"ports,omitempty"`    // bridge only
	ENI      *ENI          `json:"eni,omitempty"`      // awsvpc only
	// DNSServers and DNSSearch override the host's resolver settings.
	DNSServers []string `json:"dnsServers,omitempty"`
	DNSSearch  []string `json:"dnsSearch,omitempty"`
	// ExtraHosts are "name:address" lines for /etc/hosts; the address host-gateway
	// stands for the host's on the bridge.
	ExtraHosts []string `json:"extraHosts,omitempty"`
}

// Sandbox is a network that exists.
type Sandbox struct {
	ID   string `json:"id"`
	Mode Mode   `json:"mode"`
	// NetNS is the path of the namespace's mount, or "host".
	NetNS string `json:"netns"`
	// Address of the container in bridge and awsvpc mode.
	Address netip.Prefix `json:"address"`
	Gateway netip.Addr   `json:"gateway"`
	MAC     string       `json:"mac"`
	// Ports are the mappings with their host ports filled in.
	Ports []PortMapping `json:"ports"`
	// ResolvConf, Hosts and HostnameFile are host paths of files to bind-mount
	// read-write at /etc/resolv.conf, /etc/hosts and /etc/hostname.
	ResolvConf   string `json:"resolvConf"`
	Hosts        string `json:"hosts"`
	HostnameFile string `json:"hostnameFile"`
}

// Counters are an interface's totals, for task statistics.
type Counters struct {
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// Network makes and removes sandboxes. All methods may be called concurrently.
type Network interface {
	// Setup makes the sandbox, or returns the existing one with this id. After an
	// error nothing is left behind.
	Setup(ctx context.Context, req Request) (Sandbox, error)
	// Teardown removes the sandbox: links, addresses, ports, rules, files, the
	// namespace's mount. Removing what does not exist is nil.
	Teardown(ctx context.Context, id string) error
	// Sandboxes returns what exists.
	Sandboxes(ctx context.Context) ([]Sandbox, error)
	// Counters of a sandbox's own interface (bridge, awsvpc); zero in host and none.
	Counters(ctx context.Context, id string) (Counters, error)
	// SandboxAt returns the sandbox whose packets come from an address; false when
	// there is none. Addresses can't be forged.
	SandboxAt(from netip.Addr) (Sandbox, bool)
	// MetadataListenAddr is where the node's metadata server must listen on this
	// host, so that TaskAddress reaches it from every sandbox: its port 80, and, but in
	// mode none, its port TaskAPIPort.
	MetadataListenAddr() netip.AddrPort
	// Close keeps the sandboxes. Destroy also removes what the node shares (bridge,
	// nftables table) and is called when no sandbox is left.
	Close() error
	Destroy(ctx context.Context) error
}
