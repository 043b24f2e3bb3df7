package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// ruleset is the node's nftables table and the connection that changes it.
type ruleset struct {
	names    names
	gateway  netip.Addr
	bridge   netip.Prefix
	metadata netip.AddrPort
	enis     []netip.Prefix

	mu   sync.Mutex
	conn *nftables.Conn

	table   *nftables.Table
	tcp     *nftables.Set // host port → address . port
	udp     *nftables.Set
	eni     *nftables.Set // addresses of this node's awsvpc tasks
	subnets *nftables.Set // subnets of all awsvpc tasks

	// place is the node's place in the order in which the machine's nodes answer
	// metadata for host mode.
	place nftables.ChainPriority
}

// Chains of the table.
const (
	chainGuard      = "guard"
	chainSandbox    = "sandbox"
	chainPrerouting = "prerouting"
	chainHost       = "host-metadata"
	chainOutput     = "output"
	chainPost       = "postrouting"
	chainForward    = "forward"
	chainInput      = "input"
)

var loopback = netip.MustParsePrefix("127.0.0.0/8")

func newRuleset(n names, bridge netip.Prefix, metadata netip.AddrPort, enis []netip.Prefix) *ruleset {
	t := &nftables.Table{Name: n.table, Family: nftables.TableFamilyIPv4}
	target := nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
	return &ruleset{
		names: n, gateway: metadata.Addr(), bridge: bridge, metadata: metadata, enis: enis,
		table: t,
		// The ids are ours: the library's counter is not safe for concurrent use.
		tcp:     &nftables.Set{Table: t, ID: 1, Name: "tcp", IsMap: true, KeyType: nftables.TypeInetService, DataType: target},
		udp:     &nftables.Set{Table: t, ID: 2, Name: "udp", IsMap: true, KeyType: nftables.TypeInetService, DataType: target},
		eni:     &nftables.Set{Table: t, ID: 3, Name: "eni", KeyType: nftables.TypeIPAddr},
		subnets: &nftables.Set{Table: t, ID: 4, Name: "eni-subnets", Interval: true, KeyType: nftables.TypeIPAddr},
	}
}

func (s *ruleset) sets() []*nftables.Set {
	return []*nftables.Set{s.tcp, s.udp, s.eni, s.subnets}
}

type chainRule struct {
	chain string
	exprs []expr.Any
}

