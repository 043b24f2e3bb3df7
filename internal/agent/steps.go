package agent

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/image"
	"longshore.dev/longshore/internal/logdriver"
	"longshore.dev/longshore/internal/network"
	"longshore.dev/longshore/internal/runtime"
)

const (
	defaultStopTimeout = 30 * time.Second
	// killWait is how long a killed container may take to be gone.
	killWait = 10 * time.Second
	// drainWait is how long the end of a task waits for its output to be delivered
	// before it is reported; delivery goes on afterwards.
	drainWait = 2 * time.Second
)

// perform returns what a step does. Every step may be repeated.
func (w *worker) perform(a action) func(context.Context) event {
	r := w.record.clone()
	return func(ctx context.Context) event {
		switch a.step {
		case stepPull:
			return w.pull(ctx, r, a.index)
		case stepCreate:
			return w.create(ctx, r, a.index)
		case stepStart:
			return w.startContainer(ctx, r, a.index)
		case stepStop:
			return w.stop(ctx, r, a.index)
		case stepDiscard:
			return w.discard(ctx, r, a.index)
		default:
			return w.release(ctx, r)
		}
	}
}

// failed ends a container that could not be brought up. An essential one takes
// its task with it; the reason is the task's, as AWS shows it.
func failed(i int, reason string, now time.Time) event {
	return func(r *record) bool {
		c := &r.Containers[i]
		if c.Status == StatusStopped {
			return false
		}
		c.Status, c.Reason = StatusStopped, truncate(reason, 1024)
		if r.Task.Containers[i].Essential && r.Failure == "" && !r.StopRequested {
			r.Failure = c.Reason
			r.ExecutionStoppedAt = now
		}
		return true
	}
}

func (w *worker) pull(ctx context.Context, r *record, i int) event {
	started := w.now()
	img, err := w.images.Pull(ctx, r.Task.Containers[i].Image, image.PullOptions{})
	stopped := w.now()
	if err != nil {
		if ctx.Err() != nil {
			return nil // told to stop; what follows discards the container
		}
		return failed(i, pullReason(err), stopped)
	}
	return func(r *record) bool {
		c := &r.Containers[i]
		if c.Status != StatusNone {
			return false
		}
		c.Status, c.ImageDigest, c.ImageID = StatusPulled, img.Digest, img.ID
		if r.PullStartedAt.IsZero() || started.Before(r.PullStartedAt) {
			r.PullStartedAt = started
		}
		if stopped.After(r.PullStoppedAt) {
			r.PullStoppedAt = stopped
		}
		return false
	}
}

// pullReason is ECS's text for an image that could not be fetched; the image
// store's errors are worded as ECS words them.
func pullReason(err error) string {
	return fmt.Sprintf("CannotPullContainerError: %v", err)
}

func (w *worker) create(ctx context.Context, r *record, i int) event {
	bound, err := w.build(ctx, r, i)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, runtime.ErrCutOff) && r.Containers[i].Recreated < maxRecreate {
			w.log.Warn("a container's making was cut off; making it again", "container", r.runtimeID(i), "error", err)
			return recreate(i)
		}
		return failed(i, createReason(err, r.Task.LaunchType == "FARGATE"), w.now())
	}
	created := w.now()
	return func(r *record) bool {
		c := &r.Containers[i]
		if c.Status != StatusPulled {
			return false
		}
		c.Status, c.CreatedAt, c.Ports = StatusCreated, created, bound
		return false
	}
}

func createReason(err error, fargate bool) string {
	var logging *logdriver.InitializationError
	var start *startError
	switch {
	case errors.As(err, &start):
		return start.reason(fargate)
	case errors.As(err, &logging):
		return logdriver.StoppedReason(err, fargate)
	case errors.Is(err, network.ErrPortInUse), errors.Is(err, network.ErrNoPort), errors.Is(err, network.ErrNoAddress):
		return fmt.Sprintf("CannotStartContainerError: Error response from daemon: driver failed programming external connectivity: %v", err)
	default:
		return fmt.Sprintf("CannotCreateContainerError: %v", err)
	}
}

