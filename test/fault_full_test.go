package test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/disktest"
)

// smallDisk mounts a file system of its own, of so many MB and inodes.
func smallDisk(t *testing.T, megabytes, inodes int) string {
	t.Helper()
	disk := disktest.Ext4(t, megabytes, inodes)
	t.Cleanup(func() { mustRun(t, "umount", disk) })
	return disk
}

// fillDisk leaves no byte of a disk free, and returns what gives them back.
func fillDisk(t *testing.T, disk string) (free func()) {
	t.Helper()
	path := filepath.Join(disk, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size, at := int64(64<<20), int64(0); size >= 4096; { // the kernel may keep a little for itself
		if err := syscall.Fallocate(int(f.Fd()), 0, at, size); err != nil {
			size /= 2
			continue
		}
		at += size
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

// fillInodes leaves no file to be made.
func fillInodes(t *testing.T, disk string) (free func()) {
	t.Helper()
	dir := filepath.Join(disk, "ballast")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for n := 0; ; n++ {
		err := os.WriteFile(filepath.Join(dir, fmt.Sprint(n)), nil, 0o600)
		if errors.Is(err, syscall.ENOSPC) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	}
}

// TestServerOnAFullDisk: writes are refused with the reason and what was said yes to
// stays; reads go on; with space everything goes on.
func TestServerOnAFullDisk(t *testing.T) {
	disk := smallDisk(t, 768, 4000)
	s := newSiteIn(t, true, t.TempDir(), filepath.Join(disk, "server"))
	s.sampleTask("sleeper", types.NetworkModeBridge, "sleep", "3600")
	arn := s.sleeper()
	pid := s.runs(arn, "")
	clusters := s.clusterWriter(0)
	events := s.eventWriter(0)
	for _, fill := range []struct {
		name string
		fill func(*testing.T, string) func()
	}{{"bytes", fillDisk}, {"inodes", fillInodes}} {
		t.Log("full of " + fill.name)
		s.write(clusters, 20)
		s.write(events, 20)
		free := fill.fill(t, disk)
		refusedBoth := 0
		for range 40 {
			began := time.Now()
			acked, err := clusters.write(len(clusters.acked))
			if err == nil {
				clusters.acked = append(clusters.acked, acked)
			} else if refusedBoth++; !strings.Contains(err.Error(), "space") && fill.name == "bytes" {
				t.Fatalf("a write was refused with %v", err)
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Fatalf("a write took %s", took)
			}
			if message, err := events.write(len(events.acked)); err == nil {
				events.acked = append(events.acked, message)
			}
			if _, err := s.describe(arn); err != nil {
				t.Fatalf("reading while the disk is full: %v", err)
			}
		}
		if fill.name == "bytes" && refusedBoth == 0 {
			t.Error("no write was refused")
		}
		s.runs(arn, pid)
		free()
		s.answers()
		s.write(clusters, 20)
		s.write(events, 20)
	}
	s.killAll(s.server.cmd.Process.Pid)
	s.startServer()
	s.connected()
	for i, w := range []*writer{clusters, events} {
		if missing := w.missing(w.acked); len(missing) > 0 {
			t.Errorf("writer %d lost %d of %d: %.300v", i, len(missing), len(w.acked), missing)
		}
	}
	s.runs(arn, pid)
	for _, cluster := range clusters.acked {
		if _, err := s.ecs().DeleteCluster(context.Background(), &ecs.DeleteClusterInput{Cluster: &cluster}); err != nil {
			t.Error(err)
		}
	}
}

// write has a writer's next writes acknowledged, soon after space has come back.
func (s *site) write(w *writer, n int) {
	s.t.Helper()
	for range n {
		s.eventually("a write works", func() error {
			acked, err := w.write(len(w.acked))
			if err == nil {
				w.acked = append(w.acked, acked)
			}
			return err
		})
	}
}

// TestNodeOnAFullDisk: what runs goes on and its output waits; what needs the disk
// waits or fails with the reason; with space everything goes on by itself.
func TestNodeOnAFullDisk(t *testing.T) {
	disk := smallDisk(t, 256, 4000)
	s := newSiteIn(t, true, filepath.Join(disk, "node"), t.TempDir())
	s.sampleTask("sleeper", types.NetworkModeBridge, "sleep", "3600")
	definition := s.longshore.web("web", types.NetworkModeBridge, func(in *ecs.RegisterTaskDefinitionInput) {
		in.ContainerDefinitions[0].LogConfiguration = logged("web")
		in.ContainerDefinitions[0].LogConfiguration.Options["mode"] = "blocking"
	})
	web := s.longshore.run(&ecs.RunTaskInput{TaskDefinition: &definition})
	url := fmt.Sprintf("http://127.0.0.1:%d/", aws.ToInt32(web.Containers[0].NetworkBindings[0].HostPort))
	pid := s.runs(aws.ToString(web.TaskArn), "")
	for _, full := range []struct {
		name string
		fill func(*testing.T, string) func()
	}{{"bytes", fillDisk}, {"inodes", fillInodes}} {
		name := full.name
		t.Log("full of " + name)
		stops, struck := s.sleeper(), s.sleeper()
		free := full.fill(t, disk)
		const asked = 3000 // a line of output each: more than a pipe holds
		var served atomic.Int32
		serving := make(chan error, 1)
		go func() {
			for n := range asked {
				response, err := http.Get(url + fmt.Sprint(name, n))
				if err != nil {
					serving <- err
					return
				}
				response.Body.Close()
				served.Add(1)
			}
			serving <- nil
		}()
		waits, err := s.ecs().RunTask(context.Background(), &ecs.RunTaskInput{TaskDefinition: aws.String("sleeper")})
		if err != nil || len(waits.Tasks) != 1 {
			t.Fatalf("%v %+v", err, waits)
		}
		s.longshore.stop(stops)
		s.ended(stops) // the disk is as full as before
		s.killAll(s.agent.cmd.Process.Pid, s.shimOf(idOf(struck)))
		s.startAgent()
		s.connected()
		s.ended(struck)
		s.runs(aws.ToString(web.TaskArn), pid)
		t.Logf("%d of %d requests served while the disk is full", served.Load(), asked)
		free()
		select {
		case err := <-serving:
			if err != nil {
				t.Errorf("request %d: %v", served.Load(), err)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("with space again, %d of %d requests were answered", served.Load(), asked)
		}
		s.ended(stops)
		arn := aws.ToString(waits.Tasks[0].TaskArn)
		if status := s.runsOrFailed(arn); status == "STOPPED" {
			task := s.ended(arn)
			if task.StopCode != types.TaskStopCodeTaskFailedToStart || !strings.Contains(aws.ToString(task.StoppedReason), "no space left") {
				t.Errorf("the new task ended with %s %q", task.StopCode, aws.ToString(task.StoppedReason))
			}
		} else {
			s.longshore.stop(arn)
			s.ended(arn)
		}
		s.eventually("the requests are logged", func() error {
			log := s.written("web", "web", aws.ToString(web.TaskArn))
			for n := range asked {
				if !strings.Contains(log, fmt.Sprintf("/%s%d\"", name, n)) {
					return fmt.Errorf("request %d is not in the log", n)
				}
			}
			return nil
		})
		s.nothingBut([]string{idOf(aws.ToString(web.TaskArn))})
	}
	s.runs(aws.ToString(web.TaskArn), pid)
}

// runsOrFailed waits for a task to be RUNNING or STOPPED.
func (s *site) runsOrFailed(arn string) (status string) {
	s.t.Helper()
	s.eventually("the task runs or has failed", func() error {
		task, err := s.describe(arn)
		if status = aws.ToString(task.LastStatus); err == nil && status != "RUNNING" && status != "STOPPED" {
			err = errNotYet(status)
		}
		return err
	})
	return status
}
