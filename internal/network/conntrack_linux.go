package network

import (
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// forgetConnections makes the kernel forget the UDP flows that meet a sandbox's
// ports or address: a flow that began before the mapping was made, or before it
// was removed, would go its old way for as long as packets come. (A TCP connection
// fails and is made anew.) Only sandboxes with UDP ports need it; where the kernel
// has no such interface, flows time out after 30 seconds.
func (l *Linux) forgetConnections(r *record) {
	ports := map[uint16]bool{}
	for _, p := range r.Sandbox.Ports {
		if p.Protocol == "udp" {
			ports[p.HostPort] = true
		}
	}
	if len(ports) == 0 {
		return
	}
	h, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
	if err != nil {
		return
	}
	defer h.Close()
	_, err = h.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, udpFlows{ports: ports, address: r.Address})
	if err != nil {
		l.opts.Log.Debug("old UDP flows of a sandbox's ports stay until they time out", "sandbox", r.id(), "error", err)
	}
}

// udpFlows matches UDP flows to certain ports, or answered by an address.
type udpFlows struct {
	ports   map[uint16]bool
	address netip.Addr
}

// MatchConntrackFlow is called by netlink for each flow.
func (f udpFlows) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	src, _ := netip.AddrFromSlice(flow.Reverse.SrcIP)
	return f.ports[flow.Forward.DstPort] || src.Unmap() == f.address
}
