package network

import (
	"github.com/google/nftables"
)

// warnOfOtherFirewalls says which chains of others may stop the sandboxes'
// traffic. A verdict of acceptance in one table does not bind another: their
// owner has to make room.
func (l *Linux) warnOfOtherFirewalls() {
	for _, c := range l.rules.droppingChains() {
		l.opts.Log.Warn("another firewall drops by default what it does not accept; allow the links "+
			l.names.veth+"* and "+l.names.closed+"* there if sandboxes cannot connect",
			"table", c.Table.Name, "chain", c.Name)
	}
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
