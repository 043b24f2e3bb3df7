package ecs

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// maxPortRanges is the number of port ranges that a container can have.
const maxPortRanges = 100

var portNameRE = regexp.MustCompile(`^[a-z0-9_][a-z0-9_-]{0,63}$`)

// checkPorts checks all containers' port mappings by the rules of the network mode.
func checkPorts(d *types.TaskDefinition) error {
	names, taken := map[string]bool{}, map[string]bool{}
	for i := range d.ContainerDefinitions {
		c := &d.ContainerDefinitions[i]
		if len(c.PortMappings) > 0 && d.NetworkMode == types.NetworkModeNone {
			return errClient("Port mappings are not supported when networkMode=none.")
		}
		ranges := 0
		for _, p := range c.PortMappings {
			if name := deref(p.Name); name != "" {
				if !portNameRE.MatchString(name) {
					return errClient("Invalid name of a port mapping: %s. Up to 64 lowercase letters, numbers, hyphens and underscores are allowed; the first is not a hyphen.", clip(name))
				}
				if names[name] {
					return errClient("The port mapping name '%s' is used more than once.", name)
				}
				names[name] = true
			} else if p.AppProtocol != "" {
				return errClient("A port mapping with an appProtocol needs a name.")
			}
			if deref(p.ContainerPortRange) != "" {
				if ranges++; ranges > maxPortRanges {
					return errClient("Container '%s' can have at most %d port ranges.", deref(c.Name), maxPortRanges)
				}
			}
			if err := checkPort(d.NetworkMode, p); err != nil {
				return err
			}
			if key := hostPortKey(d.NetworkMode, p); key != "" {
				if taken[key] {
					return errClient("The host port %s is mapped more than once.", key)
				}
				taken[key] = true
			}
		}
	}
	return nil
}

func checkPort(mode types.NetworkMode, p types.PortMapping) error {
	if text := deref(p.ContainerPortRange); text != "" {
		return checkPortRange(mode, p, text)
	}
	port, host := deref(p.ContainerPort), deref(p.HostPort)
	if port < 1 || port > 65535 {
		return errClient("Invalid 'containerPort' setting: %d. It must be between 1 and 65535.", port)
	}
	if host < 0 || host > 65535 {
		return errClient("Invalid 'hostPort' setting: %d. It must be between 0 and 65535.", host)
	}
	if (mode == types.NetworkModeAwsvpc || mode == types.NetworkModeHost) && p.HostPort != nil && host != port {
		return errClient("When networkMode=%s, the host ports and container ports in port mappings must match.", mode)
	}
	return nil
}

func checkPortRange(mode types.NetworkMode, p types.PortMapping, text string) error {
	switch {
	case p.ContainerPort != nil || p.HostPort != nil:
		return errClient("A port mapping with a containerPortRange can't have a containerPort or hostPort.")
	case mode == types.NetworkModeHost:
		return errClient("containerPortRange is only supported when networkMode is bridge or awsvpc.")
	}
	from, to, ok := strings.Cut(text, "-")
	first, err1 := strconv.ParseUint(from, 10, 16)
	last, err2 := strconv.ParseUint(to, 10, 16)
	if !ok || err1 != nil || err2 != nil || first == 0 || first >= last {
		return errClient("Invalid 'containerPortRange' setting: %s. It is FIRST-LAST, between 1 and 65535.", clip(text))
	}
	return nil
}

// hostPortKey names the port that a mapping takes for itself, if it does.
func hostPortKey(mode types.NetworkMode, p types.PortMapping) string {
	port := deref(p.HostPort)
	if mode == types.NetworkModeAwsvpc || mode == types.NetworkModeHost {
		port = deref(p.ContainerPort)
	}
	if port == 0 {
		return ""
	}
	protocol := p.Protocol
	if protocol == "" {
		protocol = types.TransportProtocolTcp
	}
	return decimal(int64(port)) + "/" + string(protocol)
}
