package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/removetree"
	"longshore.dev/longshore/internal/runtime"
)

// volumeMounts makes the volumes that container i mounts, and returns the mounts:
// its own mount points, those it takes from other containers, and the image's.
func (w *worker) volumeMounts(r *record, i int, fromImage []string) ([]runtime.Mount, error) {
	c := &r.Task.Containers[i]
	mounts, err := w.mountPoints(r, c.MountPoints, false)
	if err != nil {
		return nil, err
	}
	for _, from := range c.VolumesFrom {
		j := r.index(from.SourceContainer)
		if j < 0 {
			return nil, fmt.Errorf("volumesFrom names container %s, which the task does not have", from.SourceContainer)
		}
		more, err := w.mountPoints(r, r.Task.Containers[j].MountPoints, from.ReadOnly)
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, more...)
	}
	taken := map[string]bool{}
	for _, m := range mounts {
		taken[filepath.Clean(m.Destination)] = true
	}
	for n, path := range fromImage {
		if taken[filepath.Clean(path)] {
			continue
		}
		dir, err := w.ownVolume(r, fmt.Sprintf("image-%d-%d", i, n))
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, bind(dir, path, false))
	}
	return mounts, nil
}

func (w *worker) mountPoints(r *record, points []acs.MountPoint, readOnly bool) ([]runtime.Mount, error) {
	var mounts []runtime.Mount
	for _, p := range points {
		source, err := w.volumePath(r, p.SourceVolume)
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, bind(source, p.ContainerPath, p.ReadOnly || readOnly))
	}
	return mounts, nil
}

func bind(source, destination string, readOnly bool) runtime.Mount {
	options := []string{"rbind", "rprivate"}
	if readOnly {
		options = append(options, "ro")
	}
	return runtime.Mount{Destination: destination, Type: "bind", Source: source, Options: options}
}

// volumePath returns a volume's directory on the host, made when it is missing.
func (w *worker) volumePath(r *record, name string) (string, error) {
	for i := range r.Task.Volumes {
		v := &r.Task.Volumes[i]
		if v.Name != name {
			continue
		}
		if err := supported(v); err != nil {
			return "", err
		}
		switch {
		case v.Docker != nil && v.Docker.Scope == "shared":
			return w.sharedVolume(v)
		case v.Docker != nil || v.Host == nil || v.Host.SourcePath == "":
			return w.ownVolume(r, v.Name)
		default:
			return hostPath(v)
		}
	}
	return "", fmt.Errorf("mount point names volume %q, which the task does not have", name)
}

// hostPath is a path of the host, a directory that is made when it is missing.
func hostPath(v *acs.Volume) (string, error) {
	path := v.Host.SourcePath
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("host path %q of volume %s is not absolute", path, v.Name)
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil // it may be a file or a socket
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return "", fmt.Errorf("host path of volume %s: %w", v.Name, err)
	}
	return path, nil
}

// supported refuses volumes that this node cannot provide, rather than giving the
// task an empty directory in their place.
func supported(v *acs.Volume) error {
	switch {
	case v.Type != "" && v.Type != "host" && v.Type != "docker":
		return fmt.Errorf("volume %s is of the type %q, which this node does not have", v.Name, v.Type)
	case v.Docker == nil:
		return nil
	case v.Docker.Driver != "" && v.Docker.Driver != "local":
		return fmt.Errorf("volume %s needs the Docker volume driver %q; this node has only \"local\"", v.Name, v.Docker.Driver)
	case len(v.Docker.DriverOpts) > 0:
		return fmt.Errorf("volume %s has driver options, which this node does not support", v.Name)
	}
	return nil
}

// sharedVolume is a directory that outlives the task. Without autoprovision it
// must be there already.
func (w *worker) sharedVolume(v *acs.Volume) (string, error) {
	if !v.Docker.Autoprovision && plainName(v.Name) {
		if _, err := os.Stat(filepath.Join(w.volumes, "shared", v.Name)); errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("shared volume %s does not exist on this node, and autoprovision is off", v.Name)
		}
	}
	return w.volumeDir("shared", v.Name)
}

func plainName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}

// taskVolumes begins the name of the directory of one task's own volumes.
const taskVolumes = "task-"

// ownVolume is a directory that ends with the task.
func (w *worker) ownVolume(r *record, name string) (string, error) {
	return w.volumeDir(taskVolumes+r.ID, name)
}

func (w *worker) volumeDir(parent, name string) (string, error) {
	if !plainName(name) {
		return "", fmt.Errorf("volume name %q is not a file name", name)
	}
	dir := filepath.Join(w.volumes, parent, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make volume %s: %w", name, err)
	}
	return dir, nil
}

func (w *worker) removeVolumes(r *record) error {
	if err := removetree.All(filepath.Join(w.volumes, taskVolumes+r.ID)); err != nil {
		return fmt.Errorf("remove the task's volumes: %w", err)
	}
	return nil
}
