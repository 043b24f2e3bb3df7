package network

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// chooseSubnet returns the first of this package's candidates that overlaps none
// of the taken prefixes: the /20s of 172.30.0.0/16, then of 172.29.0.0/16 and down
// to 172.18.0.0/16, then of 10.201.0.0/16 up to 10.250.0.0/16. (172.31.0.0/16 is
// AWS's default VPC, 172.17.0.0/16 Docker's bridge.)
func chooseSubnet(taken []netip.Prefix) (netip.Prefix, error) {
	for second := byte(30); second >= 18; second-- {
		if p, ok := chooseWithin([2]byte{172, second}, taken); ok {
			return p, nil
		}
	}
	for second := byte(201); second <= 250; second++ {
		if p, ok := chooseWithin([2]byte{10, second}, taken); ok {
			return p, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("network: every candidate for the bridge subnet meets a route of this host; set one that is free: %w", ErrNoAddress)
}

func chooseWithin(net [2]byte, taken []netip.Prefix) (netip.Prefix, bool) {
	for third := 0; third < 256; third += 16 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{net[0], net[1], byte(third), 0}), 20)
		if !overlapsAny(p, taken) {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

func overlapsAny(p netip.Prefix, taken []netip.Prefix) bool {
	for _, t := range taken {
		if t.Bits() > 0 && p.Overlaps(t) {
			return true
		}
	}
	return false
}

// pool hands out a subnet's addresses in turn: one that was released comes back
// only after all others had their turn, so that a peer's stale connection does not
// meet a new container.
type pool struct {
	subnet netip.Prefix
	taken  map[uint32]string // offset → sandbox id
	next   uint32            // offset to try first
}

func newPool(subnet netip.Prefix) *pool {
	return &pool{subnet: subnet, taken: map[uint32]string{}}
}

// gateway is the subnet's first address.
func (p *pool) gateway() netip.Addr { return p.at(1) }

func (p *pool) at(offset uint32) netip.Addr {
	b := p.subnet.Addr().As4()
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(b[:])+offset)
	return netip.AddrFrom4(a)
}

// usable offsets run from 2 (after network and gateway) to before the broadcast address.
func (p *pool) last() uint32 { return 1<<(32-p.subnet.Bits()) - 2 }

func (p *pool) offset(a netip.Addr) (uint32, bool) {
	if !p.subnet.Contains(a) {
		return 0, false
	}
	x, b := a.As4(), p.subnet.Addr().As4()
	off := binary.BigEndian.Uint32(x[:]) - binary.BigEndian.Uint32(b[:])
	return off, off >= 2 && off <= p.last()
}

// take returns an address that nobody has.
func (p *pool) take(id string) (netip.Addr, error) {
	last := p.last()
	for range last - 1 {
		if p.next < 2 || p.next > last {
			p.next = 2
		}
		off := p.next
		p.next++
		if _, busy := p.taken[off]; !busy {
			p.taken[off] = id
			return p.at(off), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("network: bridge subnet %s has no address left: %w", p.subnet, ErrNoAddress)
}

// adopt marks an address that a sandbox already has.
func (p *pool) adopt(a netip.Addr, id string) error {
	off, ok := p.offset(a)
	if !ok {
		return fmt.Errorf("network: address %s of sandbox %s is outside the bridge subnet %s", a, id, p.subnet)
	}
	if other, busy := p.taken[off]; busy && other != id {
		return fmt.Errorf("network: address %s belongs to sandbox %s and to %s", a, other, id)
	}
	p.taken[off] = id
	return nil
}

// release gives an address back, if it is this sandbox's.
func (p *pool) release(a netip.Addr, id string) {
	if off, ok := p.offset(a); ok && p.taken[off] == id {
		delete(p.taken, off)
	}
}

// mergePrefixes returns the prefixes that no other one contains, masked.
func mergePrefixes(prefixes []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for i, p := range prefixes {
		p = p.Masked()
		contained := false
		for j, q := range prefixes {
			q = q.Masked()
			if q.Overlaps(p) && (q.Bits() < p.Bits() || (q == p && j < i)) {
				contained = true
			}
		}
		if !contained {
			out = append(out, p)
		}
	}
	return out
}

func lastAddr(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(a[:])|(1<<(32-p.Bits())-1))
	return netip.AddrFrom4(a)
}
