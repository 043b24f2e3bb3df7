package ecs

import (
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

var linuxCapabilities = []string{
	"ALL", "AUDIT_CONTROL", "AUDIT_WRITE", "BLOCK_SUSPEND", "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID",
	"IPC_LOCK", "IPC_OWNER", "KILL", "LEASE", "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN",
	"NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_ADMIN", "SYS_BOOT",
	"SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME",
	"SYS_TTY_CONFIG", "SYSLOG", "WAKE_ALARM",
}

var tmpfsOptions = []string{
	"defaults", "ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "sync", "async", "dirsync", "remount",
	"mand", "nomand", "atime", "noatime", "diratime", "nodiratime", "bind", "rbind", "unbindable", "runbindable",
	"private", "rprivate", "shared", "rshared", "slave", "rslave", "relatime", "norelatime", "strictatime",
	"nostrictatime", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol",
}

// checkLinux checks what is handed to the kernel.
func checkLinux(_ *types.TaskDefinition, c *types.ContainerDefinition) error {
	limits := map[types.UlimitName]bool{}
	for _, u := range c.Ulimits {
		switch {
		case limits[u.Name]:
			return errClient("Container '%s' has the ulimit %s more than once.", *c.Name, u.Name)
		case u.SoftLimit < -1 || u.HardLimit < -1:
			return errClient("The ulimit %s of container '%s' must be -1 (no limit), 0 or greater.", u.Name, *c.Name)
		case u.HardLimit != -1 && (u.SoftLimit == -1 || u.SoftLimit > u.HardLimit):
			return errClient("The soft limit of the ulimit %s of container '%s' is greater than its hard limit.", u.Name, *c.Name)
		}
		limits[u.Name] = true
	}
	for _, o := range c.DockerSecurityOptions {
		if !securityOptionKnown(o) {
			return errClient("Container '%s' has an invalid Docker security option: %s", *c.Name, clip(o))
		}
	}
	if len(c.CredentialSpecs) > 1 {
		return errClient("Container '%s' can have at most one credential spec.", *c.Name)
	}
	for _, spec := range c.CredentialSpecs {
		if !strings.HasPrefix(spec, "credentialspec:") && !strings.HasPrefix(spec, "credentialspecdomainless:") {
			return errClient("Container '%s' has an invalid credential spec: %s", *c.Name, clip(spec))
		}
	}
	if c.LinuxParameters == nil {
		return nil
	}
	return checkLinuxParameters(*c.Name, c.LinuxParameters)
}

func securityOptionKnown(o string) bool {
	if slices.Contains([]string{"no-new-privileges", "no-new-privileges:true", "seccomp:unconfined", "seccomp=unconfined"}, o) {
		return true
	}
	kind, value, _ := strings.Cut(o, ":")
	return value != "" && slices.Contains([]string{"label", "apparmor", "credentialspec"}, kind)
}

func checkLinuxParameters(name string, p *types.LinuxParameters) error {
	if p.Capabilities != nil {
		for _, capability := range slices.Concat(p.Capabilities.Add, p.Capabilities.Drop) {
			if !slices.Contains(linuxCapabilities, capability) {
				return errClient("Container '%s' has an invalid Linux capability: %s", name, clip(capability))
			}
		}
	}
	for _, v := range p.Devices {
		if !strings.HasPrefix(deref(v.HostPath), "/") || v.ContainerPath != nil && !strings.HasPrefix(*v.ContainerPath, "/") {
			return errClient("Container '%s' has a device without absolute paths.", name)
		}
	}
	for _, t := range p.Tmpfs {
		if !strings.HasPrefix(deref(t.ContainerPath), "/") || t.Size < 1 {
			return errClient("Container '%s' has a tmpfs without an absolute containerPath or with a size below 1 MiB.", name)
		}
		for _, o := range t.MountOptions {
			if key, _, _ := strings.Cut(o, "="); !slices.Contains(tmpfsOptions, key) {
				return errClient("Container '%s' has an invalid tmpfs mount option: %s", name, clip(o))
			}
		}
	}
	switch {
	case p.SharedMemorySize != nil && *p.SharedMemorySize < 0:
		return errClient("Container '%s': sharedMemorySize must not be negative.", name)
	case p.MaxSwap != nil && *p.MaxSwap < 0:
		return errClient("Container '%s': maxSwap must be 0 or greater.", name)
	case p.Swappiness != nil && (*p.Swappiness < 0 || *p.Swappiness > 100):
		return errClient("Container '%s': swappiness must be between 0 and 100.", name)
	}
	return nil
}

var ipcControls = []string{
	"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
}

// checkSystemControls: only namespaced kernel parameters, and only of namespaces
// that the task does not share with its host.
func checkSystemControls(d *types.TaskDefinition, c *types.ContainerDefinition) error {
	seen := map[string]bool{}
	for _, x := range c.SystemControls {
		name := deref(x.Namespace)
		isIPC := slices.Contains(ipcControls, name) || strings.HasPrefix(name, "fs.mqueue.")
		isNet := strings.HasPrefix(name, "net.")
		switch {
		case !isIPC && !isNet || strings.ContainsAny(name, "/\x00") || strings.Contains(name, ".."):
			return errClient("Container '%s' has an invalid system control: '%s'. Only the IPC and net. namespaces are allowed.", *c.Name, clip(name))
		case deref(x.Value) == "":
			return errClient("The system control '%s' of container '%s' has no value.", name, *c.Name)
		case seen[name]:
			return errClient("Container '%s' has the system control '%s' more than once.", *c.Name, name)
		case isNet && d.NetworkMode == types.NetworkModeHost:
			return errClient("System control '%s' is not supported when networkMode=host.", name)
		case isIPC && d.IpcMode == types.IpcModeHost:
			return errClient("System control '%s' is not supported when ipcMode=host.", name)
		}
		seen[name] = true
	}
	return nil
}
