package network

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
)

// The addresses and ports that ECS reserves.
var (
	metadataAddr         = netip.MustParseAddr("169.254.170.2")
	instanceMetadataAddr = netip.MustParseAddr("169.254.169.254")
)

// TaskAPIPort is where tasks reach the control plane's API, at TaskAddress.
const TaskAPIPort = 4566

// TaskAddress is where tasks in every mode reach their node: task metadata and
// credentials on port 80, and, but in mode none, the API on TaskAPIPort.
func TaskAddress() netip.Addr { return metadataAddr }

const (
	metadataPort = 80
	// agentPort is where Amazon's agent listens; ours prefers it too.
	agentPort      = 51679
	firstDynamic   = 49153
	lastDynamic    = 65535
	minBridgeBits  = 28
	maxBridgeBits  = 8
	maxENISubnets  = 1024
	maxMTU         = 65535
	minMTU         = 576
	defaultMTU     = 1500
	maxNodeNameLen = 256
)

// Options configure a node's network.
type Options struct {
	// Node names this node; it is unique on the machine and stays the same across
	// restarts.
	Node string
	// StateDir, on disk, keeps the node's subnet and metadata port, and the files
	// that are mounted into containers.
	StateDir string
	// RunDir, best on tmpfs, keeps the namespaces' mounts and the sandboxes' records:
	// what a reboot ends.
	RunDir string
	// BridgeCIDR is the private subnet of bridge sandboxes; the zero value chooses
	// one that meets no route of the host.
	BridgeCIDR netip.Prefix
	// ENISubnets are the subnets of awsvpc tasks on all nodes. Between them the
	// task's address is kept; traffic to any other place is masqueraded.
	ENISubnets []netip.Prefix
	// FirstDynamicPort and LastDynamicPort bound dynamic host ports, inclusive
	// (default 49153–65535).
	FirstDynamicPort, LastDynamicPort uint16
	// MetadataPort is where the metadata server will listen on the bridge's
	// address; 0 chooses a free one and keeps it across restarts.
	MetadataPort uint16
	// MTU of the sandboxes' links; 0 takes that of the host's default route.
	MTU int
	// FallbackDNS serves when the host's resolvers are all loopback addresses.
	FallbackDNS []netip.Addr
	Log         *slog.Logger
}

func (o Options) validated() (Options, error) {
	switch {
	case o.Node == "" || len(o.Node) > maxNodeNameLen:
		return o, fmt.Errorf("network: the node's name must have 1 to %d characters", maxNodeNameLen)
	case !filepath.IsAbs(o.StateDir) || !filepath.IsAbs(o.RunDir):
		return o, errors.New("network: StateDir and RunDir must be absolute paths")
	case o.MTU != 0 && (o.MTU < minMTU || o.MTU > maxMTU):
		return o, fmt.Errorf("network: MTU %d is not within %d–%d", o.MTU, minMTU, maxMTU)
	case len(o.ENISubnets) > maxENISubnets:
		return o, fmt.Errorf("network: %d ENI subnets, at most %d", len(o.ENISubnets), maxENISubnets)
	}
	if o.FirstDynamicPort == 0 {
		o.FirstDynamicPort = firstDynamic
	}
	if o.LastDynamicPort == 0 {
		o.LastDynamicPort = lastDynamic
	}
	if o.FirstDynamicPort > o.LastDynamicPort {
		return o, fmt.Errorf("network: dynamic ports %d–%d are no range", o.FirstDynamicPort, o.LastDynamicPort)
	}
	if b := o.BridgeCIDR; b.IsValid() && (!b.Addr().Is4() || b.Bits() > minBridgeBits || b.Bits() < maxBridgeBits) {
		return o, fmt.Errorf("network: bridge subnet %s must be IPv4 with a prefix of %d to %d bits", b, maxBridgeBits, minBridgeBits)
	}
	o.BridgeCIDR = o.BridgeCIDR.Masked()
	for _, s := range o.ENISubnets {
		if !s.IsValid() || !s.Addr().Is4() || s.Bits() == 0 {
			return o, fmt.Errorf("network: ENI subnet %s must be an IPv4 subnet", s)
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// names are the kernel objects' names of one node. Interface names have at most
// 15 bytes; rules match a node's links by their 8-byte prefix.
type names struct {
	bridge string // lb + node
	veth   string // prefix of links with a way out: lv + node
	closed string // prefix of links without one: ln + node
	table  string // longshore- + node
}

const tablePrefix = "longshore-"

func namesOf(node string) names {
	n := shortHash(node, 6)
	return names{bridge: "lb" + n, veth: "lv" + n, closed: "ln" + n, table: tablePrefix + n}
}

// link is the name of a sandbox's host link.
func (n names) link(m Mode, id string) string {
	if m == ModeNone {
		return n.closed + shortHash(id, 7)
	}
	return n.veth + shortHash(id, 7)
}

func (n names) owns(link string) bool {
	return strings.HasPrefix(link, n.veth) || strings.HasPrefix(link, n.closed)
}

func shortHash(s string, chars int) string {
	sum := sha256.Sum256([]byte(s))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:chars]
}

var idPattern = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)

func validID(id string) error {
	if !idPattern.MatchString(id) {
		return fmt.Errorf("network: sandbox id %.80q must match %s", id, idPattern)
	}
	return nil
}
