package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"longshore.dev/longshore/internal/acs"
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
		switch {
		case v.Docker != nil && v.Docker.Scope == "shared":
			return w.volumeDir("shared", v.Name)
		case v.Docker != nil || v.Host == nil || v.Host.SourcePath == "":
			return w.ownVolume(r, v.Name)
		default:
			if err := os.MkdirAll(v.Host.SourcePath, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return "", fmt.Errorf("host path of volume %s: %w", v.Name, err)
			}
			return v.Host.SourcePath, nil
		}
	}
	return "", fmt.Errorf("mount point names volume %q, which the task does not have", name)
}

// ownVolume is a directory that ends with the task.
func (w *worker) ownVolume(r *record, name string) (string, error) {
	return w.volumeDir("task-"+r.ID, name)
}

func (w *worker) volumeDir(parent, name string) (string, error) {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return "", fmt.Errorf("volume name %q is not a file name", name)
	}
	dir := filepath.Join(w.volumes, parent, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make volume %s: %w", name, err)
	}
	return dir, nil
}

func (w *worker) removeVolumes(r *record) error {
	if err := os.RemoveAll(filepath.Join(w.volumes, "task-"+r.ID)); err != nil {
		return fmt.Errorf("remove the task's volumes: %w", err)
	}
	return nil
}
