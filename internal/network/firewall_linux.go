package network

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Docker's firewall drops what it does not forward itself, but has a chain for
// other people's rules, which it keeps across its restarts.
const (
	dockerTable   = "filter"
	dockerForward = "FORWARD"
	dockerUser    = "DOCKER-USER"
)

// openOtherFirewalls makes room for the sandboxes' traffic in Docker's firewall,
// and says which chains of others may stop it: a verdict of acceptance in one
// table does not bind another, so that their owner has to make room.
func (l *Linux) openOtherFirewalls() {
	opened, err := l.rules.openDocker()
	if err != nil { // Docker may be at work on its chain
		l.opts.Log.Warn("sandboxes may not connect while Docker runs on this host", "error", err)
	}
	for _, c := range l.rules.droppingChains() {
		if opened && c.Table.Name == dockerTable && c.Name == dockerForward {
			continue
		}
		l.opts.Log.Warn("another firewall drops what it does not accept; if sandboxes cannot connect, allow the links "+
			l.names.veth+"* (and in input "+l.names.closed+"*) there", "table", c.Table.Name, "chain", c.Name)
	}
	if strings.Contains(readText("/proc/net/ip_tables_names"), "filter") {
		l.opts.Log.Warn("this host also filters by legacy iptables, which cannot be looked at; if sandboxes cannot connect, allow the links " +
			l.names.veth + "* in its FORWARD chain")
	}
}

// dockerRules let sandboxes connect anywhere but to Docker's own bridges, and
// leave what may reach a sandbox to our table. They have the form in which iptables
// writes rules, which it can list.
func (s *ruleset) dockerRules() [][]expr.Any {
	counter := []expr.Any{&expr.Counter{}}
	return [][]expr.Any{
		rule(iifPrefix(s.names.veth), notOut("docker0\x00"), notOut("br-"), counter, accept()),
		rule(oifPrefix(s.names.veth), counter, accept()),
	}
}

func notOut(prefix string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg1}, cmp(expr.CmpOpNeq, []byte(prefix))}
}

// openDocker puts this node's rules into Docker's chain, once; it tells whether
// there is such a chain.
func (s *ruleset) openDocker() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	chain := s.queueCloseDocker()
	if chain == nil {
		return false, nil
	}
	for _, exprs := range s.dockerRules() {
		s.conn.InsertRule(&nftables.Rule{Table: chain.Table, Chain: chain, Exprs: exprs})
	}
	if err := s.flush(); err != nil {
		return true, fmt.Errorf("network: let sandboxes through Docker's firewall (%s): %w", dockerUser, err)
	}
	return true, nil
}

// closeDocker removes this node's rules from Docker's chain.
func (s *ruleset) closeDocker() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queueCloseDocker() == nil {
		return nil
	}
	if err := s.flush(); err != nil {
		return fmt.Errorf("network: remove rules from %s: %w", dockerUser, err)
	}
	return nil
}

// queueCloseDocker queues the removal of this node's rules, and returns the chain,
// nil when there is none.
func (s *ruleset) queueCloseDocker() *nftables.Chain {
	table := &nftables.Table{Name: dockerTable, Family: nftables.TableFamilyIPv4}
	chain, err := s.conn.ListChain(table, dockerUser)
	if err != nil {
		return nil
	}
	chain.Table = table
	rules, err := s.conn.GetRules(table, chain)
	if err != nil {
		return nil
	}
	for _, r := range rules {
		if s.mentionsLinks(r) {
			// The library's own deletion wants the handle only.
			_ = s.conn.DelRule(&nftables.Rule{Table: table, Chain: chain, Handle: r.Handle})
		}
	}
	return chain
}

func (s *ruleset) mentionsLinks(r *nftables.Rule) bool {
	for _, e := range r.Exprs {
		if c, ok := e.(*expr.Cmp); ok && bytes.Equal(c.Data, []byte(s.names.veth)) {
			return true
		}
	}
	return false
}

// droppingChains are other tables' base chains of policy drop that sandboxes'
// packets pass.
func (s *ruleset) droppingChains() []*nftables.Chain {
	s.mu.Lock()
	defer s.mu.Unlock()
	chains, err := s.conn.ListChains()
	if err != nil {
		return nil
	}
	var out []*nftables.Chain
	for _, c := range chains {
		if c.Policy == nil || *c.Policy != nftables.ChainPolicyDrop || c.Hooknum == nil || c.Table.Name == s.table.Name {
			continue
		}
		ip := c.Table.Family == nftables.TableFamilyIPv4 || c.Table.Family == nftables.TableFamilyINet
		if ip && (*c.Hooknum == *nftables.ChainHookForward || *c.Hooknum == *nftables.ChainHookInput) {
			out = append(out, c)
		}
	}
	return out
}
