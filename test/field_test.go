package test

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// fieldsOf names the leaves of a structure of the SDK's.
func fieldsOf(t reflect.Type) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return []string{""}
	}
	var all []string
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() || f.Name == "ResultMetadata" {
			continue
		}
		for _, below := range fieldsOf(f.Type) {
			all = append(all, strings.TrimSuffix(f.Name+"."+below, "."))
		}
	}
	return all
}

// everyField is what a task definition and RunTask's overrides can say.
func everyField() []string {
	all := fieldsOf(reflect.TypeFor[ecs.RegisterTaskDefinitionInput]())
	for _, f := range fieldsOf(reflect.TypeFor[types.TaskOverride]()) {
		all = append(all, "Overrides."+f)
	}
	return all
}

// shownBy names the test that shows a field's effect, where that takes more than one
// run of one container.
var shownBy = map[string]string{
	"ContainerDefinitions.DockerLabels":                       "TestNodeMetadata",
	"ContainerDefinitions.HealthCheck.StartPeriod":            "TestFieldsThatTakeMore",
	"ContainerDefinitions.Interactive":                        "TestFieldsThatTakeMore",
	"ContainerDefinitions.PortMappings.ContainerPort":         "TestNetworkModes",
	"ContainerDefinitions.PortMappings.HostPort":              "TestNetworkModes",
	"ContainerDefinitions.PortMappings.ContainerPortRange":    "TestFieldsThatTakeMore",
	"ContainerDefinitions.PortMappings.Protocol":              "TestFieldsThatTakeMore",
	"ContainerDefinitions.RestartPolicy.Enabled":              "TestRestartPolicy",
	"ContainerDefinitions.RestartPolicy.IgnoredExitCodes":     "TestRestartPolicy",
	"ContainerDefinitions.RestartPolicy.RestartAttemptPeriod": "TestRestartPolicy",
	"ContainerDefinitions.StartTimeout":                       "TestHopelessDependencies",
	"ContainerDefinitions.StopTimeout":                        "TestNodeReasons",
	"Cpu":                                                     "TestFieldsThatTakeMore",
	"Memory":                                                  "TestFieldsThatTakeMore",
	"IpcMode":                                                 "TestFieldsThatTakeMore",
	"NetworkMode":                                             "TestNetworkModes",
	"TaskRoleArn":                                             "TestTaskIsItsRole",
	"ExecutionRoleArn":                                        "TestLogsNeedTheExecutionRolesPermission",
	"PlacementConstraints.Expression":                         "TestFieldsThatTakeMore",
	"PlacementConstraints.Type":                               "TestFieldsThatTakeMore",
	"RequiresCompatibilities":                                 "TestNetworkModes",
	"RuntimePlatform.CpuArchitecture":                         "TestFieldsThatAreRefused",
	"RuntimePlatform.OperatingSystemFamily":                   "TestFieldsThatAreRefused",
	"Tags.Key":                                                "TestTagsOfEverything",
	"Tags.Value":                                              "TestTagsOfEverything",
	"Volumes.DockerVolumeConfiguration.Scope":                 "TestFieldsThatTakeMore",
	"Volumes.DockerVolumeConfiguration.Driver":                "TestFieldsThatAreRefused",
	"Volumes.DockerVolumeConfiguration.Autoprovision":         "TestFieldsThatTakeMore",
	"Volumes.DockerVolumeConfiguration.DriverOpts":            "TestFieldsThatTakeMore",
	"Overrides.ContainerOverrides.Name":                       "TestOverriddenFields",
	"Overrides.ContainerOverrides.Command":                    "TestOverriddenFields",
	"Overrides.ContainerOverrides.Cpu":                        "TestOverriddenFields",
	"Overrides.ContainerOverrides.Environment.Name":           "TestOverriddenFields",
	"Overrides.ContainerOverrides.Environment.Value":          "TestOverriddenFields",
	"Overrides.ContainerOverrides.Memory":                     "TestOverriddenFields",
	"Overrides.ContainerOverrides.MemoryReservation":          "TestOverriddenFields",
	"Overrides.Cpu":                                           "TestOverriddenFields",
	"Overrides.Memory":                                        "TestOverriddenFields",
	"Overrides.TaskRoleArn":                                   "TestTaskIsItsRole",
	"Overrides.ExecutionRoleArn":                              "TestRolesOfTasks",
}

