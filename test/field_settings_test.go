package test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

type definition = *types.ContainerDefinition

// setting is a field, or some that belong together, and what a container with it sees.
type setting struct {
	name    string
	fields  []string // as fieldsOf names them
	change  func(*ecs.RegisterTaskDefinitionInput, definition)
	command []string
	code    int32
	want    []string // regular expressions, of the output
}

// cgroup is a file of the container's own cgroup, by its name in v1 and v2.
func cgroup(controller, v1, v2 string) []string {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return []string{"cat", "/sys/fs/cgroup/" + v2}
	}
	return []string{"cat", "/sys/fs/cgroup/" + controller + "/" + v1}
}

// beside adds a container that is not essential, and that the app waits for.
func beside(in *ecs.RegisterTaskDefinitionInput, condition types.ContainerCondition, command ...string) *types.ContainerDefinition {
	in.ContainerDefinitions = append(in.ContainerDefinitions, container("beside", "other", command...))
	in.ContainerDefinitions[1].Essential = aws.Bool(false)
	if condition != "" {
		in.ContainerDefinitions[0].DependsOn = []types.ContainerDependency{{ContainerName: aws.String("other"), Condition: condition}}
	}
	return &in.ContainerDefinitions[1]
}

// settings are the fields that a single run of a container can show.
func settings(t *testing.T) []setting {
	t.Helper()
	return slices.Concat(programSettings(), kernelSettings(), sharedSettings(t))
}

// programSettings are the settings of the program and what it finds.
func programSettings() []setting {
	return []setting{
		{"user", []string{"ContainerDefinitions.User"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) { c.User = aws.String("1000:1001") }, []string{"id"}, 0, []string{`uid=1000 gid=1001`}},
		{"working directory", []string{"ContainerDefinitions.WorkingDirectory"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) { c.WorkingDirectory = aws.String("/a/b") }, []string{"cat", "../../proc/self/stat"}, 0, []string{`sample`}},
		{"environment", []string{"ContainerDefinitions.Environment.Name", "ContainerDefinitions.Environment.Value"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) {
			c.Environment = []types.KeyValuePair{{Name: aws.String("A"), Value: aws.String("b=c")}}
		}, []string{"env"}, 0, []string{`(?m)^A=b=c$`, `AWS_REGION=us-east-1`, `ECS_CONTAINER_METADATA_URI_V4=http://169.254.170.2/v4/`, `AWS_EXECUTION_ENV=AWS_ECS_EC2`}},
		{"extra hosts", []string{"ContainerDefinitions.ExtraHosts.Hostname", "ContainerDefinitions.ExtraHosts.IpAddress"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) {
			c.ExtraHosts = []types.HostEntry{{Hostname: aws.String("db.example"), IpAddress: aws.String("10.1.2.3")}}
		}, []string{"cat", "/etc/hosts"}, 0, []string{`10\.1\.2\.3\s+db\.example`}},
		{"DNS", []string{"ContainerDefinitions.DnsServers", "ContainerDefinitions.DnsSearchDomains"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) {
			c.DnsServers, c.DnsSearchDomains = []string{"10.9.8.7"}, []string{"corp.example"}
		}, []string{"cat", "/etc/resolv.conf"}, 0, []string{`nameserver 10\.9\.8\.7`, `search corp\.example`}},
		{"networking disabled", []string{"ContainerDefinitions.DisableNetworking"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) { c.DisableNetworking = aws.Bool(true) }, []string{"cat", "/proc/net/dev"}, 0, []string{`lo:`}},
		{"hostname", []string{"ContainerDefinitions.Hostname"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) { c.Hostname = aws.String("harbour") }, []string{"cat", "/proc/sys/kernel/hostname"}, 0, []string{`^harbour`}},
		{"command", []string{"Family", "ContainerDefinitions.Name", "ContainerDefinitions.Image", "ContainerDefinitions.Command", "ContainerDefinitions.LogConfiguration.LogDriver", "ContainerDefinitions.LogConfiguration.Options"},
			nil, []string{"echo", "one", "two"}, 0, []string{`^one two$`}},
		{"entry point", []string{"ContainerDefinitions.EntryPoint"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) {
			c.EntryPoint = []string{"/sample", "echo", "from the entry point"}
		}, []string{"and the command"}, 0, []string{`^from the entry point and the command$`}},
		{"terminal", []string{"ContainerDefinitions.PseudoTerminal"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) { c.PseudoTerminal = aws.Bool(true) },
			[]string{"cat", "/proc/self/stat"}, 0, []string{`^\d+ \(sample\) \S \d+ \d+ \d+ [1-9]\d* `}},
		{"no terminal", nil, nil, []string{"cat", "/proc/self/stat"}, 0, []string{`^\d+ \(sample\) \S \d+ \d+ \d+ 0 `}},
	}
}

