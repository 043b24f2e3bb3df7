package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/image"
	"longshore.dev/longshore/internal/logdriver"
	"longshore.dev/longshore/internal/network"
	"longshore.dev/longshore/internal/runtime"
	"longshore.dev/longshore/internal/runtime/fake"
)

// machine is everything around an engine: what outlives the agent.
type machine struct {
	t       *testing.T
	dir     string
	runtime *fake.Runtime
	images  *memoryImages
	nets    *memoryNetworks
	plane   *memoryPlane
	logs    *memoryLogs
	// store, when set, is used instead of images.
	store       image.Store
	cleanImages time.Duration
	// wrap changes the runtime of the next boot.
	wrap   func(runtime.Runtime) runtime.Runtime
	engine *engine
	db     *db
	cancel context.CancelFunc
}

func newMachine(t *testing.T) *machine {
	m := &machine{
		t: t, dir: t.TempDir(), runtime: fake.New(fake.Options{}),
		images: &memoryImages{snapshots: map[string]bool{}}, nets: &memoryNetworks{sandboxes: map[string]network.Sandbox{}},
		plane: &memoryPlane{changed: make(chan struct{}, 1)}, logs: newMemoryLogs(),
	}
	m.boot()
	t.Cleanup(m.kill)
	return m
}

// boot starts an agent's engine over what there is.
func (m *machine) boot() {
	m.t.Helper()
	var err error
	if m.db, err = openDB(m.dir); err != nil {
		m.t.Fatal(err)
	}
	n := 0
	var mu sync.Mutex
	p := parts{
		images: m.images, networks: m.nets, runtime: m.runtime, logs: m.logs, control: m.plane, db: m.db,
		volumes: m.dir + "/volumes", region: "us-east-1", now: time.Now,
		newID: func() string { mu.Lock(); defer mu.Unlock(); n++; return fmt.Sprint("id", n) },
		log:   slog.New(slog.DiscardHandler),
	}
	p.cleanImages = m.cleanImages
	if m.store != nil {
		p.images = m.store
	}
	if m.wrap != nil {
		p.runtime = m.wrap(m.runtime)
	}
	m.engine = newEngine(p, func() {})
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	if err := m.engine.start(ctx); err != nil {
		m.t.Fatal(err)
	}
}

// kill ends the agent, not its containers.
func (m *machine) kill() {
	if m.cancel == nil {
		return
	}
	m.cancel()
	m.engine.wait()
	m.cancel = nil
	if err := m.db.close(); err != nil {
		m.t.Error(err)
	}
}

func (m *machine) accept(task acs.Task) {
	m.t.Helper()
	if err := m.engine.accept(m.t.Context(), task); err != nil {
		m.t.Fatal(err)
	}
}

// await waits until the control plane has been told the task's status.
func (m *machine) await(id, status string) *ecs.SubmitTaskStateChangeInput {
	m.t.Helper()
	limit := time.After(20 * time.Second)
	for {
		if in := m.plane.find(id, status); in != nil {
			return in
		}
		select {
		case <-m.plane.changed:
		case <-limit:
			m.t.Fatalf("the control plane was never told that %s is %s; it was told %s", id, status, m.plane.told())
		}
	}
}

// until waits for a condition that nothing announces.
func (m *machine) until(what string, holds func() bool) {
	m.t.Helper()
	for limit := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			m.t.Fatalf("waited in vain until %s", what)
		}
	}
}

// clean waits until the engine has forgotten its tasks, and checks that nothing is left.
func (m *machine) clean() {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 20*time.Second)
	defer cancel()
	if err := m.engine.stopAll(ctx); err != nil {
		m.t.Fatal(err)
	}
	left, err := m.runtime.List(ctx)
	if err != nil || len(left) > 0 || len(m.nets.sandboxes) > 0 || len(m.images.snapshots) > 0 {
		m.t.Fatalf("left behind: containers %v, networks %v, snapshots %v, error %v", left, m.nets.sandboxes, m.images.snapshots, err)
	}
}

func taskOf(id string, command ...string) acs.Task {
	return acs.Task{
		ARN: "arn:aws:ecs:us-east-1:000000000000:task/default/" + id, DesiredStatus: acs.DesiredRunning, NetworkMode: "bridge",
		Containers: []acs.Container{{
			Name: "app", Image: "sample", Essential: true, Command: command,
			PortMappings: []acs.PortMapping{{ContainerPort: 80}},
		}},
	}
}