// build makes network, root file system, volumes, log destination and container.
// The first two are independent and made side by side.
func (w *worker) build(ctx context.Context, r *record, i int) ([]network.PortMapping, error) {
	c := &r.Task.Containers[i]
	_, host, err := c.DockerConfig.Parse()
	if err != nil {
		return nil, err
	}
	if err := w.vault.await(ctx, r); err != nil {
		return nil, err
	}
	driver, err := w.driver(r, i, host.LogConfig)
	if err != nil {
		return nil, &logdriver.InitializationError{Err: err}
	}
	var img image.Image
	var rootfs image.Mount
	var rootfsErr error
	done := make(chan struct{})
	go func() {
		defer close(done)
		if img, rootfsErr = w.images.Get(ctx, c.Image); rootfsErr == nil {
			rootfs, rootfsErr = w.images.Prepare(ctx, c.Image, r.snapshotKey(i))
		}
	}()
	sandbox, networkErr := w.sandbox(ctx, r, i)
	prepareErr := driver.Prepare(ctx)
	<-done
	if err := errors.Join(networkErr, rootfsErr, prepareErr); err != nil {
		return nil, err
	}
	mounts, err := w.volumeMounts(r, i, img.Config.Volumes)
	if err != nil {
		return nil, err
	}
	spec, err := buildSpec(specInput{
		record: r, index: i, image: img, rootfs: rootfs, sandbox: sandbox, mounts: mounts,
		env: w.injected(r, i), output: driver.Output(),
	})
	if err != nil {
		return nil, err
	}
	if r.sharesNamespaces() {
		if err := w.holdNamespaces(ctx, r, sandbox); err != nil {
			return nil, err
		}
	}
	if r.Containers[i].Starts > 0 {
		if err := w.runtime.Delete(ctx, r.formerRuntimeID(i)); err != nil {
			return nil, fmt.Errorf("remove the container's former run: %w", err)
		}
	}
	if err := w.runtime.Create(ctx, spec); err != nil && !errors.Is(err, runtime.ErrAlreadyExists) {
		return nil, &startError{err}
	}
	return sandbox.Ports, nil
}

func (w *worker) sandbox(ctx context.Context, r *record, i int) (network.Sandbox, error) {
	request, err := sandboxRequest(r, i)
	if err != nil {
		return network.Sandbox{}, err
	}
	hosts, err := w.linkedHosts(ctx, r, i)
	if err != nil {
		return network.Sandbox{}, err
	}
	request.ExtraHosts = append(request.ExtraHosts, hosts...)
	return w.networks.Setup(ctx, request)
}

// linkedHosts are the /etc/hosts lines of the containers that i links to.
func (w *worker) linkedHosts(ctx context.Context, r *record, i int) ([]string, error) {
	links := r.Task.Containers[i].Links
	if len(links) == 0 {
		return nil, nil
	}
	all, err := w.networks.Sandboxes(ctx)
	if err != nil {
		return nil, err
	}
	addresses := map[string]string{}
	for _, s := range all {
		addresses[s.ID] = s.Address.Addr().String()
	}
	var hosts []string
	for _, link := range links {
		name, alias := splitLink(link)
		address := addresses[r.sandboxID(r.index(name))]
		hosts = append(hosts, alias+":"+address)
		if alias != name {
			hosts = append(hosts, name+":"+address)
		}
	}
	return hosts, nil
}

// injected are the variables that every container gets from its agent.
func (w *worker) injected(r *record, i int) map[string]string {
	id := r.Containers[i].MetadataID
	env := map[string]string{
		"ECS_CONTAINER_METADATA_URI":    "http://169.254.170.2/v3/" + id,
		"ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4/" + id,
		"AWS_REGION":                    w.region,
		"AWS_DEFAULT_REGION":            w.region,
	}
	if role := r.Roles[acs.RoleTask]; role != "" {
		env["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] = credentialsPath + role
	}
	if r.mode(i) != network.ModeNone {
		env["AWS_ENDPOINT_URL"] = "http://" + taskAPI
	}
	return env
}

func (w *worker) startContainer(ctx context.Context, r *record, i int) event {
	id := r.runtimeID(i)
	if err := w.runtime.Start(ctx, id); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, runtime.ErrNotFound) && r.Containers[i].Recreated < maxRecreate {
			return recreate(i)
		}
		return failed(i, fmt.Sprintf("CannotStartContainerError: %v", err), w.now())
	}
	started := w.now()
	return func(r *record) bool {
		c := &r.Containers[i]
		if c.Status != StatusCreated {
			return false
		}
		c.Status, c.StartedAt, c.HealthSince = StatusRunning, started, started
		w.follow(i)
		return true
	}
}

// maxRecreate bounds how often a container that vanished before its start (its
// shim was killed) is made again.
const maxRecreate = 3

func recreate(i int) event {
	return func(r *record) bool {
		if c := &r.Containers[i]; c.Status == StatusPulled || c.Status == StatusCreated {
			c.Status = StatusPulled
			c.Recreated++
		}
		return false
	}
}