// kernelSettings are the settings of what the kernel gives and withholds.
func kernelSettings() []setting {
	return []setting{
		{"read-only root", []string{"ContainerDefinitions.ReadonlyRootFilesystem"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) { c.ReadonlyRootFilesystem = aws.Bool(true) }, []string{"write", "/file", "1"}, 1, []string{`read-only file system`}},
		{"ulimit", []string{"ContainerDefinitions.Ulimits.Name", "ContainerDefinitions.Ulimits.SoftLimit", "ContainerDefinitions.Ulimits.HardLimit"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) {
			c.Ulimits = []types.Ulimit{{Name: types.UlimitNameMsgqueue, SoftLimit: 123, HardLimit: 456}}
		}, []string{"cat", "/proc/self/limits"}, 0, []string{`Max msgqueue size +123 +456`}},
		{"tmpfs and shm", []string{"ContainerDefinitions.LinuxParameters.Tmpfs.ContainerPath", "ContainerDefinitions.LinuxParameters.Tmpfs.Size", "ContainerDefinitions.LinuxParameters.Tmpfs.MountOptions", "ContainerDefinitions.LinuxParameters.SharedMemorySize"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) {
			c.LinuxParameters = &types.LinuxParameters{
				Tmpfs:            []types.Tmpfs{{ContainerPath: aws.String("/scratch"), Size: 3, MountOptions: []string{"noexec"}}},
				SharedMemorySize: aws.Int32(5),
			}
		}, []string{"cat", "/proc/mounts"}, 0, []string{`/scratch tmpfs .*size=3072k`, `/dev/shm tmpfs .*size=5120k`}},
		{"capabilities", []string{"ContainerDefinitions.LinuxParameters.Capabilities.Add", "ContainerDefinitions.LinuxParameters.Capabilities.Drop"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) {
			c.LinuxParameters = &types.LinuxParameters{Capabilities: &types.KernelCapabilities{Add: []string{"NET_ADMIN"}, Drop: []string{"CHOWN"}}}
		}, []string{"id"}, 0, []string{`CapEff=00000000a80435fa`}},
		{"init", []string{"ContainerDefinitions.LinuxParameters.InitProcessEnabled"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) {
			c.LinuxParameters = &types.LinuxParameters{InitProcessEnabled: aws.Bool(true)}
		}, []string{"cat", "/proc/1/cmdline"}, 0, []string{`init`}},
		{"privileges", []string{"ContainerDefinitions.DockerSecurityOptions"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) {
			c.DockerSecurityOptions = []string{"no-new-privileges"}
		}, []string{"id"}, 0, []string{`NoNewPrivs=1`, `Seccomp=2`}},
		{"cpu shares", []string{"ContainerDefinitions.Cpu"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) { c.Cpu = 512 },
			cgroup("cpu", "cpu.shares", "cpu.weight"), 0, []string{`^(512|20)$`}},
		{"memory", []string{"ContainerDefinitions.Memory"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) { c.Memory = aws.Int32(70) },
			cgroup("memory", "memory.limit_in_bytes", "memory.max"), 0, []string{`^73400320$`}},
		{"memory reservation", []string{"ContainerDefinitions.MemoryReservation"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) { c.MemoryReservation = aws.Int32(33) },
			cgroup("memory", "memory.soft_limit_in_bytes", "memory.low"), 0, []string{`^34603008$`}},
		{"swappiness", []string{"ContainerDefinitions.LinuxParameters.Swappiness", "ContainerDefinitions.LinuxParameters.MaxSwap"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) {
			c.LinuxParameters = &types.LinuxParameters{MaxSwap: aws.Int32(10), Swappiness: aws.Int32(17)}
		}, cgroup("memory", "memory.swappiness", "memory.swap.max"), 0, []string{`^(17|10485760)$`}},
		{"device", []string{"ContainerDefinitions.LinuxParameters.Devices.HostPath", "ContainerDefinitions.LinuxParameters.Devices.ContainerPath"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) {
			c.LinuxParameters = &types.LinuxParameters{Devices: []types.Device{{HostPath: aws.String("/dev/full"), ContainerPath: aws.String("/dev/mine")}}}
		}, []string{"write", "/dev/mine", "1"}, 1, []string{`no space left on device`}},
		{"device that may be read only", []string{"ContainerDefinitions.LinuxParameters.Devices.Permissions"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) {
			c.LinuxParameters = &types.LinuxParameters{Devices: []types.Device{{
				HostPath: aws.String("/dev/kmsg"), ContainerPath: aws.String("/dev/mine"), Permissions: []types.DeviceCgroupPermission{types.DeviceCgroupPermissionRead},
			}}}
		}, []string{"write", "/dev/mine", "1"}, 1, []string{`operation not permitted`}},
		{"system control", []string{"ContainerDefinitions.SystemControls.Namespace", "ContainerDefinitions.SystemControls.Value"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) {
			c.SystemControls = []types.SystemControl{{Namespace: aws.String("net.core.somaxconn"), Value: aws.String("77")}}
		}, []string{"cat", "/proc/sys/net/core/somaxconn"}, 0, []string{`^77$`}},
		{"privileged", []string{"ContainerDefinitions.Privileged"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) { c.Privileged = aws.Bool(true) },
			[]string{"id"}, 0, []string{`Seccomp=0`}},
		{"not privileged", nil, nil, []string{"id"}, 0, []string{`Seccomp=2`, `CapEff=00000000a80425fb`}},
	}
}

