package agent

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/image"
	"longshore.dev/longshore/internal/network"
	"longshore.dev/longshore/internal/runtime"
)

const mib = 1 << 20

// minShares is the least CPU weight that the kernel knows; ECS maps 0 and 1 to it.
const minShares = 2

// specInput is all that a container's runtime spec is made from.
type specInput struct {
	record  *record
	index   int
	image   image.Image
	rootfs  image.Mount
	sandbox network.Sandbox
	mounts  []runtime.Mount // of the task's volumes
	env     map[string]string
	output  runtime.Output
}

// buildSpec renders a container for the runtime: what the image says, overridden
// by what the task says. It does nothing else.
func buildSpec(in specInput) (runtime.Spec, error) {
	r, c := in.record, &in.record.Task.Containers[in.index]
	config, host, err := c.DockerConfig.Parse()
	if err != nil {
		return runtime.Spec{}, err
	}
	args := commandLine(c, in.image.Config)
	if len(args) == 0 {
		return runtime.Spec{}, fmt.Errorf("no command specified: neither the task definition nor the image %s names one", c.Image)
	}
	spec := runtime.Spec{
		ID: r.runtimeID(in.index), Group: r.ID,
		GroupResources: groupResources(&r.Task),
		RootFS: runtime.RootFS{
			Type: in.rootfs.Type, Source: in.rootfs.Source, Options: in.rootfs.Options, ReadOnly: host.ReadonlyRootfs,
		},
		Args: args, Env: environment(in.image.Config.Env, in.env, c.Environment),
		Cwd:      firstOf(config.WorkingDir, in.image.Config.WorkingDir),
		User:     firstOf(config.User, in.image.Config.User),
		Hostname: config.Hostname,
		Terminal: config.Tty, OpenStdin: config.OpenStdin,
		NetNS:     in.sandbox.NetNS,
		Resources: containerResources(c, &host),
		CapAdd:    host.CapAdd, CapDrop: host.CapDrop,
		Sysctls: host.Sysctls, ShmBytes: host.ShmSize,
		Privileged: host.Privileged,
		Init:       host.Init != nil && *host.Init,
		Output:     in.output,
	}
	if r.mode(in.index) != network.ModeHost {
		spec.Hostname = hostname(r, in.index, config.Hostname)
	}
	spec.Mounts = append(networkMounts(in.sandbox), in.mounts...)
	spec.Mounts = append(spec.Mounts, tmpfsMounts(host.Tmpfs)...)
	for _, u := range host.Ulimits {
		spec.Rlimits = append(spec.Rlimits, runtime.Rlimit{Name: u.Name, Soft: uint64(u.Soft), Hard: uint64(u.Hard)})
	}
	for _, d := range host.Devices {
		spec.Devices = append(spec.Devices, runtime.Device{
			HostPath: d.PathOnHost, ContainerPath: firstOf(d.PathInContainer, d.PathOnHost), Permissions: firstOf(d.CgroupPermissions, "rwm"),
		})
	}
	if err := securityOptions(&spec, host.SecurityOpt); err != nil {
		return runtime.Spec{}, err
	}
	return spec, namespaceModes(&spec, r)
}

// commandLine follows Docker: an entry point in the task drops the image's
// command; a command in the task replaces only the image's command.
func commandLine(c *acs.Container, img image.Config) []string {
	entry, command := img.Entrypoint, img.Cmd
	if c.EntryPoint != nil {
		entry, command = *c.EntryPoint, nil
	}
	if len(c.Command) > 0 {
		command = c.Command
	}
	return slices.Concat(entry, command)
}

// environment joins the image's variables with the agent's and the task's; later
// ones win, and the order is stable.
func environment(img []string, layers ...map[string]string) []string {
	out := make([]string, 0, len(img))
	position := map[string]int{}
	set := func(name, pair string) {
		if i, ok := position[name]; ok {
			out[i] = pair
			return
		}
		position[name] = len(out)
		out = append(out, pair)
	}
	for _, pair := range img {
		name, _, _ := strings.Cut(pair, "=")
		set(name, pair)
	}
	for _, layer := range layers {
		for _, name := range sortedKeys(layer) {
			set(name, name+"="+layer[name])
		}
	}
	return out
}

