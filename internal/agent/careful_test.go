package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/network"
	"longshore.dev/longshore/internal/runtime"
)

// prompt delivers signals whatever happens to its caller, as a shim does.
type prompt struct{ runtime.Runtime }

func (p prompt) Signal(ctx context.Context, id string, signal int, all bool) error {
	return p.Runtime.Signal(context.WithoutCancel(ctx), id, signal, all)
}

func TestAgentsEndDoesNotCutAStopShort(t *testing.T) {
	m := newMachine(t)
	m.kill()
	m.wrap = func(r runtime.Runtime) runtime.Runtime { return prompt{r} }
	m.boot()
	stubborn := taskOf("t1", "ignore", "15")
	stubborn.Containers[0].StopTimeout = 120
	m.accept(stubborn)
	m.await("t1", "RUNNING")
	m.accept(acs.Task{ARN: stubborn.ARN, DesiredStatus: acs.DesiredStopped})
	m.until("the container is being stopped", func() bool {
		r := m.engine.records()
		return len(r) == 1 && r[0].StopRequested
	})
	time.Sleep(50 * time.Millisecond) // the signal is on its way; nothing tells when it is there
	m.kill()
	all, err := m.runtime.List(t.Context())
	if err != nil || len(all) != 1 || all[0].Phase != runtime.PhaseRunning {
		t.Fatalf("the agent's end killed a container within its stop timeout: %+v, %v", all, err)
	}
	if err := m.runtime.Exit(all[0].ID, runtime.Exit{Code: 0, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	m.boot()
	if code := m.await("t1", "STOPPED").Containers[0].ExitCode; code == nil || *code != 0 {
		t.Fatalf("exit code = %v, want 0: it ended by itself", code)
	}
	m.clean()
}

func TestSweepLeavesWhatTasksUse(t *testing.T) {
	m := newMachine(t)
	const id = "1dc5c17a-422b-4dc4-b493-371970c6c4d6" // as ECS's ids once were
	task := taskOf(id, "sleep", "100")
	task.Containers[0].MountPoints = []acs.MountPoint{{SourceVolume: "scratch", ContainerPath: "/scratch"}}
	task.Volumes = []acs.Volume{{Name: "scratch", Host: &acs.HostVolume{}}}
	m.accept(task)
	m.await(id, "RUNNING")
	m.nets.mu.Lock()
	m.nets.sandboxes["ghost-0"] = network.Sandbox{ID: "ghost-0"}
	m.nets.mu.Unlock()
	ghost := filepath.Join(m.dir, "volumes", "task-ghost")
	if err := os.MkdirAll(filepath.Join(ghost, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	m.engine.sweep(t.Context())
	m.nets.mu.Lock()
	_, used := m.nets.sandboxes[id+"-0"]
	_, left := m.nets.sandboxes["ghost-0"]
	m.nets.mu.Unlock()
	if !used || left {
		t.Fatalf("after the sweep the task's network is there: %v, the unknown one: %v", used, left)
	}
	if _, err := os.Stat(ghost); err == nil {
		t.Fatal("the volumes of an unknown task are left")
	}
	if _, err := os.Stat(filepath.Join(m.dir, "volumes", "task-"+id, "scratch")); err != nil {
		t.Fatalf("the sweep took a running task's volume: %v", err)
	}
	if snapshots, _ := m.images.Snapshots(t.Context()); len(snapshots) != 1 {
		t.Fatalf("the sweep took a running task's root file system: %v are left", snapshots)
	}
	m.clean()
}

func TestStoppingAllTasksTakesNoNewOnes(t *testing.T) {
	m := newMachine(t)
	m.accept(taskOf("t1", "sleep", "100"))
	m.await("t1", "RUNNING")
	m.clean()
	if err := m.engine.accept(t.Context(), taskOf("t2", "sleep", "100")); !errors.Is(err, errDraining) {
		t.Fatalf("a node that stops its tasks took another: %v", err)
	}
}

func TestOutputThatCannotBeDeliveredIsRead(t *testing.T) {
	m := newMachine(t)
	m.logs.fail(errors.New("the log group refuses"))
	m.accept(taskOf("t1", "echo", "hello"))
	m.await("t1", "RUNNING")
	m.until("the output is read all the same", func() bool {
		spool, err := m.runtime.OpenSpool(t.Context(), "t1-0")
		if err != nil {
			return errors.Is(err, runtime.ErrNotFound) // all is over already
		}
		defer spool.Close()
		acked, err := spool.Acked()
		return err == nil && acked > 0
	})
	m.await("t1", "STOPPED")
	m.clean()
}

// vanishing loses a container before its first start, as a killed shim does.
type vanishing struct {
	runtime.Runtime
	lost int
}

func (v *vanishing) Start(ctx context.Context, id string) error {
	if v.lost > 0 {
		v.lost--
		if err := v.Delete(ctx, id); err != nil {
			return err
		}
		return fmt.Errorf("container %s: %w", id, runtime.ErrNotFound)
	}
	return v.Runtime.Start(ctx, id)
}

func TestContainerThatVanishedBeforeItsStartIsMadeAgain(t *testing.T) {
	m := newMachine(t)
	m.kill()
	m.wrap = func(r runtime.Runtime) runtime.Runtime { return &vanishing{r, 1} }
	m.boot()
	m.accept(taskOf("t1", "exit", "3"))
	stop := m.await("t1", "STOPPED")
	if code := aws.ToInt32(stop.Containers[0].ExitCode); code != 3 {
		t.Fatalf("exit code = %d (%s), want 3", code, aws.ToString(stop.Reason))
	}
	m.clean()
}

// cutOff loses what makes a container, as a shim that is killed meanwhile.
type cutOff struct {
	runtime.Runtime
	times int
}

func (c *cutOff) Create(ctx context.Context, spec runtime.Spec) error {
	if c.times > 0 {
		c.times--
		return fmt.Errorf("create container %s: %w", spec.ID, runtime.ErrCutOff)
	}
	return c.Runtime.Create(ctx, spec)
}

func TestContainerWhoseMakingIsCutOffIsMadeAgain(t *testing.T) {
	m := newMachine(t)
	m.kill()
	m.wrap = func(r runtime.Runtime) runtime.Runtime { return &cutOff{r, maxRecreate} }
	m.boot()
	m.accept(taskOf("t1", "exit", "3"))
	stop := m.await("t1", "STOPPED")
	if code := aws.ToInt32(stop.Containers[0].ExitCode); code != 3 {
		t.Fatalf("exit code = %d (%s), want 3", code, aws.ToString(stop.Reason))
	}
	m.clean()
}

func TestContainerWhoseMakingIsAlwaysCutOffFailsItsTask(t *testing.T) {
	m := newMachine(t)
	m.kill()
	m.wrap = func(r runtime.Runtime) runtime.Runtime { return &cutOff{r, maxRecreate + 1} }
	m.boot()
	m.accept(taskOf("t1", "exit", "3"))
	if reason := aws.ToString(m.await("t1", "STOPPED").Reason); !strings.Contains(reason, runtime.ErrCutOff.Error()) {
		t.Fatalf("the task's reason is %q", reason)
	}
	m.clean()
}

func TestVolumesThatTheNodeDoesNotHaveAreRefused(t *testing.T) {
	w := &worker{parts: parts{volumes: t.TempDir()}}
	file := filepath.Join(t.TempDir(), "socket")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		volume acs.Volume
		want   string // of the error; empty: none
	}{
		{"a file of the host", acs.Volume{Host: &acs.HostVolume{SourcePath: file}}, ""},
		{"a directory to be made", acs.Volume{Host: &acs.HostVolume{SourcePath: filepath.Join(t.TempDir(), "a/b")}}, ""},
		{"a relative path", acs.Volume{Host: &acs.HostVolume{SourcePath: "data"}}, "not absolute"},
		{"EFS", acs.Volume{Type: "efs"}, `the type "efs"`},
		{"another driver", acs.Volume{Docker: &acs.DockerVolume{Scope: "shared", Driver: "rexray"}}, "rexray"},
		{"driver options", acs.Volume{Docker: &acs.DockerVolume{Scope: "task", DriverOpts: map[string]string{"type": "nfs"}}}, "driver options"},
		{"a shared volume that is not there", acs.Volume{Docker: &acs.DockerVolume{Scope: "shared"}}, "autoprovision is off"},
		{"a shared volume to be made", acs.Volume{Docker: &acs.DockerVolume{Scope: "shared", Autoprovision: true}}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.volume.Name = "v"
			path, err := w.volumePath(&record{ID: "t1", Task: acs.Task{Volumes: []acs.Volume{test.volume}}}, "v")
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Fatalf("error %v, want one about %q", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(path); err != nil {
				t.Fatalf("the volume is not there: %v", err)
			}
		})
	}
}

func TestSharedNamespacesOutliveAnyContainer(t *testing.T) {
	m := newMachine(t)
	task := taskOf("t1", "exit", "0")
	task.PIDMode = "task"
	task.Containers[0].Essential = false
	second := task.Containers[0]
	second.Name, second.Essential, second.Command = "second", true, []string{"sleep", "100"}
	task.Containers = append(task.Containers, second)
	m.accept(task)
	m.await("t1", "RUNNING")
	for _, id := range []string{"t1-0", "t1-1"} {
		spec, err := m.runtime.Spec(id)
		if err != nil || spec.PIDMode != "container:t1-pause" {
			t.Fatalf("container %s joins %q, %v; want the task's holder", id, spec.PIDMode, err)
		}
	}
	if status, err := m.runtime.Status(t.Context(), "t1-pause"); err != nil || status.Phase != runtime.PhaseRunning {
		t.Fatalf("the holder is %+v, %v", status, err)
	}
	m.clean()
}

func TestMetadataIDsEndWithTheTask(t *testing.T) {
	m := newMachine(t)
	m.accept(taskOf("t1", "sleep", "100"))
	m.await("t1", "RUNNING")
	id := m.engine.records()[0].Containers[0].MetadataID
	m.kill()
	m.boot()
	if r, i, ok := m.engine.byMetadataID(id); !ok || r.ID != "t1" || i != 0 {
		t.Fatalf("after a restart the metadata id names %v %d %v", r, i, ok)
	}
	m.clean()
	if _, _, ok := m.engine.byMetadataID(id); ok {
		t.Fatal("the metadata id of a finished task still answers")
	}
}
