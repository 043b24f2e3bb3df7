package network

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// missing names the kernel feature behind an error that means "unknown", and
// returns other errors as they are.
func missing(err error, feature string) error {
	for _, e := range []error{unix.EOPNOTSUPP, unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.ENOENT} {
		if errors.Is(err, e) {
			return fmt.Errorf("this kernel lacks %s: %w", feature, err)
		}
	}
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("CAP_NET_ADMIN (root) is needed: %w", err)
	}
	return err
}

// explain finds out which kinds of rule the kernel does not know, after it has
// refused the table, by trying each in a transaction that removes it again.
func (s *ruleset) explain(cause error) error {
	if errors.Is(cause, unix.EPERM) {
		return missing(cause, "")
	}
	filter, nat := nftables.ChainTypeFilter, nftables.ChainTypeNAT
	var lacking []string
	for _, p := range []struct {
		feature string
		kind    nftables.ChainType
		exprs   []expr.Any
	}{
		{"nftables for IPv4 (CONFIG_NF_TABLES_IPV4)", filter, drop()},
		{"nftables NAT chains (CONFIG_NFT_NAT)", nat, accept()},
		{"nftables fib (CONFIG_NFT_FIB_IPV4)", filter, rule(toLocal(), accept())},
		{"nftables connection tracking (CONFIG_NFT_CT)", filter, rule(ctBits(expr.CtKeySTATE, 1), accept())},
		{"nftables reject (CONFIG_NFT_REJECT_IPV4)", filter, reject()},
		{"nftables masquerade (CONFIG_NFT_MASQ)", nat, masquerade()},
	} {
		if err := s.probe(p.kind, p.exprs); err != nil {
			lacking = append(lacking, p.feature)
		}
	}
	if len(lacking) == 0 {
		return cause
	}
	return fmt.Errorf("this kernel lacks %s: %w", strings.Join(lacking, ", "), cause)
}

func (s *ruleset) probe(kind nftables.ChainType, exprs []expr.Any) error {
	t := &nftables.Table{Name: s.table.Name + "-probe", Family: nftables.TableFamilyIPv4}
	c := &nftables.Chain{Name: "probe", Table: t, Type: kind,
		Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter}
	if kind == nftables.ChainTypeNAT {
		c.Hooknum, c.Priority = nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource
	}
	s.conn.AddTable(t)
	s.conn.AddChain(c)
	s.conn.AddRule(&nftables.Rule{Table: t, Chain: c, Exprs: exprs})
	s.conn.DelTable(t)
	return s.flush()
}

// sysctl writes a kernel parameter of the calling thread's network namespace;
// path is relative to /proc/sys/net.
func sysctl(path, value string) error {
	name := filepath.Join("/proc/sys/net", path)
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(value)); err != nil {
		return &os.PathError{Op: "write", Path: name, Err: err}
	}
	return nil
}

// sysctlIfPresent is for parameters that some kernels are built without.
func sysctlIfPresent(path, value string) error {
	if err := sysctl(path, value); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

// enableForwarding turns IPv4 forwarding on when it is off, and leaves it on: it
// is the host's setting, which others may have come to rely on meanwhile.
func enableForwarding() error {
	const path = "ipv4/ip_forward"
	if strings.TrimSpace(readText("/proc/sys/net/"+path)) == "1" {
		return nil
	}
	if err := sysctl(path, "1"); err != nil {
		return fmt.Errorf("network: IPv4 forwarding is off and cannot be turned on: %w", err)
	}
	return nil
}
