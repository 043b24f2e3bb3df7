package ecs

import (
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

var fileSystemRE = regexp.MustCompile(`^fs-[0-9a-f]{8,40}$`)

// checkVolumes checks the task's volumes.
func checkVolumes(d *types.TaskDefinition) error {
	seen := map[string]bool{}
	atLaunch := 0
	for i := range d.Volumes {
		v := &d.Volumes[i]
		name := deref(v.Name)
		switch {
		case name == "":
			return errClient("Volume.name should not be null or empty.")
		case !nameRE.MatchString(name):
			return errClient("Volume name '%s' contains invalid characters.", clip(name))
		case seen[name]:
			return errClient("Volume name '%s' is used more than once.", name)
		}
		seen[name] = true
		if deref(v.ConfiguredAtLaunch) {
			if atLaunch++; atLaunch > 1 {
				return errClient("Only one volume of a task definition can be configured at launch.")
			}
		}
		if err := checkVolume(v); err != nil {
			return err
		}
	}
	return nil
}

func checkVolume(v *types.Volume) error {
	name, kinds := deref(v.Name), 0
	for _, is := range []bool{
		v.Host != nil, v.DockerVolumeConfiguration != nil, v.EfsVolumeConfiguration != nil,
		v.FsxWindowsFileServerVolumeConfiguration != nil, v.S3filesVolumeConfiguration != nil, deref(v.ConfiguredAtLaunch),
	} {
		if is {
			kinds++
		}
	}
	if kinds > 1 {
		return errClient("Volume '%s' has more than one kind of configuration.", name)
	}
	if v.Host != nil && deref(v.Host.SourcePath) != "" && !strings.HasPrefix(*v.Host.SourcePath, "/") {
		return errClient("Invalid 'sourcePath' of volume '%s': it must be an absolute path.", name)
	}
	if c := v.DockerVolumeConfiguration; c != nil && c.Autoprovision != nil && c.Scope != types.ScopeShared {
		return errClient("Volume '%s' can have autoprovision only if its scope is shared.", name)
	}
	if v.EfsVolumeConfiguration != nil {
		return checkEFS(name, v.EfsVolumeConfiguration)
	}
	return nil
}

func checkEFS(name string, c *types.EFSVolumeConfiguration) error {
	encrypted := c.TransitEncryption == types.EFSTransitEncryptionEnabled
	if !fileSystemRE.MatchString(deref(c.FileSystemId)) {
		return errClient("Invalid 'fileSystemId' of volume '%s': %s", name, clip(deref(c.FileSystemId)))
	}
	if p := c.TransitEncryptionPort; p != nil && (*p < 0 || *p > 65535) {
		return errClient("Invalid 'transitEncryptionPort' of volume '%s'.", name)
	}
	a := c.AuthorizationConfig
	if a == nil {
		return nil
	}
	if (a.Iam == types.EFSAuthorizationConfigIAMEnabled || deref(a.AccessPointId) != "") && !encrypted {
		return errClient("Volume '%s' needs transitEncryption ENABLED for IAM authorization and for access points.", name)
	}
	if deref(a.AccessPointId) != "" && deref(c.RootDirectory) != "" && *c.RootDirectory != "/" {
		return errClient("Volume '%s' has an access point: its rootDirectory must be omitted or /.", name)
	}
	return nil
}

// checkMounts checks a container's mount points.
func checkMounts(d *types.TaskDefinition, c *types.ContainerDefinition) error {
	paths := map[string]bool{}
	for _, m := range c.MountPoints {
		source, path := deref(m.SourceVolume), deref(m.ContainerPath)
		known := false
		for i := range d.Volumes {
			known = known || deref(d.Volumes[i].Name) == source
		}
		switch {
		case !known:
			return errClient("Unknown volume '%s'.", clip(source))
		case !strings.HasPrefix(path, "/"):
			return errClient("Container '%s' mounts volume '%s' without an absolute containerPath.", *c.Name, source)
		case paths[path]:
			return errClient("Container '%s' mounts two volumes at %s.", *c.Name, clip(path))
		}
		paths[path] = true
	}
	return nil
}