func TestTaskRunsReportsAndLeavesNothing(t *testing.T) {
	m := newMachine(t)
	m.accept(taskOf("t1", "echo", "hello"))
	run := m.await("t1", "RUNNING")
	if len(run.Containers) != 1 || len(run.Containers[0].NetworkBindings) != 1 || aws.ToInt32(run.Containers[0].NetworkBindings[0].HostPort) == 0 {
		t.Fatalf("RUNNING came with %+v, want one container with a host port", run.Containers)
	}
	if aws.ToString(run.Containers[0].ImageDigest) != "sha256:1" || run.PullStartedAt == nil {
		t.Fatalf("RUNNING came without the image's digest or the pull's time: %+v", run)
	}
	stop := m.await("t1", "STOPPED")
	if code := stop.Containers[0].ExitCode; code == nil || *code != 0 {
		t.Fatalf("exit code = %v, want 0", code)
	}
	m.clean()
	if got := m.logs.of("app"); got != "hello\n" {
		t.Fatalf("output = %q", got)
	}
}

func TestStopSignalsThenKills(t *testing.T) {
	m := newMachine(t)
	stubborn := taskOf("t1", "ignore", "15")
	stubborn.Containers[0].StopTimeout = 1
	m.accept(stubborn)
	m.await("t1", "RUNNING")
	m.accept(acs.Task{ARN: stubborn.ARN, DesiredStatus: acs.DesiredStopped})
	stop := m.await("t1", "STOPPED")
	if code := aws.ToInt32(stop.Containers[0].ExitCode); code != 137 {
		t.Fatalf("exit code = %d, want 137", code)
	}
	m.clean()
}

func TestDuplicatePayloadsStartATaskOnce(t *testing.T) {
	m := newMachine(t)
	task := taskOf("t1", "sleep", "100")
	for range 3 {
		m.accept(task)
	}
	m.await("t1", "RUNNING")
	m.accept(acs.Task{ARN: task.ARN, DesiredStatus: acs.DesiredStopped})
	m.await("t1", "STOPPED")
	m.clean()
	m.accept(task) // late, after the end
	if n := len(m.engine.records()); n != 0 {
		t.Fatalf("a late payload started the finished task again")
	}
	if n := m.plane.count("t1", "RUNNING"); n != 1 {
		t.Fatalf("RUNNING was reported %d times", n)
	}
}

func TestAgentAdoptsWhatRunsAfterARestart(t *testing.T) {
	m := newMachine(t)
	task := taskOf("t1", "sleep", "100")
	m.accept(task)
	m.await("t1", "RUNNING")
	m.until("the answer to RUNNING is on disk", func() bool {
		all, _, err := m.db.tasks()
		return err == nil && len(all) == 1 && all[0].SentRunning
	})
	m.kill()
	before, _ := m.runtime.List(t.Context())
	m.boot()
	after, _ := m.runtime.List(t.Context())
	if len(before) != 1 || len(after) != 1 || before[0].PID != after[0].PID {
		t.Fatalf("the container was not adopted: %v, then %v", before, after)
	}
	if n := m.plane.count("t1", "RUNNING"); n != 1 {
		t.Fatalf("RUNNING was reported %d times", n)
	}
	m.accept(acs.Task{ARN: task.ARN, DesiredStatus: acs.DesiredStopped})
	m.await("t1", "STOPPED")
	m.clean()
}

// startHook does something after each start of a container.
type startHook struct {
	runtime.Runtime
	after func()
}

func (h startHook) Start(ctx context.Context, id string) error {
	err := h.Runtime.Start(ctx, id)
	h.after()
	return err
}

// That a task runs is told while it is being recorded; here the recording never ends.
func TestAgentKilledBetweenTellingAndRecordingARunningTask(t *testing.T) {
	m := newMachine(t)
	m.kill()
	m.wrap = func(r runtime.Runtime) runtime.Runtime {
		return startHook{r, func() { m.db.committer.close() }}
	}
	m.boot()
	task := taskOf("t1", "sleep", "100")
	m.accept(task)
	m.await("t1", "RUNNING")
	m.kill()
	before, _ := m.runtime.List(t.Context())
	m.wrap = nil
	m.boot()
	m.until("RUNNING is told again", func() bool { return m.plane.count("t1", "RUNNING") == 2 })
	after, _ := m.runtime.List(t.Context())
	if len(before) != 1 || len(after) != 1 || before[0].PID != after[0].PID {
		t.Fatalf("the container was not adopted: %v, then %v", before, after)
	}
	m.accept(acs.Task{ARN: task.ARN, DesiredStatus: acs.DesiredStopped})
	m.await("t1", "STOPPED")
	m.clean()
}

