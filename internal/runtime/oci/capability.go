package oci

import (
	"fmt"
	"slices"
	"strings"
)

// capabilityNames lists Linux's capabilities by number.
var capabilityNames = strings.Fields(`CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER
	CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID CAP_SETPCAP CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE
	CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW CAP_IPC_LOCK CAP_IPC_OWNER CAP_SYS_MODULE
	CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT CAP_SYS_ADMIN CAP_SYS_BOOT
	CAP_SYS_NICE CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE
	CAP_AUDIT_WRITE CAP_AUDIT_CONTROL CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG
	CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_AUDIT_READ CAP_PERFMON CAP_BPF CAP_CHECKPOINT_RESTORE`)

// defaultCapabilities are Docker's.
var defaultCapabilities = strings.Fields(`CAP_CHOWN CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER
	CAP_MKNOD CAP_NET_RAW CAP_SETGID CAP_SETUID CAP_SETFCAP CAP_SETPCAP CAP_NET_BIND_SERVICE
	CAP_SYS_CHROOT CAP_KILL CAP_AUDIT_WRITE`)

// SysResource is the bit of CAP_SYS_RESOURCE in a capability mask.
const SysResource = uint64(1) << 24

// capabilities is Docker's rule: the default set (or all), with what is added and
// without what is dropped; drop ALL leaves only what is added. available masks
// what this machine can give; the rest is returned as missing.
func capabilities(add, drop []string, privileged bool, available uint64) (have, missing []string, err error) {
	addAll, addSet, err := parseCapabilities(add)
	if err != nil {
		return nil, nil, err
	}
	dropAll, dropSet, err := parseCapabilities(drop)
	if err != nil {
		return nil, nil, err
	}
	for bit, name := range capabilityNames {
		added := slices.Contains(addSet, name)
		wanted := added || addAll && !slices.Contains(dropSet, name) ||
			!dropAll && !slices.Contains(dropSet, name) && slices.Contains(defaultCapabilities, name)
		switch {
		case !wanted && !privileged:
		case available&(1<<bit) != 0:
			have = append(have, name)
		case added:
			missing = append(missing, name)
		}
	}
	return have, missing, nil
}

func parseCapabilities(names []string) (all bool, set []string, err error) {
	for _, name := range names {
		name = strings.ToUpper(name)
		if name == "ALL" {
			all = true
			continue
		}
		if !strings.HasPrefix(name, "CAP_") {
			name = "CAP_" + name
		}
		if !slices.Contains(capabilityNames, name) {
			return false, nil, fmt.Errorf("unknown capability %q", name)
		}
		set = append(set, name)
	}
	return all, set, nil
}
