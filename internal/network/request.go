package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"
)

// Bounds on what one request may ask for.
const (
	maxPorts      = 1000
	maxExtraHosts = 1000
	maxDNS        = 32
)

var (
	hostnamePattern = regexp.MustCompile(`^[a-zA-Z0-9_]([a-zA-Z0-9_.-]{0,251}[a-zA-Z0-9_])?$`)
	searchPattern   = regexp.MustCompile(`^(\.|[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,252})$`)
)

// validate checks a request by itself, without looking at the node.
func (r Request) validate() error {
	if err := validID(r.ID); err != nil {
		return err
	}
	if err := r.validateMode(); err != nil {
		return fmt.Errorf("network: sandbox %s: %w", r.ID, err)
	}
	if err := r.validateNames(); err != nil {
		return fmt.Errorf("network: sandbox %s: %w", r.ID, err)
	}
	return nil
}

func (r Request) validateMode() error {
	switch r.Mode {
	case ModeBridge, ModeAWSVPC, ModeHost, ModeNone:
	default:
		return fmt.Errorf("network mode %.40q is not one of bridge, awsvpc, host, none", r.Mode)
	}
	if r.Mode != ModeBridge && len(r.Ports) > 0 {
		return fmt.Errorf("ports can be mapped in bridge mode only, not in %s", r.Mode)
	}
	if (r.Mode == ModeAWSVPC) != (r.ENI != nil) {
		return errors.New("awsvpc mode, and no other, needs an elastic network interface")
	}
	if r.ENI != nil {
		if err := r.ENI.validate(); err != nil {
			return err
		}
	}
	return validatePorts(r.Ports)
}

func validatePorts(ports []PortMapping) error {
	if len(ports) > maxPorts {
		return fmt.Errorf("%d port mappings, at most %d", len(ports), maxPorts)
	}
	seen := make(map[portKey]bool, len(ports))
	for _, p := range ports {
		if p.Protocol != "tcp" && p.Protocol != "udp" {
			return fmt.Errorf("protocol %.20q of a port mapping is neither tcp nor udp", p.Protocol)
		}
		if p.ContainerPort == 0 {
			return errors.New("a port mapping has no container port")
		}
		k := portKey{p.Protocol, p.HostPort}
		if p.HostPort != 0 && seen[k] {
			return fmt.Errorf("host port %s is mapped twice", k)
		}
		seen[k] = true
	}
	return validateRuns(ports)
}

// validateRuns checks that a run's mappings follow each other and leave their host
// ports open.
func validateRuns(ports []PortMapping) error {
	for i := 0; i < len(ports); i++ {
		n := int(ports[i].Run)
		if n == 0 {
			continue
		}
		if i+n > len(ports) {
			return fmt.Errorf("a run of %d port mappings begins where %d are left", n, len(ports)-i)
		}
		for j := range n {
			p := ports[i+j]
			if p.HostPort != 0 || p.Protocol != ports[i].Protocol || int(p.ContainerPort) != int(ports[i].ContainerPort)+j || j > 0 && p.Run != 0 {
				return fmt.Errorf("port mapping %d does not belong to the run of %d that begins with container port %d", i+j, n, ports[i].ContainerPort)
			}
		}
		i += n - 1
	}
	return nil
}

func (e *ENI) validate() error {
	a := e.Address.Addr()
	switch {
	case !e.Address.IsValid() || !a.Is4() || !ordinary(a) || e.Address.Bits() < 8:
		return fmt.Errorf("elastic network interface address %s is not an IPv4 unicast address with its subnet", e.Address)
	case !e.Gateway.Is4() || !ordinary(e.Gateway) || e.Gateway == a:
		return fmt.Errorf("elastic network interface gateway %s is not another IPv4 unicast address", e.Gateway)
	case e.MAC == "":
		return nil
	}
	mac, err := net.ParseMAC(e.MAC)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 || mac.String() == "00:00:00:00:00:00" {
		return fmt.Errorf("elastic network interface MAC %.40q is not a unicast Ethernet address", e.MAC)
	}
	return nil
}

// ordinary tells whether a is an address that a host may have on a network.
func ordinary(a netip.Addr) bool {
	return !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && !a.IsLinkLocalUnicast() &&
		a.Is4() && a.As4()[0] != 0 && a.As4()[0] < 240
}

func (r Request) validateNames() error {
	if r.Hostname != "" && !hostnamePattern.MatchString(r.Hostname) {
		return fmt.Errorf("host name %.80q is not valid", r.Hostname)
	}
	if len(r.DNSServers) > maxDNS || len(r.DNSSearch) > maxDNS || len(r.ExtraHosts) > maxExtraHosts {
		return fmt.Errorf("more than %d DNS servers or search domains, or %d extra hosts", maxDNS, maxExtraHosts)
	}
	for _, s := range r.DNSServers {
		if a, err := netip.ParseAddr(s); err != nil || a.Zone() != "" {
			return fmt.Errorf("DNS server %.80q is not an IP address", s)
		}
	}
	for _, s := range r.DNSSearch {
		if !searchPattern.MatchString(s) {
			return fmt.Errorf("DNS search domain %.80q is not valid", s)
		}
	}
	for _, h := range r.ExtraHosts {
		if _, _, err := parseExtraHost(h); err != nil {
			return err
		}
	}
	return nil
}

// hostGateway, in place of an extra host's address, means the host itself.
const hostGateway = "host-gateway"

// parseExtraHost splits "name:address"; the address is invalid for host-gateway.
func parseExtraHost(s string) (string, netip.Addr, error) {
	name, addr, ok := strings.Cut(s, ":")
	if !ok || !hostnamePattern.MatchString(name) {
		return "", netip.Addr{}, fmt.Errorf("extra host %.80q is not name:address", s)
	}
	if addr == hostGateway {
		return name, netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(strings.Trim(addr, "[]"))
	if err != nil || a.Zone() != "" {
		return "", netip.Addr{}, fmt.Errorf("extra host %.80q is not name:address", s)
	}
	return name, a, nil
}
