package network

import (
	"bufio"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// hostResolvConfs are where a host's real name servers are found, in order: the
// first file with one that is no loopback address serves.
var hostResolvConfs = [...]string{
	"/etc/resolv.conf",
	"/run/systemd/resolve/resolv.conf",
	"/run/NetworkManager/no-stub-resolv.conf",
}

const maxResolvConf = 64 << 10

// resolver is the content of a resolv.conf.
type resolver struct {
	servers []netip.Addr
	search  []string
	options []string
}

// parseResolvConf reads what it understands and passes over the rest, as libc does.
func parseResolvConf(text string) resolver {
	var r resolver
	sc := bufio.NewScanner(strings.NewReader(text))
	sc.Buffer(nil, maxResolvConf)
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(f[1]); err == nil {
				r.servers = append(r.servers, a)
			}
		case "search", "domain":
			r.search = f[1:]
		case "options":
			r.options = append(r.options, f[1:]...)
		}
	}
	return r
}

// reachable keeps the servers that a namespace of its own can reach: no loopback
// addresses, and IPv4, which is all that sandboxes speak.
func (r resolver) reachable() resolver {
	out := r
	out.servers = nil
	for _, a := range r.servers {
		if a = a.Unmap(); a.Is4() && !a.IsLoopback() && !a.IsUnspecified() {
			out.servers = append(out.servers, a)
		}
	}
	return out
}

func (r resolver) String() string {
	var b strings.Builder
	for _, a := range r.servers {
		fmt.Fprintf(&b, "nameserver %s\n", a)
	}
	if len(r.search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(r.search, " "))
	}
	if len(r.options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(r.options, " "))
	}
	return b.String()
}

// hostResolver is the host's resolver as a sandbox of a mode can use it: settings
// of the first of its files, name servers of the first one that has usable ones.
func hostResolver(mode Mode, files []string) resolver {
	var out resolver
	for i, path := range files {
		r := parseResolvConf(readText(path))
		if mode != ModeHost {
			r = r.reachable()
		}
		if i == 0 {
			out = r
		}
		if len(r.servers) > 0 {
			out.servers = r.servers
			break
		}
	}
	return out
}

// resolverFor decides a sandbox's resolver.
func resolverFor(req Request, host resolver, fallback []netip.Addr) resolver {
	r := host
	if len(r.servers) == 0 {
		r.servers = fallback
	}
	if len(req.DNSServers) > 0 {
		r.servers = nil
		for _, s := range req.DNSServers {
			if a, err := netip.ParseAddr(s); err == nil {
				r.servers = append(r.servers, a)
			}
		}
	}
	if len(req.DNSSearch) > 0 {
		r.search = req.DNSSearch
		if len(r.search) == 1 && r.search[0] == "." {
			r.search = nil
		}
	}
	return r
}

const baseHosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"

// hostsFor renders /etc/hosts. own is the sandbox's address, if it has one;
// gateway is what host-gateway stands for; host mode starts from the host's file.
func hostsFor(req Request, hostname string, own, gateway netip.Addr, hostFile string) string {
	var b strings.Builder
	if req.Mode == ModeHost && hostFile != "" {
		b.WriteString(hostFile)
		if !strings.HasSuffix(hostFile, "\n") {
			b.WriteByte('\n')
		}
	} else {
		b.WriteString(baseHosts)
		if !own.IsValid() {
			own = netip.AddrFrom4([4]byte{127, 0, 1, 1})
		}
		short, _, dotted := strings.Cut(hostname, ".")
		if dotted {
			fmt.Fprintf(&b, "%s\t%s %s\n", own, hostname, short)
		} else {
			fmt.Fprintf(&b, "%s\t%s\n", own, hostname)
		}
	}
	for _, h := range req.ExtraHosts {
		name, addr, err := parseExtraHost(h)
		if err != nil {
			continue // validated before
		}
		if !addr.IsValid() {
			addr = gateway
		}
		fmt.Fprintf(&b, "%s\t%s\n", addr, name)
	}
	return b.String()
}

// hostnameFor is the name a sandbox goes by: its own, the host's in host mode, or
// the beginning of its id.
func hostnameFor(req Request, host string) string {
	switch {
	case req.Hostname != "":
		return req.Hostname
	case req.Mode == ModeHost && host != "":
		return host
	}
	name := strings.Trim(req.ID[:min(len(req.ID), 12)], "-")
	if name == "" {
		return "container"
	}
	return name
}

// readText returns a small file's text, "" when it cannot be read.
func readText(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(b[:min(len(b), maxResolvConf)])
}

// writeAtomic replaces a file in one step; durable also makes it survive power loss.
func writeAtomic(path string, data []byte, mode fs.FileMode, durable bool) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && durable {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp)
		return err
	}
	if !durable {
		return nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