func containerResources(c *acs.Container, host *acs.HostConfig) runtime.Resources {
	r := runtime.Resources{
		CPUShares:        uint64(max(c.CPU, minShares)),
		MemoryBytes:      c.Memory * mib,
		ReservationBytes: host.MemoryReservation,
		SwapBytes:        host.MemorySwap,
	}
	if n := host.MemorySwappiness; n != nil && *n >= 0 {
		swappiness := uint64(*n)
		r.Swappiness = &swappiness
	}
	return r
}

// groupResources are the task's own limits.
func groupResources(t *acs.Task) runtime.Resources {
	return runtime.Resources{
		CPUShares:      uint64(t.CPU * 1024),
		CPUQuotaMicros: int64(t.CPU * 100_000),
		MemoryBytes:    t.Memory * mib,
	}
}

func networkMounts(s network.Sandbox) []runtime.Mount {
	var mounts []runtime.Mount
	for _, f := range []struct{ source, destination string }{
		{s.ResolvConf, "/etc/resolv.conf"}, {s.Hosts, "/etc/hosts"}, {s.HostnameFile, "/etc/hostname"},
	} {
		if f.source != "" {
			mounts = append(mounts, runtime.Mount{Destination: f.destination, Type: "bind", Source: f.source, Options: []string{"rbind", "rprivate"}})
		}
	}
	return mounts
}

func tmpfsMounts(tmpfs map[string]string) []runtime.Mount {
	var mounts []runtime.Mount
	for _, path := range sortedKeys(tmpfs) {
		options := []string{"nosuid", "nodev", "noexec"}
		if o := tmpfs[path]; o != "" {
			options = append(options, strings.Split(o, ",")...)
		}
		mounts = append(mounts, runtime.Mount{Destination: path, Type: "tmpfs", Source: "tmpfs", Options: options})
	}
	return mounts
}

func securityOptions(spec *runtime.Spec, options []string) error {
	for _, o := range options {
		switch o {
		case "no-new-privileges", "no-new-privileges:true", "no-new-privileges=true":
			spec.NoNewPrivileges = true
		case "seccomp=unconfined", "seccomp:unconfined":
			spec.SeccompUnconfined = true
		default:
			return fmt.Errorf("docker security option %q is not supported on this node", o)
		}
	}
	return nil
}

// namespaceModes shares process and IPC namespaces: the task's containers join
// those of its holder.
func namespaceModes(spec *runtime.Spec, r *record) error {
	mode := func(name, value string) (string, error) {
		switch value {
		case "", "none":
			return "", nil
		case "host":
			return "host", nil
		case "task":
			if !r.sharesNamespaces() {
				return "", nil
			}
			return "container:" + r.holderID(), nil
		default:
			return "", fmt.Errorf("%s %q is not known", name, value)
		}
	}
	var err error
	if spec.PIDMode, err = mode("pidMode", r.Task.PIDMode); err != nil {
		return err
	}
	spec.IPCMode, err = mode("ipcMode", r.Task.IPCMode)
	return err
}

// sandboxRequest renders a container's (or the task's) network.
func sandboxRequest(r *record, index int) (network.Request, error) {
	c := &r.Task.Containers[index]
	config, host, err := c.DockerConfig.Parse()
	if err != nil {
		return network.Request{}, err
	}
	request := network.Request{
		ID: r.sandboxID(index), Mode: r.mode(index),
		Hostname:   hostname(r, index, config.Hostname),
		DNSServers: host.DNS, DNSSearch: host.DNSSearch, ExtraHosts: host.ExtraHosts,
	}
	switch request.Mode {
	case network.ModeBridge:
		for _, p := range c.PortMappings {
			mapped, err := expandPorts(p)
			if err != nil {
				return network.Request{}, err
			}
			request.Ports = append(request.Ports, mapped...)
		}
	case network.ModeAWSVPC:
		if request.ENI, err = taskENI(&r.Task); err != nil {
			return network.Request{}, err
		}
	}
	return request, nil
}

// hostname is what the task definition says, the interface's name in awsvpc mode,
// and the beginning of the container's id otherwise.
func hostname(r *record, index int, configured string) string {
	name := ""
	if r.mode(index) == network.ModeAWSVPC && len(r.Task.ENIs) > 0 {
		name = r.Task.ENIs[0].PrivateDNSName
	}
	id := r.runtimeID(index)
	return firstOf(configured, name, id[:min(12, len(id))])
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// splitLink takes a link ("name" or "name:alias") apart.
func splitLink(link string) (name, alias string) {
	name, alias, ok := strings.Cut(link, ":")
	if !ok {
		alias = name
	}
	return name, alias
}
