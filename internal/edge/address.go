package edge

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// addresses are those that this process, or the one before, has given the machine: each
// load balancer's own, on the loopback interface, so that everything on the machine and in
// its containers reaches it, and nothing beyond does.
type addresses struct{ mine map[netip.Addr]bool }

// set gives the machine the wanted addresses, and takes those away that are wanted no more.
func (a *addresses) set(wanted map[netip.Addr]bool) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the loopback interface: %w", err)
	}
	if a.mine == nil {
		a.mine = map[netip.Addr]bool{}
	}
	var errs []error
	for addr := range wanted {
		if a.mine[addr] || addr.IsLoopback() {
			continue
		}
		if err := netlink.AddrAdd(lo, on(addr)); err != nil && !errors.Is(err, unix.EEXIST) {
			errs = append(errs, fmt.Errorf("give the machine the address %s: %w", addr, err))
			continue
		}
		a.mine[addr] = true
	}
	for addr := range a.mine {
		if wanted[addr] {
			continue
		}
		if err := netlink.AddrDel(lo, on(addr)); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			errs = append(errs, fmt.Errorf("take the address %s from the machine: %w", addr, err))
			continue
		}
		delete(a.mine, addr)
	}
	return errors.Join(errs...)
}

func on(a netip.Addr) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}, Scope: unix.RT_SCOPE_HOST}
}
