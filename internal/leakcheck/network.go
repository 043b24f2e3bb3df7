package leakcheck

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"longshore.dev/longshore/internal/netdump"
)

func links(scope Scope, add func(string, ...any)) error {
	if scope.LinkPrefix == "" && len(scope.Addresses) == 0 {
		return nil
	}
	all, err := netdump.Whole(netlink.LinkList)
	if err != nil {
		return fmt.Errorf("list network links: %w", err)
	}
	for _, link := range all {
		name := link.Attrs().Name
		if scope.LinkPrefix != "" && strings.HasPrefix(name, scope.LinkPrefix) {
			add("network link %s (%s)", name, link.Type())
		}
		if len(scope.Addresses) == 0 {
			continue
		}
		addresses, err := netdump.Whole(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_ALL) })
		if err != nil {
			continue // the link went meanwhile
		}
		for _, a := range addresses {
			ip, ok := netip.AddrFromSlice(a.IP)
			ip = ip.Unmap()
			if ok && slices.ContainsFunc(scope.Addresses, func(p netip.Prefix) bool { return p.Contains(ip) }) {
				add("address %s on %s", a.IPNet, name)
			}
		}
	}
	return nil
}

func tables(scope Scope, add func(string, ...any)) error {
	if scope.TablePrefix == "" {
		return nil
	}
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("list nftables: %w", err)
	}
	all, err := conn.ListTables()
	if err != nil {
		return fmt.Errorf("list nftables: %w", err)
	}
	for _, table := range all {
		if !strings.HasPrefix(table.Name, scope.TablePrefix) {
			continue
		}
		add("nftables table %s (family %d)", table.Name, table.Family)
		sets, err := conn.GetSets(table)
		if err != nil {
			continue // the table went meanwhile
		}
		for _, set := range sets {
			elements, err := conn.GetSetElements(set)
			if err != nil {
				continue
			}
			for _, e := range elements {
				add("nftables element %x → %x in %s of table %s", e.Key, e.Val, set.Name, table.Name)
			}
		}
	}
	return nil
}
