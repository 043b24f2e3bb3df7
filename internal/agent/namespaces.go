package agent

import (
	"context"
	"errors"
	"fmt"

	"longshore.dev/longshore/internal/image"
	"longshore.dev/longshore/internal/network"
	"longshore.dev/longshore/internal/runtime"
)

// holderImage is present on every node, and can sleep and reap.
const holderImage = "longshore/sample"

// sharesNamespaces tells whether the task's containers share a process or an IPC
// namespace, so that somebody has to hold it: any of them may end before the others.
func (r *record) sharesNamespaces() bool {
	return len(r.Containers) > 1 && (r.Task.PIDMode == "task" || r.Task.IPCMode == "task")
}

// holderID names the holder's container and its root file system.
func (r *record) holderID() string { return r.ID + "-pause" }

// holdNamespaces runs the container whose namespaces the others join: it sleeps,
// and collects orphaned processes.
func (w *worker) holdNamespaces(ctx context.Context, r *record, sandbox network.Sandbox) error {
	w.holding.Lock()
	defer w.holding.Unlock()
	id := r.holderID()
	fail := func(err error) error {
		return fmt.Errorf("make the namespaces that the task's containers share: %w", err)
	}
	img, err := w.images.Pull(ctx, holderImage, image.PullOptions{})
	if err != nil {
		return fail(err)
	}
	rootfs, err := w.images.Prepare(ctx, holderImage, id)
	if err != nil {
		return fail(err)
	}
	err = w.runtime.Create(ctx, runtime.Spec{
		ID: id, Group: r.ID, GroupResources: groupResources(&r.Task),
		RootFS: runtime.RootFS{Type: rootfs.Type, Source: rootfs.Source, Options: rootfs.Options, ReadOnly: true},
		Args:   append(img.Config.Entrypoint, "sleep", "1000000000"), Env: img.Config.Env,
		NetNS: sandbox.NetNS, CapDrop: []string{"ALL"}, NoNewPrivileges: true,
		Resources: runtime.Resources{CPUShares: minShares}, Output: runtime.Output{Discard: true},
	})
	if err != nil && !errors.Is(err, runtime.ErrAlreadyExists) {
		return fail(err)
	}
	if err := w.runtime.Start(ctx, id); err != nil {
		return fail(err)
	}
	return nil
}