// rules are all rules in order. Sandboxes' links are matched by the prefix of
// their names, so that a sandbox comes and goes without a change of rules.
func (s *ruleset) rules() []chainRule {
	open, closed := iifPrefix(s.names.veth), iifPrefix(s.names.closed)
	outward := oifPrefix(s.names.veth)
	mdAddr, imds := toAddr(metadataAddr), toAddr(instanceMetadataAddr)
	md, api := rule(mdAddr, tcpPort(metadataPort)), rule(mdAddr, tcpPort(TaskAPIPort))

	rules := []chainRule{
		{chainGuard, rule(open, jump(chainSandbox))},
		{chainGuard, rule(closed, jump(chainSandbox))},
		{chainGuard, rule(closed, drop())},

		{chainSandbox, rule(spoofed(), drop())},
		// The host's loopback is its own, although route_localnet, which localhost's
		// way to a mapped port needs, would let a packet for it in.
		{chainSandbox, rule(to(loopback), drop())},
		{chainSandbox, rule(md, accept())},
		{chainSandbox, rule(open, api, accept())},
		{chainSandbox, rule(mdAddr, drop())},

		{chainPrerouting, rule(open, md, dnatTo(s.metadata))},
		{chainPrerouting, rule(open, api, dnatTo(s.metadata))},
		{chainPrerouting, rule(closed, md, dnatTo(s.metadata))},
		{chainHost, rule(md, dnatTo(s.metadata))},
		{chainHost, rule(api, dnatTo(s.metadata))},
	}
	for _, c := range []string{chainPrerouting, chainOutput} {
		rules = append(rules,
			chainRule{c, rule(mdAddr, accept())}, // never a mapped port's, of any node
			chainRule{c, rule(toLocal(), dnatByPort(unix.IPPROTO_TCP, s.tcp.Name, s.tcp.ID))},
			chainRule{c, rule(toLocal(), dnatByPort(unix.IPPROTO_UDP, s.udp.Name, s.udp.ID))})
	}
	return append(rules,
		chainRule{chainPost, rule(outward, from(loopback), snatTo(s.gateway))},
		// A sandbox that reaches itself by a host port must not see its own address.
		chainRule{chainPost, rule(outward, from(s.bridge), ctBits(expr.CtKeySTATUS, ctDNAT), snatTo(s.gateway))},
		chainRule{chainPost, rule(outward, accept())},
		chainRule{chainPost, rule(from(s.bridge), masquerade())},
		chainRule{chainPost, rule(inSet(offSource, s.eni.Name, s.eni.ID, false),
			inSet(offDestination, s.subnets.Name, s.subnets.ID, true), masquerade())},

		chainRule{chainForward, rule(open, imds, reject())},
		// The bridge's subnet is private: from elsewhere only mapped ports are reached.
		chainRule{chainForward, rule(outward, to(s.bridge), ctBits(expr.CtKeySTATE, ctEstablishedRelated), accept())},
		chainRule{chainForward, rule(outward, to(s.bridge), open, accept())},
		chainRule{chainForward, rule(outward, to(s.bridge), ctBits(expr.CtKeySTATUS, ctDNAT), accept())},
		chainRule{chainForward, rule(outward, to(s.bridge), drop())},

		chainRule{chainInput, rule(open, imds, reject())},
		chainRule{chainInput, rule(toAddr(s.gateway), tcpPort(s.metadata.Port()), iifName("lo"), accept())},
		chainRule{chainInput, rule(toAddr(s.gateway), tcpPort(s.metadata.Port()), open, accept())},
		chainRule{chainInput, rule(toAddr(s.gateway), tcpPort(s.metadata.Port()), closed, accept())},
		chainRule{chainInput, rule(toAddr(s.gateway), tcpPort(s.metadata.Port()), drop())},
	)
}

func (s *ruleset) chains() []*nftables.Chain {
	base := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, prio nftables.ChainPriority) *nftables.Chain {
		return &nftables.Chain{Name: name, Table: s.table, Type: kind, Hooknum: hook, Priority: &prio}
	}
	return []*nftables.Chain{
		{Name: chainSandbox, Table: s.table},
		base(chainGuard, nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityRaw),
		base(chainPrerouting, nftables.ChainTypeNAT, nftables.ChainHookPrerouting, *nftables.ChainPriorityNATDest),
		base(chainHost, nftables.ChainTypeNAT, nftables.ChainHookOutput, s.place),
		base(chainOutput, nftables.ChainTypeNAT, nftables.ChainHookOutput, *nftables.ChainPriorityNATDest),
		base(chainPost, nftables.ChainTypeNAT, nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource),
		base(chainForward, nftables.ChainTypeFilter, nftables.ChainHookForward, *nftables.ChainPriorityFilter),
		base(chainInput, nftables.ChainTypeFilter, nftables.ChainHookInput, *nftables.ChainPriorityFilter),
	}
}

// open connects to the kernel.
func (s *ruleset) open() error {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return fmt.Errorf("network: nftables: %w", missing(err, "nftables (CONFIG_NF_TABLES, nf_tables)"))
	}
	s.conn = conn
	return nil
}

func (s *ruleset) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		_ = s.conn.CloseLasting()
		s.conn = nil
	}
}

// flush commits what was queued. After an error the connection may still hold
// answers to an earlier question, so it is replaced.
func (s *ruleset) flush() error {
	err := s.conn.Flush()
	if err == nil {
		return nil
	}
	_ = s.conn.CloseLasting()
	if oerr := s.open(); oerr != nil {
		return errors.Join(err, oerr)
	}
	return err
}

// Places that chainHost can have: before the mapped ports' chain, after tracking.
// The first node takes the middle one, so that there is room before it.
const (
	foremostPlace nftables.ChainPriority = -199
	middlePlace   nftables.ChainPriority = -150
	lastPlace     nftables.ChainPriority = -101
)

