package network

import (
	"net/netip"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Pieces of nftables rules. Each loads into register 1 and compares it; a port
// loaded beside an address lands in the 32-bit register that follows.
const (
	reg1      = unix.NFT_REG_1
	regSecond = unix.NFT_REG32_01
)

func rule(parts ...[]expr.Any) []expr.Any {
	var out []expr.Any
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func cmp(op expr.CmpOp, data []byte) expr.Any {
	return &expr.Cmp{Op: op, Register: reg1, Data: data}
}

// iifPrefix matches packets that came in by a link whose name has a prefix;
// oifPrefix those that leave by one.
func iifPrefix(prefix string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg1}, cmp(expr.CmpOpEq, []byte(prefix))}
}

func oifPrefix(prefix string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg1}, cmp(expr.CmpOpEq, []byte(prefix))}
}

// iifName matches a link's whole name.
func iifName(name string) []expr.Any {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg1}, cmp(expr.CmpOpEq, b)}
}

// Offsets of the addresses in an IPv4 header.
const (
	offSource      = 12
	offDestination = 16
)

func inSubnet(offset uint32, p netip.Prefix) []expr.Any {
	load := &expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4}
	want := p.Masked().Addr().As4()
	if p.Bits() == 32 {
		return []expr.Any{load, cmp(expr.CmpOpEq, want[:])}
	}
	var mask [4]byte
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return []expr.Any{
		load,
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 4, Mask: mask[:], Xor: make([]byte, 4)},
		cmp(expr.CmpOpEq, want[:]),
	}
}

func from(p netip.Prefix) []expr.Any { return inSubnet(offSource, p) }
func to(p netip.Prefix) []expr.Any   { return inSubnet(offDestination, p) }

func toAddr(a netip.Addr) []expr.Any { return to(netip.PrefixFrom(a, 32)) }

// inSet matches when the address at offset is, or is not, in a set.
func inSet(offset uint32, set string, id uint32, invert bool) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Lookup{SourceRegister: reg1, SetName: set, SetID: id, Invert: invert},
	}
}

func protocol(proto byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg1}, cmp(expr.CmpOpEq, []byte{proto})}
}

func loadDport() expr.Any {
	return &expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}
}

func tcpPort(port uint16) []expr.Any {
	return append(protocol(unix.IPPROTO_TCP), loadDport(), cmp(expr.CmpOpEq, binaryutil.BigEndian.PutUint16(port)))
}

// toLocal matches packets for an address of this host.
func toLocal() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: reg1, ResultADDRTYPE: true, FlagDADDR: true},
		cmp(expr.CmpOpEq, binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)),
	}
}

// spoofed matches a source address that is not routed back by the link it came from.
func spoofed() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: reg1, ResultOIF: true, FlagSADDR: true, FlagIIF: true},
		cmp(expr.CmpOpEq, make([]byte, 4)),
	}
}

// Bits of ct state and ct status.
const (
	ctEstablishedRelated = 2 | 4
	ctDNAT               = 1 << 5
)

func ctBits(key expr.CtKey, bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Register: reg1, Key: key},
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		cmp(expr.CmpOpNeq, make([]byte, 4)),
	}
}

func verdict(kind expr.VerdictKind, chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}
}

func accept() []expr.Any { return verdict(expr.VerdictAccept, "") }
func drop() []expr.Any   { return verdict(expr.VerdictDrop, "") }

func jump(chain string) []expr.Any { return verdict(expr.VerdictJump, chain) }

// reject answers "administratively prohibited", so that the sender gives up at once.
func reject() []expr.Any {
	return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: 13}}
}

func masquerade() []expr.Any { return []expr.Any{&expr.Masq{}} }

func snatTo(a netip.Addr) []expr.Any {
	b := a.As4()
	return []expr.Any{
		&expr.Immediate{Register: reg1, Data: b[:]},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg1},
	}
}

func dnatTo(a netip.AddrPort) []expr.Any {
	b := a.Addr().As4()
	return []expr.Any{
		&expr.Immediate{Register: reg1, Data: b[:]},
		&expr.Immediate{Register: regSecond, Data: binaryutil.BigEndian.PutUint16(a.Port())},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg1, RegProtoMin: regSecond},
	}
}

// dnatByPort looks the destination port up in a map of addresses with ports.
func dnatByPort(proto byte, set string, id uint32) []expr.Any {
	return append(protocol(proto),
		loadDport(),
		&expr.Lookup{SourceRegister: reg1, DestRegister: reg1, IsDestRegSet: true, SetName: set, SetID: id},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg1, RegProtoMin: regSecond},
	)
}