// sharedSettings are the settings of what containers share.
func sharedSettings(t *testing.T) []setting {
	t.Helper()
	host := t.TempDir()
	if err := os.WriteFile(filepath.Join(host, "file"), []byte("from the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	hostVolume := []types.Volume{{Name: aws.String("v"), Host: &types.HostVolumeProperties{SourcePath: &host}}}
	mounted := []types.MountPoint{{SourceVolume: aws.String("v"), ContainerPath: aws.String("/v")}}
	return []setting{
		{"host path", []string{"Volumes.Name", "Volumes.Host.SourcePath", "ContainerDefinitions.MountPoints.SourceVolume", "ContainerDefinitions.MountPoints.ContainerPath"}, func(in *ecs.RegisterTaskDefinitionInput, c definition) {
			in.Volumes = []types.Volume{{Name: aws.String("v"), Host: &types.HostVolumeProperties{SourcePath: &host}}}
			c.MountPoints = []types.MountPoint{{SourceVolume: aws.String("v"), ContainerPath: aws.String("/v")}}
		}, []string{"cat", "/v/file"}, 0, []string{`from the host`}},
		{"host path of a file", nil, func(in *ecs.RegisterTaskDefinitionInput, c definition) {
			in.Volumes = []types.Volume{{Name: aws.String("v"), Host: &types.HostVolumeProperties{SourcePath: aws.String(filepath.Join(host, "file"))}}}
			c.MountPoints = []types.MountPoint{{SourceVolume: aws.String("v"), ContainerPath: aws.String("/v")}}
		}, []string{"cat", "/v"}, 0, []string{`from the host`}},
		{"read-only mount", []string{"ContainerDefinitions.MountPoints.ReadOnly"}, func(in *ecs.RegisterTaskDefinitionInput, c definition) {
			in.Volumes = []types.Volume{{Name: aws.String("v"), Host: &types.HostVolumeProperties{SourcePath: &host}}}
			c.MountPoints = []types.MountPoint{{SourceVolume: aws.String("v"), ContainerPath: aws.String("/v"), ReadOnly: aws.Bool(true)}}
		}, []string{"write", "/v/new", "1"}, 1, []string{`read-only file system`}},
		{"task process namespace", []string{"PidMode", "ContainerDefinitions.DependsOn.ContainerName", "ContainerDefinitions.DependsOn.Condition"}, func(in *ecs.RegisterTaskDefinitionInput, c definition) {
			in.PidMode = types.PidModeTask
			in.ContainerDefinitions = append(in.ContainerDefinitions, container("s", "other", "exit", "0"))
			in.ContainerDefinitions[1].Essential = aws.Bool(false)
			in.ContainerDefinitions[0].DependsOn = []types.ContainerDependency{{ContainerName: aws.String("other"), Condition: types.ContainerConditionSuccess}}
		}, []string{"cat", "/proc/1/cmdline"}, 0, []string{`sample.sleep.1000000000`}},
		{"host process namespace", nil, func(in *ecs.RegisterTaskDefinitionInput, _ definition) { in.PidMode = types.PidModeHost }, []string{"cat", "/proc/self/status"}, 0, []string{`Pid:\s+\d{2,}`}},
		{"a container before another", nil, func(in *ecs.RegisterTaskDefinitionInput, _ definition) {
			beside(in, types.ContainerConditionStart, "sleep", "600")
		}, []string{"echo", "started"}, 0, []string{`started`}},
		{"a container that ends before another", []string{"ContainerDefinitions.Essential"}, func(in *ecs.RegisterTaskDefinitionInput, _ definition) {
			beside(in, types.ContainerConditionComplete, "exit", "3") // it may fail, and is not essential
		}, []string{"echo", "after it"}, 0, []string{`after it`}},
		{"a container that is healthy before another", []string{"ContainerDefinitions.HealthCheck.Command", "ContainerDefinitions.HealthCheck.Interval", "ContainerDefinitions.HealthCheck.Timeout", "ContainerDefinitions.HealthCheck.Retries"}, func(in *ecs.RegisterTaskDefinitionInput, _ definition) {
			beside(in, types.ContainerConditionHealthy, "sleep", "600").HealthCheck = &types.HealthCheck{
				Command: []string{"CMD", "/sample", "exit", "0"}, Interval: aws.Int32(5), Timeout: aws.Int32(2), Retries: aws.Int32(1),
			}
		}, []string{"echo", "healthy"}, 0, []string{`healthy`}},
		{"links", []string{"ContainerDefinitions.Links"}, func(in *ecs.RegisterTaskDefinitionInput, c definition) {
			beside(in, types.ContainerConditionStart, "sleep", "600")
			in.ContainerDefinitions[0].Links = []string{"other:database"}
		}, []string{"cat", "/etc/hosts"}, 0, []string{`\d\s+database`, `\d\s+other`}},
		{"volumes from another container", []string{"ContainerDefinitions.VolumesFrom.SourceContainer"}, func(in *ecs.RegisterTaskDefinitionInput, _ definition) {
			in.Volumes = hostVolume
			beside(in, "", "sleep", "600").MountPoints = mounted
			in.ContainerDefinitions[0].VolumesFrom = []types.VolumeFrom{{SourceContainer: aws.String("other")}}
		}, []string{"cat", "/v/file"}, 0, []string{`from the host`}},
		{"read-only volumes from another container", []string{"ContainerDefinitions.VolumesFrom.ReadOnly"}, func(in *ecs.RegisterTaskDefinitionInput, _ definition) {
			in.Volumes = hostVolume
			beside(in, "", "sleep", "600").MountPoints = mounted
			in.ContainerDefinitions[0].VolumesFrom = []types.VolumeFrom{{SourceContainer: aws.String("other"), ReadOnly: aws.Bool(true)}}
		}, []string{"write", "/v/new", "1"}, 1, []string{`read-only file system`}},
	}
}