// withoutEffect are fields that change nothing in ECS either, but with something that
// is not here yet, and then says so itself.
var withoutEffect = map[string]string{
	"ContainerDefinitions.PortMappings.Name":        "names a port for Service Connect, which services can't have yet",
	"ContainerDefinitions.PortMappings.AppProtocol": "tells Service Connect a port's protocol, which services can't have yet",
	"ContainerDefinitions.VersionConsistency":       "is about the tasks of services, which are not there yet",
	"Volumes.DockerVolumeConfiguration.Labels":      "labels a volume in Docker's own list; a node of ours has none",
}

// refusal is a field that can't act: the task definition is refused, or a task of it
// is not placed, and the answer names why.
type refusal struct {
	fields []string
	change func(*ecs.RegisterTaskDefinitionInput, definition)
	// want is in the error of RegisterTaskDefinition, or in the reason and the detail of
	// RunTask's failure.
	want string
}

var refusals = map[string]refusal{
	"credential specs": {[]string{"ContainerDefinitions.CredentialSpecs"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) {
		c.CredentialSpecs = []string{"credentialspec:file://c.json"}
	}, "ecs.capability.gmsa"},
	"environment files": {[]string{"ContainerDefinitions.EnvironmentFiles.Type", "ContainerDefinitions.EnvironmentFiles.Value"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) {
		c.EnvironmentFiles = []types.EnvironmentFile{{Type: types.EnvironmentFileTypeS3, Value: aws.String("arn:aws:s3:::bucket/f.env")}}
	}, "ecs.capability.env-files.s3"},
	"FireLens": {[]string{"ContainerDefinitions.FirelensConfiguration.Type", "ContainerDefinitions.FirelensConfiguration.Options"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) {
		c.FirelensConfiguration = &types.FirelensConfiguration{Type: types.FirelensConfigurationTypeFluentbit, Options: map[string]string{"enable-ecs-log-metadata": "true"}}
	}, "ecs.capability.firelens.fluentbit"},
	"a registry's secret": {[]string{"ContainerDefinitions.RepositoryCredentials.CredentialsParameter"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) {
		c.RepositoryCredentials = &types.RepositoryCredentials{CredentialsParameter: aws.String("arn:aws:secretsmanager:us-east-1:000000000000:secret:s")}
	}, "ecs.capability.private-registry-authentication.secretsmanager"},
	"GPUs": {[]string{"ContainerDefinitions.ResourceRequirements.Type", "ContainerDefinitions.ResourceRequirements.Value"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) {
		c.ResourceRequirements = []types.ResourceRequirement{{Type: types.ResourceTypeGpu, Value: aws.String("1")}}
	}, "RESOURCE:GPU"},
	"accelerators": {[]string{"InferenceAccelerators.DeviceName", "InferenceAccelerators.DeviceType"}, func(in *ecs.RegisterTaskDefinitionInput, _ definition) {
		//lint:ignore SA1019 a field that AWS still has is refused by name
		in.InferenceAccelerators = []types.InferenceAccelerator{{DeviceName: aws.String("d"), DeviceType: aws.String("eia2.medium")}}
	}, "Elastic Inference"},
	"secrets": {[]string{"ContainerDefinitions.Secrets.Name", "ContainerDefinitions.Secrets.ValueFrom"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) {
		c.Secrets = []types.Secret{{Name: aws.String("S"), ValueFrom: aws.String("arn:aws:ssm:us-east-1:000000000000:parameter/s")}}
	}, "ecs.capability.secrets.ssm.environment-variables"},
	"a log driver's secrets": {[]string{"ContainerDefinitions.LogConfiguration.SecretOptions.Name", "ContainerDefinitions.LogConfiguration.SecretOptions.ValueFrom"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) {
		c.LogConfiguration = &types.LogConfiguration{LogDriver: types.LogDriverJsonFile, SecretOptions: []types.Secret{{Name: aws.String("S"), ValueFrom: aws.String("arn:aws:ssm:us-east-1:000000000000:parameter/s")}}}
	}, "ecs.capability.secrets.ssm.bootstrap.log-driver"},
	"another log driver": {nil, func(_ *ecs.RegisterTaskDefinitionInput, c definition) {
		c.LogConfiguration = &types.LogConfiguration{LogDriver: types.LogDriverSplunk, Options: map[string]string{"splunk-url": "http://x", "splunk-token": "t"}}
	}, "com.amazonaws.ecs.capability.logging-driver.splunk"},
	"shared GPUs": {[]string{"ContainerDefinitions.ResourceRequirements.SharingStrategy"}, func(_ *ecs.RegisterTaskDefinitionInput, c definition) {
		c.ResourceRequirements = []types.ResourceRequirement{{Type: types.ResourceTypeGpu, Value: aws.String("1"), SharingStrategy: &types.SharingStrategyMemberNvidiaMps{Value: types.NvidiaMpsAllocation{Memory: aws.Int32(1)}}}}
	}, "sharingStrategy"},
	"fault injection": {[]string{"EnableFaultInjection"}, func(in *ecs.RegisterTaskDefinitionInput, _ definition) { in.EnableFaultInjection = aws.Bool(true) }, "ecs.capability.fault-injection"},
	"ephemeral storage": {[]string{"EphemeralStorage.SizeInGiB"}, func(in *ecs.RegisterTaskDefinitionInput, _ definition) {
		in.EphemeralStorage = &types.EphemeralStorage{SizeInGiB: 30}
	}, "ecs.capability.extensible-ephemeral-storage"},
	"App Mesh": {[]string{"ProxyConfiguration.ContainerName", "ProxyConfiguration.Type", "ProxyConfiguration.Properties.Name", "ProxyConfiguration.Properties.Value"}, func(in *ecs.RegisterTaskDefinitionInput, _ definition) {
		in.NetworkMode = types.NetworkModeAwsvpc
		in.ProxyConfiguration = &types.ProxyConfiguration{ContainerName: aws.String("app"), Type: types.ProxyConfigurationTypeAppmesh, Properties: []types.KeyValuePair{
			{Name: aws.String("IgnoredUID"), Value: aws.String("1337")}, {Name: aws.String("AppPorts"), Value: aws.String("80")},
			{Name: aws.String("ProxyEgressPort"), Value: aws.String("15001")}, {Name: aws.String("ProxyIngressPort"), Value: aws.String("15000")},
		}}
	}, "ecs.capability.aws-appmesh"},
	"another architecture": {nil, func(in *ecs.RegisterTaskDefinitionInput, _ definition) {
		in.RuntimePlatform = &types.RuntimePlatform{CpuArchitecture: otherArchitecture()}
	}, "ecs.cpu-architecture"},
	"Windows": {nil, func(in *ecs.RegisterTaskDefinitionInput, _ definition) {
		in.RuntimePlatform = &types.RuntimePlatform{OperatingSystemFamily: types.OSFamilyWindowsServer2022Core}
	}, "ecs.os-family"},
	"another volume driver": {nil, func(in *ecs.RegisterTaskDefinitionInput, _ definition) {
		in.Volumes = []types.Volume{{Name: aws.String("v"), DockerVolumeConfiguration: &types.DockerVolumeConfiguration{Driver: aws.String("rexray"), Scope: types.ScopeTask}}}
	}, "ecs.capability.docker-plugin.rexray"},
	"EFS": {[]string{"Volumes.EfsVolumeConfiguration.FileSystemId", "Volumes.EfsVolumeConfiguration.RootDirectory"}, func(in *ecs.RegisterTaskDefinitionInput, _ definition) {
		in.Volumes = []types.Volume{{Name: aws.String("v"), EfsVolumeConfiguration: &types.EFSVolumeConfiguration{FileSystemId: aws.String("fs-01234567"), RootDirectory: aws.String("/x")}}}
	}, "ecs.capability.efs"},
	"EFS with IAM": {[]string{"Volumes.EfsVolumeConfiguration.AuthorizationConfig.AccessPointId", "Volumes.EfsVolumeConfiguration.AuthorizationConfig.Iam", "Volumes.EfsVolumeConfiguration.TransitEncryption", "Volumes.EfsVolumeConfiguration.TransitEncryptionPort"}, func(in *ecs.RegisterTaskDefinitionInput, _ definition) {
		in.Volumes = []types.Volume{{Name: aws.String("v"), EfsVolumeConfiguration: &types.EFSVolumeConfiguration{
			FileSystemId: aws.String("fs-01234567"), TransitEncryption: types.EFSTransitEncryptionEnabled, TransitEncryptionPort: aws.Int32(2999),
			AuthorizationConfig: &types.EFSAuthorizationConfig{AccessPointId: aws.String("fsap-01234567"), Iam: types.EFSAuthorizationConfigIAMEnabled},
		}}}
	}, "ecs.capability.efsAuth"},
	"FSx": {[]string{
		"Volumes.FsxWindowsFileServerVolumeConfiguration.AuthorizationConfig.CredentialsParameter", "Volumes.FsxWindowsFileServerVolumeConfiguration.AuthorizationConfig.Domain",
		"Volumes.FsxWindowsFileServerVolumeConfiguration.FileSystemId", "Volumes.FsxWindowsFileServerVolumeConfiguration.RootDirectory",
	}, func(in *ecs.RegisterTaskDefinitionInput, _ definition) {
		in.Volumes = []types.Volume{{Name: aws.String("v"), FsxWindowsFileServerVolumeConfiguration: &types.FSxWindowsFileServerVolumeConfiguration{
			FileSystemId: aws.String("fs-01234567"), RootDirectory: aws.String("share"),
			AuthorizationConfig: &types.FSxWindowsFileServerAuthorizationConfig{CredentialsParameter: aws.String("arn:aws:ssm:us-east-1:000000000000:parameter/s"), Domain: aws.String("d")},
		}}}
	}, "ecs.capability.fsxWindowsFileServer"},
	"files of S3": {[]string{
		"Volumes.S3filesVolumeConfiguration.FileSystemArn", "Volumes.S3filesVolumeConfiguration.AccessPointArn", "Volumes.S3filesVolumeConfiguration.RootDirectory", "Volumes.S3filesVolumeConfiguration.TransitEncryptionPort",
	}, func(in *ecs.RegisterTaskDefinitionInput, _ definition) {
		in.Volumes = []types.Volume{{Name: aws.String("v"), S3filesVolumeConfiguration: &types.S3FilesVolumeConfiguration{FileSystemArn: aws.String("arn:aws:s3files:us-east-1:000000000000:file-system/fs-1")}}}
	}, "ecs.capability.s3files"},
	"EBS": {[]string{"Volumes.ConfiguredAtLaunch"}, func(in *ecs.RegisterTaskDefinitionInput, _ definition) {
		in.Volumes = []types.Volume{{Name: aws.String("v"), ConfiguredAtLaunch: aws.Bool(true)}}
	}, "ecs.capability.storage.ebs-task-volume-attach"},
}

