package ecs

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// checkContainers checks each container by itself.
func checkContainers(d *types.TaskDefinition) error {
	seen := map[string]bool{}
	anyEssential := false
	for i := range d.ContainerDefinitions {
		c := &d.ContainerDefinitions[i]
		name := deref(c.Name)
		switch {
		case name == "":
			return errClient("Container.name should not be null or empty.")
		case !nameRE.MatchString(name):
			return errClient("Container name '%s' contains invalid characters.", clip(name))
		case seen[name]:
			return errClient("Container name '%s' is used more than once.", name)
		}
		seen[name] = true
		anyEssential = anyEssential || essential(c)
		if err := checkImage(c); err != nil {
			return err
		}
		for _, check := range []func(*types.TaskDefinition, *types.ContainerDefinition) error{
			checkNetworking, checkEnvironment, checkSecrets, checkMounts, checkHealth, checkTimes, checkLogging, checkLinux, checkSystemControls, checkResources,
		} {
			if err := check(d, c); err != nil {
				return err
			}
		}
	}
	if !anyEssential {
		return errClient("A task definition must have at least one essential container.")
	}
	return nil
}

var (
	imageRE  = regexp.MustCompile(`^[a-zA-Z0-9._:/#-]{1,255}$`)
	digestRE = regexp.MustCompile(`^sha256:[a-fA-F0-9]{64}$`)
)

func checkImage(c *types.ContainerDefinition) error {
	if deref(c.Image) == "" {
		return errClient("Container.image should not be null or empty.")
	}
	name, digest, has := strings.Cut(*c.Image, "@")
	if !imageRE.MatchString(name) || has && !digestRE.MatchString(digest) {
		return errClient("Container.image contains invalid characters.")
	}
	return nil
}

