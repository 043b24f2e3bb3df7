package agent

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/network"
)

// expandPorts renders one port mapping of the task; a range becomes a mapping a port.
func expandPorts(p acs.PortMapping) ([]network.PortMapping, error) {
	protocol := firstOf(p.Protocol, "tcp")
	if p.ContainerPortRange == "" {
		c, err := port(p.ContainerPort)
		if err != nil || c == 0 {
			return nil, fmt.Errorf("container port %d is not a port", p.ContainerPort)
		}
		h, err := port(p.HostPort)
		if err != nil {
			return nil, err
		}
		return []network.PortMapping{{Protocol: protocol, ContainerPort: c, HostPort: h}}, nil
	}
	first, last, err := portRange(p.ContainerPortRange)
	if err != nil {
		return nil, err
	}
	var mapped []network.PortMapping
	for n := int(first); n <= int(last); n++ {
		mapped = append(mapped, network.PortMapping{Protocol: protocol, ContainerPort: uint16(n)})
	}
	mapped[0].Run = uint16(len(mapped))
	return mapped, nil
}

func port(n int64) (uint16, error) {
	if n < 0 || n > 65535 {
		return 0, fmt.Errorf("%d is not a port", n)
	}
	return uint16(n), nil
}

func portRange(text string) (first, last uint16, err error) {
	a, b, ok := strings.Cut(text, "-")
	from, err1 := strconv.ParseUint(a, 10, 16)
	to, err2 := strconv.ParseUint(b, 10, 16)
	if !ok || err1 != nil || err2 != nil || from == 0 || from > to {
		return 0, 0, fmt.Errorf("container port range %q is not FIRST-LAST", text)
	}
	return uint16(from), uint16(to), nil
}

// taskENI renders the task's elastic network interface.
func taskENI(t *acs.Task) (*network.ENI, error) {
	if len(t.ENIs) == 0 || len(t.ENIs[0].IPv4Addresses) == 0 {
		return nil, fmt.Errorf("task in awsvpc mode came without an elastic network interface")
	}
	e := &t.ENIs[0]
	gateway, err := netip.ParsePrefix(e.SubnetGatewayIPv4Address)
	if err != nil {
		return nil, fmt.Errorf("subnet gateway of %s: %w", e.EC2ID, err)
	}
	address := e.IPv4Addresses[0].PrivateAddress
	for _, a := range e.IPv4Addresses {
		if a.Primary {
			address = a.PrivateAddress
		}
	}
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return nil, fmt.Errorf("address of %s: %w", e.EC2ID, err)
	}
	return &network.ENI{Address: netip.PrefixFrom(ip, gateway.Bits()), Gateway: gateway.Addr(), MAC: e.MACAddress}, nil
}