// refusedOverrides are overrides that can't act: RunTask refuses them, or places no task.
var refusedOverrides = map[string]struct {
	fields    []string
	overrides types.TaskOverride
	want      string
}{
	"environment files": {[]string{"Overrides.ContainerOverrides.EnvironmentFiles.Type", "Overrides.ContainerOverrides.EnvironmentFiles.Value"},
		types.TaskOverride{ContainerOverrides: []types.ContainerOverride{{Name: aws.String("app"), EnvironmentFiles: []types.EnvironmentFile{{Type: types.EnvironmentFileTypeS3, Value: aws.String("arn:aws:s3:::bucket/f.env")}}}}}, "environmentFiles"},
	"GPUs": {[]string{"Overrides.ContainerOverrides.ResourceRequirements.Type", "Overrides.ContainerOverrides.ResourceRequirements.Value"},
		types.TaskOverride{ContainerOverrides: []types.ContainerOverride{{Name: aws.String("app"), ResourceRequirements: []types.ResourceRequirement{{Type: types.ResourceTypeGpu, Value: aws.String("1")}}}}}, "RESOURCE:GPU"},
	"shared GPUs": {[]string{"Overrides.ContainerOverrides.ResourceRequirements.SharingStrategy"},
		types.TaskOverride{ContainerOverrides: []types.ContainerOverride{{Name: aws.String("app"), ResourceRequirements: []types.ResourceRequirement{{Type: types.ResourceTypeGpu, Value: aws.String("1"), SharingStrategy: &types.SharingStrategyMemberNvidiaMps{Value: types.NvidiaMpsAllocation{Memory: aws.Int32(1)}}}}}}}, "sharingStrategy"},
	"ephemeral storage": {[]string{"Overrides.EphemeralStorage.SizeInGiB"}, types.TaskOverride{EphemeralStorage: &types.EphemeralStorage{SizeInGiB: 30}}, "ecs.capability.extensible-ephemeral-storage"},
	"accelerators": {[]string{"Overrides.InferenceAcceleratorOverrides.DeviceName", "Overrides.InferenceAcceleratorOverrides.DeviceType"},
		//lint:ignore SA1019 an override that AWS still has is refused by name
		types.TaskOverride{InferenceAcceleratorOverrides: []types.InferenceAcceleratorOverride{{DeviceName: aws.String("d"), DeviceType: aws.String("t")}}}, "Elastic Inference"},
}