// choosePlace keeps the place that the table has, or goes behind the other nodes;
// but never behind one whose server is gone: a node that was killed leaves its table.
func (s *ruleset) choosePlace() error {
	chains, err := s.conn.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return fmt.Errorf("network: nftables: %w", missing(err, "nftables (CONFIG_NF_TABLES)"))
	}
	s.place = middlePlace
	limit := lastPlace
	for _, c := range chains {
		if c.Name != chainHost || c.Priority == nil || !strings.HasPrefix(c.Table.Name, tablePrefix) || c.Table.Name == s.table.Name {
			continue
		}
		if s.silent(c) {
			limit = min(limit, max(*c.Priority-1, foremostPlace))
		} else {
			s.place = max(s.place, *c.Priority+1)
		}
	}
	for _, c := range chains {
		if c.Name == chainHost && c.Table.Name == s.table.Name && c.Priority != nil {
			s.place = *c.Priority
		}
	}
	s.place = min(s.place, limit)
	return nil
}

// silent tells whether nobody answers where another node's chain sends requests
// for metadata. A node that has only just begun is taken for silent too: then this
// one comes first, which is as good.
func (s *ruleset) silent(c *nftables.Chain) bool {
	rules, err := s.conn.GetRules(c.Table, c)
	if err != nil {
		return false
	}
	for _, r := range rules {
		server, ok := destination(r)
		if !ok {
			continue
		}
		conn, err := net.DialTimeout("tcp4", server.String(), silentAfter)
		if err == nil {
			_ = conn.Close()
		}
		return errors.Is(err, unix.ECONNREFUSED)
	}
	return false
}

// silentAfter is how long another node's server may take to accept a connection.
const silentAfter = 200 * time.Millisecond

// destination reads back what dnatTo wrote.
func destination(r *nftables.Rule) (netip.AddrPort, bool) {
	var addr netip.Addr
	var port uint16
	for _, e := range r.Exprs {
		switch imm, ok := e.(*expr.Immediate); {
		case !ok:
		case imm.Register == reg1 && len(imm.Data) == 4:
			addr = netip.AddrFrom4([4]byte(imm.Data))
		case imm.Register == regSecond && len(imm.Data) >= 2:
			port = binaryutil.BigEndian.Uint16(imm.Data[:2])
		}
	}
	return netip.AddrPortFrom(addr, port), addr.IsValid() && port != 0
}

// build makes the table what it must be for the given sandboxes, in one
// transaction: traffic never meets half of it.
func (s *ruleset) build(live []*record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.choosePlace(); err != nil {
		return err
	}
	if err := s.queueBuild(live, false); err != nil {
		return err
	}
	err := s.flush()
	if err == nil {
		return nil
	}
	// Another version may have left sets or chains of another kind.
	if err := s.queueBuild(live, true); err != nil {
		return err
	}
	if err2 := s.flush(); err2 != nil {
		return fmt.Errorf("network: nftables: %w", s.explain(err2))
	}
	return nil
}

func (s *ruleset) queueBuild(live []*record, fresh bool) error {
	s.conn.AddTable(s.table)
	if fresh {
		s.conn.DelTable(s.table)
		s.conn.AddTable(s.table)
	}
	chains := map[string]*nftables.Chain{}
	for _, c := range s.chains() {
		chains[c.Name] = s.conn.AddChain(c)
		s.conn.FlushChain(c)
	}
	for _, set := range s.sets() {
		if err := s.conn.AddSet(set, nil); err != nil {
			return fmt.Errorf("network: nftables set %s: %w", set.Name, err)
		}
		s.conn.FlushSet(set)
	}
	if err := s.conn.SetAddElements(s.subnets, intervals(s.enis)); err != nil {
		return err
	}
	for _, r := range live {
		if err := s.queueElements(r, s.conn.SetAddElements); err != nil {
			return err
		}
	}
	for _, r := range s.rules() {
		s.conn.AddRule(&nftables.Rule{Table: s.table, Chain: chains[r.chain], Exprs: r.exprs})
	}
	return nil
}

type elementOp func(*nftables.Set, []nftables.SetElement) error