func TestExitWhileTheAgentWasAwayIsReported(t *testing.T) {
	m := newMachine(t)
	m.accept(taskOf("t1", "sleep", "100"))
	m.await("t1", "RUNNING")
	m.kill()
	containers, _ := m.runtime.List(t.Context())
	if err := m.runtime.Exit(containers[0].ID, runtime.Exit{Code: 42, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	m.boot()
	if code := aws.ToInt32(m.await("t1", "STOPPED").Containers[0].ExitCode); code != 42 {
		t.Fatalf("exit code = %d, want 42", code)
	}
	m.clean()
}

func TestContainerThatVanishedHasEnded(t *testing.T) {
	m := newMachine(t)
	m.accept(taskOf("t1", "sleep", "100"))
	m.await("t1", "RUNNING")
	m.kill()
	containers, _ := m.runtime.List(t.Context())
	if err := m.runtime.Delete(t.Context(), containers[0].ID); err != nil { // a reboot
		t.Fatal(err)
	}
	m.boot()
	stop := m.await("t1", "STOPPED")
	if stop.Containers[0].ExitCode != nil || !strings.Contains(aws.ToString(stop.Containers[0].Reason), "lost") {
		t.Fatalf("a lost container was reported as %+v", stop.Containers[0])
	}
	m.clean()
}

func TestPullFailureIsTheTasksReason(t *testing.T) {
	m := newMachine(t)
	m.images.err = fmt.Errorf("pull image manifest has been retried 1 time(s): failed to resolve ref r/a:1: %w", image.ErrNotFound)
	m.accept(taskOf("t1", "sleep", "100"))
	stop := m.await("t1", "STOPPED")
	if !strings.HasPrefix(aws.ToString(stop.Reason), "CannotPullContainerError: ") {
		t.Fatalf("reason = %q", aws.ToString(stop.Reason))
	}
	if m.plane.find("t1", "RUNNING") != nil {
		t.Fatal("a task that never ran was reported RUNNING")
	}
	m.clean()
}

func TestStopDuringAPullEndsThePull(t *testing.T) {
	m := newMachine(t)
	m.images.block = make(chan struct{})
	task := taskOf("t1", "sleep", "100")
	m.accept(task)
	m.accept(acs.Task{ARN: task.ARN, DesiredStatus: acs.DesiredStopped})
	m.await("t1", "STOPPED")
	m.clean()
}

func TestLeftoversOfUnknownTasksAreSwept(t *testing.T) {
	m := newMachine(t)
	m.kill()
	m.nets.sandboxes["ghost-0"] = network.Sandbox{ID: "ghost-0"}
	m.images.snapshots["ghost-0"] = true
	spec := runtime.Spec{ID: "ghost-0", Group: "ghost", Args: []string{"sleep", "100"}, NetNS: "host"}
	if err := m.runtime.Create(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	m.boot()
	m.clean()
}

func TestManifest(t *testing.T) {
	m := newMachine(t)
	m.accept(taskOf("t1", "sleep", "100"))
	m.await("t1", "RUNNING")
	extra, missing := m.engine.compare(&acs.Manifest{Tasks: []acs.ManifestTask{
		{TaskARN: "arn:aws:ecs:us-east-1:000000000000:task/default/lost", DesiredStatus: acs.DesiredRunning},
	}})
	if len(extra) != 1 || !strings.HasSuffix(extra[0].TaskARN, "/t1") {
		t.Fatalf("stop candidates = %+v, want t1", extra)
	}
	m.engine.reportMissing(missing)
	if reason := aws.ToString(m.await("lost", "STOPPED").Reason); !strings.Contains(reason, "lost its records") {
		t.Fatalf("reason of the lost task = %q", reason)
	}
	m.clean()
}

func TestSubmissionsAreRepeatedUntilTheControlPlaneAnswers(t *testing.T) {
	m := newMachine(t)
	m.plane.fail(3, errors.New("connection refused"))
	m.accept(taskOf("t1", "exit", "0"))
	m.await("t1", "RUNNING")
	m.await("t1", "STOPPED")
	m.clean()
}

// memoryImages has every image.
type memoryImages struct {
	image.Store
	mu        sync.Mutex
	snapshots map[string]bool
	err       error
	block     chan struct{}
}

func (s *memoryImages) Pull(ctx context.Context, ref string, _ image.PullOptions) (image.Image, error) {
	if s.block != nil {
		select {
		case <-s.block:
		case <-ctx.Done():
			return image.Image{}, ctx.Err()
		}
	}
	return image.Image{Ref: ref, Digest: "sha256:1", ID: "sha256:2"}, s.err
}

func (s *memoryImages) Get(ctx context.Context, ref string) (image.Image, error) {
	return image.Image{Ref: ref, Digest: "sha256:1", ID: "sha256:2"}, ctx.Err()
}

func (s *memoryImages) Prepare(_ context.Context, _, key string) (image.Mount, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.snapshots[key] = true
	return image.Mount{Type: "bind", Source: "/"}, nil
}

func (s *memoryImages) Release(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.snapshots, key)
	return nil
}

func (s *memoryImages) Snapshots(context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sortedKeys(s.snapshots), nil
}

// Clean has no layers to remove.
func (s *memoryImages) Clean(context.Context, func() []string) ([]string, error) { return nil, nil }

// memoryNetworks makes sandboxes of nothing.
type memoryNetworks struct {
	network.Network
	mu        sync.Mutex
	sandboxes map[string]network.Sandbox
	port      uint16
}

func (n *memoryNetworks) Setup(_ context.Context, r network.Request) (network.Sandbox, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s, ok := n.sandboxes[r.ID]; ok {
		return s, nil
	}
	s := network.Sandbox{ID: r.ID, Mode: r.Mode, NetNS: "host", Address: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(2 + len(n.sandboxes))}), 24)}
	for _, p := range r.Ports {
		if p.HostPort == 0 {
			n.port++
			p.HostPort = 49152 + n.port
		}
		s.Ports = append(s.Ports, p)
	}
	n.sandboxes[r.ID] = s
	return s, nil
}