var hostnameRE = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9.-]{0,251}[a-zA-Z0-9])?$`)

func checkNetworking(d *types.TaskDefinition, c *types.ContainerDefinition) error {
	mode := d.NetworkMode
	switch {
	case len(c.Links) > 0 && mode != "" && mode != types.NetworkModeBridge:
		return errClient("Links are not supported when networkMode=%s.", mode)
	case len(c.ExtraHosts) > 0 && mode == types.NetworkModeAwsvpc:
		return errClient("Extra hosts are not supported when networkMode=awsvpc.")
	case deref(c.Hostname) != "" && mode == types.NetworkModeAwsvpc:
		return errClient("Hostname is not supported when networkMode=awsvpc.")
	case deref(c.Hostname) != "" && !hostnameRE.MatchString(*c.Hostname):
		return errClient("Container '%s' has an invalid hostname: %s", *c.Name, clip(*c.Hostname))
	}
	for _, server := range c.DnsServers {
		if _, err := netip.ParseAddr(server); err != nil {
			return errClient("Container '%s' has an invalid DNS server: %s. It must be an IP address.", *c.Name, clip(server))
		}
	}
	for _, domain := range c.DnsSearchDomains {
		if !hostnameRE.MatchString(domain) {
			return errClient("Container '%s' has an invalid DNS search domain: %s", *c.Name, clip(domain))
		}
	}
	for _, h := range c.ExtraHosts {
		if _, err := netip.ParseAddr(deref(h.IpAddress)); err != nil || !hostnameRE.MatchString(deref(h.Hostname)) {
			return errClient("Container '%s' has an invalid extra host: %s %s", *c.Name, clip(deref(h.Hostname)), clip(deref(h.IpAddress)))
		}
	}
	return nil
}

var fileARNRE = regexp.MustCompile(`^arn:[a-z-]+:s3:::[a-z0-9.-]{3,63}/.+\.env$`)

func checkEnvironment(_ *types.TaskDefinition, c *types.ContainerDefinition) error {
	for _, e := range c.Environment {
		if name := deref(e.Name); name == "" || strings.ContainsAny(name+deref(e.Value), "\x00") || strings.Contains(name, "=") {
			return errClient("Container '%s' has an environment variable with an invalid name: '%s'", *c.Name, clip(name))
		}
	}
	if len(c.EnvironmentFiles) > 10 {
		return errClient("Container '%s' can have at most 10 environment files.", *c.Name)
	}
	for _, f := range c.EnvironmentFiles {
		if f.Type != types.EnvironmentFileTypeS3 || !fileARNRE.MatchString(deref(f.Value)) {
			return errClient("Container '%s' has an invalid environment file: %s. It must be the ARN of an S3 object whose name ends in .env.", *c.Name, clip(deref(f.Value)))
		}
	}
	for key := range c.DockerLabels {
		if key == "" {
			return errClient("Container '%s' has a Docker label without a name.", *c.Name)
		}
	}
	return nil
}

func checkSecrets(d *types.TaskDefinition, c *types.ContainerDefinition) error {
	taken := map[string]bool{}
	for _, e := range c.Environment {
		taken[*e.Name] = true
	}
	for _, x := range c.Secrets {
		if deref(x.Name) == "" || deref(x.ValueFrom) == "" {
			return errClient("Container '%s' has a secret without a name or valueFrom.", *c.Name)
		}
		if taken[*x.Name] {
			return errClient("The secret name must be unique and not shared with any new or existing environment variables set on the container, such as '%s'.", clip(*x.Name))
		}
		taken[*x.Name] = true
	}
	hasRole := deref(d.ExecutionRoleArn) != ""
	secretOptions := c.LogConfiguration != nil && len(c.LogConfiguration.SecretOptions) > 0
	switch {
	case (len(c.Secrets) > 0 || secretOptions) && !hasRole:
		return errClient("When you are specifying container secrets, you must also specify a value for 'executionRoleArn'.")
	case len(c.EnvironmentFiles) > 0 && !hasRole:
		return errClient("When you are specifying environment files, you must also specify a value for 'executionRoleArn'.")
	case c.RepositoryCredentials == nil:
	case deref(c.RepositoryCredentials.CredentialsParameter) == "":
		return errClient("Container '%s' has repositoryCredentials without a credentialsParameter.", *c.Name)
	case !hasRole:
		return errClient("When you are specifying repositoryCredentials, you must also specify a value for 'executionRoleArn'.")
	}
	return nil
}

func checkHealth(_ *types.TaskDefinition, c *types.ContainerDefinition) error {
	h := c.HealthCheck
	if h == nil {
		return nil
	}
	if len(h.Command) < 2 || h.Command[0] != "CMD" && h.Command[0] != "CMD-SHELL" {
		return errClient("The health check command of container '%s' must start with CMD or CMD-SHELL, followed by the command.", *c.Name)
	}
	for _, x := range []struct {
		name        string
		value       *int32
		least, most int32
	}{
		{"interval", h.Interval, 5, 300}, {"timeout", h.Timeout, 2, 60},
		{"retries", h.Retries, 1, 10}, {"startPeriod", h.StartPeriod, 0, 300},
	} {
		if x.value != nil && (*x.value < x.least || *x.value > x.most) {
			return errClient("The health check %s of container '%s' must be between %d and %d.", x.name, *c.Name, x.least, x.most)
		}
	}
	return nil
}

const maxTimeout = 7 * 24 * 3600

// checkTimes checks timeouts and the restart policy.
func checkTimes(_ *types.TaskDefinition, c *types.ContainerDefinition) error {
	for _, t := range []*int32{c.StartTimeout, c.StopTimeout} {
		if t != nil && (*t < 0 || *t > maxTimeout) {
			return errClient("Container '%s': startTimeout and stopTimeout must be between 0 and %d seconds.", *c.Name, maxTimeout)
		}
	}
	p := c.RestartPolicy
	if p == nil {
		return nil
	}
	if len(p.IgnoredExitCodes) > 50 {
		return errClient("The restart policy of container '%s' can ignore at most 50 exit codes.", *c.Name)
	}
	if p.RestartAttemptPeriod != nil && (*p.RestartAttemptPeriod < 60 || *p.RestartAttemptPeriod > 1800) {
		return errClient("The restartAttemptPeriod of container '%s' must be between 60 and 1800 seconds.", *c.Name)
	}
	return nil
}

var awslogsOptions = []string{
	"awslogs-create-group", "awslogs-region", "awslogs-group", "awslogs-stream-prefix", "awslogs-datetime-format",
	"awslogs-multiline-pattern", "awslogs-endpoint", "awslogs-format", "mode", "max-buffer-size",
}

func checkLogging(_ *types.TaskDefinition, c *types.ContainerDefinition) error {
	l := c.LogConfiguration
	if l == nil {
		return nil
	}
	if l.LogDriver == "" {
		return errClient("Container '%s': LogConfiguration.logDriver should not be null or empty.", *c.Name)
	}
	if mode := l.Options["mode"]; mode != "" && mode != "blocking" && mode != "non-blocking" {
		return errClient("Log driver option 'mode' must be 'blocking' or 'non-blocking'.")
	}
	for _, x := range l.SecretOptions {
		if deref(x.Name) == "" || deref(x.ValueFrom) == "" {
			return errClient("Container '%s' has a log secret option without a name or valueFrom.", *c.Name)
		}
	}
	if l.LogDriver != types.LogDriverAwslogs {
		return nil
	}
	for _, key := range []string{"awslogs-group", "awslogs-region"} {
		if l.Options[key] == "" {
			return errClient("Log driver awslogs option '%s' should not be null or empty.", key)
		}
	}
	for key := range l.Options {
		if !slices.Contains(awslogsOptions, key) {
			return errClient("Log driver awslogs disallows options: %s", clip(key))
		}
	}
	if v, ok := l.Options["awslogs-create-group"]; ok && v != "true" && v != "false" {
		return errClient("Log driver awslogs option 'awslogs-create-group' must be 'true' or 'false'.")
	}
	return nil
}

func checkResources(_ *types.TaskDefinition, c *types.ContainerDefinition) error {
	seen := map[types.ResourceType]bool{}
	for _, r := range c.ResourceRequirements {
		if r.SharingStrategy != nil {
			return errUnsupported("Container '%s': sharingStrategy is not supported.", *c.Name)
		}
		switch r.Type {
		case types.ResourceTypeGpu:
			if n, err := strconv.ParseInt(deref(r.Value), 10, 32); err != nil || n < 1 || n > 1024 {
				return errClient("Container '%s': the number of GPUs must be between 1 and 1024.", *c.Name)
			}
		default:
			return errUnsupported("Container '%s': resource type %s is not supported.", *c.Name, clip(string(r.Type)))
		}
		if seen[r.Type] {
			return errClient("Container '%s' has resource requirements of type %s more than once.", *c.Name, r.Type)
		}
		seen[r.Type] = true
	}
	return nil
}