// queueElements adds or deletes what a sandbox has in the table.
func (s *ruleset) queueElements(r *record, op elementOp) error {
	var tcp, udp []nftables.SetElement
	for _, p := range r.Sandbox.Ports {
		e := nftables.SetElement{Key: binaryutil.BigEndian.PutUint16(p.HostPort), Val: target(r.Address, p.ContainerPort)}
		if p.Protocol == "udp" {
			udp = append(udp, e)
		} else {
			tcp = append(tcp, e)
		}
	}
	var eni []nftables.SetElement
	if r.Request.Mode == ModeAWSVPC {
		a := r.Address.As4()
		eni = []nftables.SetElement{{Key: a[:]}}
	}
	for _, q := range []struct {
		set   *nftables.Set
		elems []nftables.SetElement
	}{{s.tcp, tcp}, {s.udp, udp}, {s.eni, eni}} {
		if len(q.elems) == 0 {
			continue
		}
		if err := op(q.set, q.elems); err != nil {
			return fmt.Errorf("network: nftables set %s: %w", q.set.Name, err)
		}
	}
	return nil
}

// target is the value of a port map: the address, and the port padded to 4 bytes.
func target(a netip.Addr, port uint16) []byte {
	b := a.As4()
	return append(b[:], byte(port>>8), byte(port), 0, 0)
}

// add enters a sandbox's ports and address.
func (s *ruleset) add(r *record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.queueElements(r, s.conn.SetAddElements); err != nil {
		return err
	}
	if err := s.flush(); err != nil {
		return fmt.Errorf("network: map ports of sandbox %s: %w", r.id(), err)
	}
	return nil
}

// remove takes a sandbox's elements out, also when some are not there.
func (s *ruleset) remove(r *record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.queueElements(r, s.conn.SetDeleteElements); err != nil {
		return err
	}
	err := s.flush()
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("network: unmap ports of sandbox %s: %w", r.id(), err)
	}
	// One missing element fails the transaction: go one by one.
	one := func(set *nftables.Set, elems []nftables.SetElement) error {
		for _, e := range elems {
			if err := s.conn.SetDeleteElements(set, []nftables.SetElement{e}); err != nil {
				return err
			}
			if err := s.flush(); err != nil && !errors.Is(err, unix.ENOENT) {
				return err
			}
		}
		return nil
	}
	if err := s.queueElements(r, one); err != nil {
		return fmt.Errorf("network: unmap ports of sandbox %s: %w", r.id(), err)
	}
	return nil
}

// delete removes the table.
func (s *ruleset) delete() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn.DelTable(s.table)
	if err := s.flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("network: remove nftables table %s: %w", s.table.Name, err)
	}
	return nil
}

// foreignPorts are the ports that other nodes of this machine map, running or not.
func (s *ruleset) foreignPorts() (map[portKey]bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tables, err := s.conn.ListTablesOfFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return nil, fmt.Errorf("network: list nftables tables: %w", err)
	}
	var out map[portKey]bool
	for _, t := range tables {
		if !strings.HasPrefix(t.Name, tablePrefix) || t.Name == s.table.Name {
			continue
		}
		for _, proto := range []string{"tcp", "udp"} {
			elems, err := s.conn.GetSetElements(&nftables.Set{Table: t, Name: proto})
			if err != nil {
				continue // the node has just left, or never finished its table
			}
			for _, e := range elems {
				if len(e.Key) != 2 {
					continue
				}
				if out == nil {
					out = map[portKey]bool{}
				}
				out[portKey{proto, binaryutil.BigEndian.Uint16(e.Key)}] = true
			}
		}
	}
	return out, nil
}

// intervals renders prefixes for an interval set: each range's begin, and its end
// as the first address after it.
func intervals(prefixes []netip.Prefix) []nftables.SetElement {
	out := []nftables.SetElement{}
	for _, p := range mergePrefixes(prefixes) {
		begin := p.Addr().As4()
		out = append(out, nftables.SetElement{Key: begin[:]})
		end := lastAddr(p).Next()
		if end.IsValid() {
			b := end.As4()
			out = append(out, nftables.SetElement{Key: b[:], IntervalEnd: true})
		}
	}
	return out
}