func (n *memoryNetworks) Teardown(_ context.Context, id string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.sandboxes, id)
	return nil
}

func (n *memoryNetworks) Sandboxes(context.Context) ([]network.Sandbox, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []network.Sandbox
	for _, s := range n.sandboxes {
		all = append(all, s)
	}
	return all, nil
}

func (n *memoryNetworks) SandboxAt(from netip.Addr) (network.Sandbox, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.sandboxes {
		if s.Address.Addr() == from && s.Mode != network.ModeHost {
			return s, true
		}
	}
	return network.Sandbox{}, false
}

// memoryPlane keeps what it is told.
type memoryPlane struct {
	controlPlane
	mu      sync.Mutex
	tasks   []*ecs.SubmitTaskStateChangeInput
	failing int
	err     error
	changed chan struct{}
}

func (p *memoryPlane) fail(times int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failing, p.err = times, err
}

func (p *memoryPlane) SubmitTaskStateChange(_ context.Context, in *ecs.SubmitTaskStateChangeInput, _ ...func(*ecs.Options)) (*ecs.SubmitTaskStateChangeOutput, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failing > 0 {
		p.failing--
		return nil, p.err
	}
	p.tasks = append(p.tasks, in)
	select {
	case p.changed <- struct{}{}:
	default:
	}
	return &ecs.SubmitTaskStateChangeOutput{}, nil
}

func (p *memoryPlane) SubmitContainerStateChange(context.Context, *ecs.SubmitContainerStateChangeInput, ...func(*ecs.Options)) (*ecs.SubmitContainerStateChangeOutput, error) {
	return &ecs.SubmitContainerStateChangeOutput{}, nil
}

func (p *memoryPlane) find(id, status string) *ecs.SubmitTaskStateChangeInput {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, in := range p.tasks {
		if taskID(*in.Task) == id && aws.ToString(in.Status) == status {
			return in
		}
	}
	return nil
}

func (p *memoryPlane) count(id, status string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, in := range p.tasks {
		if taskID(*in.Task) == id && aws.ToString(in.Status) == status {
			n++
		}
	}
	return n
}

func (p *memoryPlane) told() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for _, in := range p.tasks {
		all = append(all, taskID(*in.Task)+" "+aws.ToString(in.Status)+" "+aws.ToString(in.Reason))
	}
	return strings.Join(all, ", ")
}

// memoryLogs keeps what containers write, by container name.
type memoryLogs struct {
	mu    sync.Mutex
	lines map[string]string
	roles map[string]aws.CredentialsProvider // by container name
	err   error                              // of every delivery
}

func newMemoryLogs() *memoryLogs {
	return &memoryLogs{lines: map[string]string{}, roles: map[string]aws.CredentialsProvider{}}
}

func (l *memoryLogs) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

func (l *memoryLogs) of(name string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines[name]
}

// role is what a container's output is delivered under.
func (l *memoryLogs) role(name string) aws.CredentialsProvider {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.roles[name]
}

func (l *memoryLogs) Driver(_ acs.LogConfig, c logdriver.Container, role aws.CredentialsProvider) (LogDriver, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.roles[c.Name] = role
	return &memoryDriver{l, c.Name}, nil
}

type memoryDriver struct {
	logs *memoryLogs
	name string
}

func (d *memoryDriver) Prepare(context.Context) error { return nil }
func (d *memoryDriver) Output() runtime.Output        { return runtime.Output{} }

func (d *memoryDriver) Run(ctx context.Context, spool runtime.Spool) error {
	d.logs.mu.Lock()
	refused := d.logs.err
	d.logs.mu.Unlock()
	if refused != nil {
		return refused
	}
	cursor, err := spool.Acked()
	for err == nil {
		var chunk runtime.Chunk
		if chunk, err = spool.Next(ctx, cursor); err == nil {
			d.logs.mu.Lock()
			d.logs.lines[d.name] += string(chunk.Data)
			d.logs.mu.Unlock()
			cursor = chunk.Cursor
			err = spool.Ack(cursor)
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