// Every field of a task definition and of the overrides has a case: what it does, or
// how it is refused. One that the SDK gets is noticed here.
func TestEveryFieldHasACase(t *testing.T) {
	cases := map[string][]string{}
	note := func(by string, fields ...string) {
		for _, f := range fields {
			cases[f] = append(cases[f], by)
		}
	}
	for _, s := range settings(t) {
		note("the setting "+s.name, s.fields...)
	}
	for name, r := range refusals {
		note("the refusal of "+name, r.fields...)
	}
	for name, r := range refusedOverrides {
		note("the refused override of "+name, r.fields...)
	}
	tests := allTests(t)
	for field, test := range shownBy {
		note(test, field)
		if !slices.Contains(tests, test) {
			t.Errorf("%s is said to be shown by %s, which is no test", field, test)
		}
	}
	for field, why := range withoutEffect {
		note(why, field)
	}
	every := everyField()
	for _, field := range every {
		if len(cases[field]) == 0 {
			t.Errorf("%s has no case", field)
		}
	}
	for field := range cases {
		if !slices.Contains(every, field) {
			t.Errorf("there is no field %s", field)
		}
	}
}

// allTests are the names of all tests of the project.
func allTests(t *testing.T) (names []string) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
				names = append(names, f.Name.Name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestFields runs one container for each setting, and looks from the inside whether
// it holds.
func TestFields(t *testing.T) {
	l := up(t, "--no-sample")
	for _, s := range settings(t) {
		t.Run(s.name, func(t *testing.T) {
			l := l.within(t)
			task, out := l.one(strings.ReplaceAll(s.name, " ", "-"), s.change, s.command...)
			code := task.Containers[0].ExitCode
			for _, c := range task.Containers {
				if aws.ToString(c.Name) == "app" {
					code = c.ExitCode
				}
			}
			if code == nil || *code != s.code {
				t.Fatalf("exit code %v, want %d: %s %s, it wrote\n%s", code, s.code, aws.ToString(task.StoppedReason), aws.ToString(task.Containers[0].Reason), out)
			}
			for _, want := range s.want {
				if !regexp.MustCompile("(?m)" + want).MatchString(out) {
					t.Errorf("it wrote\n%s\nwant %s", out, want)
				}
			}
		})
	}
}

// What can't act is refused by name, when it is registered or when it is run.
func TestFieldsThatAreRefused(t *testing.T) {
	l := up(t, "--no-sample")
	role := l.role("some")
	for name, r := range refusals {
		t.Run(name, func(t *testing.T) {
			l := l.within(t)
			in := &ecs.RegisterTaskDefinitionInput{
				ContainerDefinitions: []types.ContainerDefinition{container("refused", "app", "sleep", "600")},
				ExecutionRoleArn:     &role,
			}
			in.Family = aws.String(regexp.MustCompile(`[^a-zA-Z0-9]`).ReplaceAllString(name, "-"))
			in.ContainerDefinitions[0].LogConfiguration = nil
			r.change(in, &in.ContainerDefinitions[0])
			l.refuses(in, nil, r.want)
		})
	}
	for name, r := range refusedOverrides {
		t.Run("override of "+name, func(t *testing.T) {
			l := l.within(t)
			in := &ecs.RegisterTaskDefinitionInput{Family: aws.String("plain"), ContainerDefinitions: []types.ContainerDefinition{container("refused", "app", "sleep", "600")}}
			l.refuses(in, &r.overrides, r.want)
		})
	}
}

// refuses checks that a definition is not registered, or a task of it not placed, and
// that the answer says why.
func (l *longshore) refuses(in *ecs.RegisterTaskDefinitionInput, overrides *types.TaskOverride, want string) {
	l.t.Helper()
	made, err := l.ecs().RegisterTaskDefinition(context.Background(), in)
	said := fmt.Sprint(err)
	if err == nil {
		run := &ecs.RunTaskInput{TaskDefinition: made.TaskDefinition.TaskDefinitionArn, Overrides: overrides}
		if in.NetworkMode == types.NetworkModeAwsvpc {
			run.NetworkConfiguration = l.anySubnet()
		}
		out, err := l.ecs().RunTask(context.Background(), run)
		said = fmt.Sprint(err)
		if err == nil {
			if len(out.Tasks) > 0 || len(out.Failures) == 0 {
				l.t.Fatalf("%d tasks were placed", len(out.Tasks))
			}
			said = aws.ToString(out.Failures[0].Reason) + " " + aws.ToString(out.Failures[0].Detail)
		}
	}
	if !strings.Contains(said, want) {
		l.t.Errorf("the refusal says %q, want %s in it", said, want)
	}
}

func otherArchitecture() types.CPUArchitecture {
	if raw, err := os.ReadFile("/proc/cpuinfo"); err == nil && strings.Contains(string(raw), "vendor_id") {
		return types.CPUArchitectureArm64
	}
	return types.CPUArchitectureX8664
}