// stop ends a running container: its stop signal, then, after the stop timeout, SIGKILL.
func (w *worker) stop(ctx context.Context, r *record, i int) event {
	id := r.runtimeID(i)
	timeout := defaultStopTimeout
	if s := r.Task.Containers[i].StopTimeout; s > 0 {
		timeout = time.Duration(s) * time.Second
	}
	if exit, ok := w.signalAndWait(ctx, id, w.stopSignal(ctx, r, i), timeout); ok {
		return exited(i, exit)
	}
	if ctx.Err() != nil {
		return nil // the agent ends; the container has the rest of its time
	}
	if exit, ok := w.signalAndWait(ctx, id, int(syscall.SIGKILL), killWait); ok {
		return exited(i, exit)
	}
	if ctx.Err() != nil {
		return nil
	}
	if err := w.runtime.Delete(ctx, id); err != nil {
		w.log.Error("a container could not be killed; trying again", "container", id, "error", err)
		newBackoff(time.Second).sleep(ctx)
		return nil
	}
	return exited(i, runtime.Exit{Code: 137, Signal: int(syscall.SIGKILL), Lost: true, At: w.now()})
}

func (w *worker) signalAndWait(ctx context.Context, id string, signal int, timeout time.Duration) (runtime.Exit, bool) {
	err := w.runtime.Signal(ctx, id, signal, signal == int(syscall.SIGKILL))
	if errors.Is(err, runtime.ErrNotFound) {
		return runtime.Exit{Code: 137, Lost: true, At: w.now()}, true
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	exit, err := w.runtime.Wait(ctx, id)
	return exit, err == nil
}

// stopSignal is the image's own, SIGTERM otherwise.
func (w *worker) stopSignal(ctx context.Context, r *record, i int) int {
	img, err := w.images.Get(ctx, r.Task.Containers[i].Image)
	if err != nil {
		return int(syscall.SIGTERM)
	}
	if n, ok := parseSignal(img.Config.StopSignal); ok {
		return n
	}
	return int(syscall.SIGTERM)
}

// discard drops a container that has not run.
func (w *worker) discard(ctx context.Context, r *record, i int) event {
	if err := w.runtime.Delete(ctx, r.runtimeID(i)); err != nil {
		w.log.Error("a container that never ran could not be removed; trying again", "container", r.runtimeID(i), "error", err)
		newBackoff(time.Second).sleep(ctx)
		return nil
	}
	now := w.now()
	return func(r *record) bool {
		r.Containers[i].Status = StatusStopped
		if r.ExecutionStoppedAt.IsZero() {
			r.ExecutionStoppedAt = now
		}
		return true
	}
}

// release removes every trace of the task but its output: containers, networks,
// root file systems, volumes. It is repeated until all of it worked.
func (w *worker) release(ctx context.Context, r *record) event {
	retry := newBackoff(10 * time.Second)
	for {
		err := w.releaseOnce(ctx, r)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return nil
		}
		w.log.Error("a stopped task's resources could not all be removed; trying again", "task", r.ID, "error", err)
		if !retry.sleep(ctx) {
			return nil
		}
	}
	w.vault.drop(r.ID, acs.RoleTask)
	w.carried.wait(ctx, drainWait)
	now := w.now()
	return func(r *record) bool {
		r.Released = true
		if r.ExecutionStoppedAt.IsZero() {
			r.ExecutionStoppedAt = now
		}
		return true
	}
}

func (w *worker) releaseOnce(ctx context.Context, r *record) error {
	var errs []error
	for i := range r.Containers {
		errs = append(errs, w.runtime.Delete(ctx, r.runtimeID(i)))
		if r.Containers[i].Starts > 0 {
			errs = append(errs, w.runtime.Delete(ctx, r.formerRuntimeID(i)))
		}
	}
	if r.sharesNamespaces() {
		errs = append(errs, w.runtime.Delete(ctx, r.holderID()))
	}
	if err := errors.Join(errs...); err != nil {
		return err // networks and file systems are still in use
	}
	if r.sharesNamespaces() {
		errs = append(errs, w.runtime.RemoveSpool(ctx, r.holderID()), w.images.Release(ctx, r.holderID()))
	}
	for i := range r.Containers {
		errs = append(errs, w.networks.Teardown(ctx, r.sandboxID(i)), w.images.Release(ctx, r.snapshotKey(i)))
	}
	errs = append(errs, w.removeVolumes(r))
	return errors.Join(errs...)
}

func truncate(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return s[:limit]
}
