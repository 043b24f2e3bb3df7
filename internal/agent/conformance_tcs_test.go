package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/runtime"
)

// publication returns the next telemetry frame of a kind, within a minute.
func publication[M any](p *peer, kind string) M {
	p.s.t.Helper()
	limit := time.After(time.Minute)
	for {
		select {
		case e := <-p.frames:
			if e.Type == kind {
				var m M
				decode(p.s.t, e.Message, &m)
				return m
			}
		case <-p.gone:
			p.s.t.Fatalf("the telemetry session ended with %v, want a %s", p.err, kind)
		case <-limit:
			p.s.t.Fatalf("no %s came within a minute", kind)
		}
	}
}

// startTasks assigns tasks and waits until they run.
func startTasks(s *scene, n int, change func(*acs.Task)) {
	s.t.Helper()
	p := s.session()
	for i := range n {
		task := taskOf(fmt.Sprint("t", i), "sleep", "100000")
		task.Family, task.Version = "family", "3"
		if change != nil {
			change(&task)
		}
		p.send(acs.TypePayload, payloadOf(fmt.Sprint("m", i), int64(i+1), task))
		p.acked(fmt.Sprint("m", i))
	}
	for i := range n {
		s.told(fmt.Sprint("t", i), "RUNNING")
	}
}

// Every telemetry frame's signature is verified by the scene.
func TestIdleNodeSaysSoEveryTwentySeconds(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		p := s.next(s.tcs, time.Minute)
		last := time.Now()
		for range 3 {
			m := publication[acs.PublishMetrics](p, acs.TypePublishMetrics)
			if !m.Metadata.Idle || !m.Metadata.Fin || len(m.TaskMetrics) > 0 || m.Metadata.ContainerInstance != testInstance || m.Metadata.MessageID == "" {
				t.Fatalf("published %+v", m)
			}
			between(t, "the publication", time.Since(last), 19*time.Second, 21*time.Second)
			last = time.Now()
			p.send(acs.TypeAckMetrics, acs.TelemetryAck{Message: "ok"})
		}
	})
}

func TestMetricsComeInPagesOfTenTasks(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		p := s.next(s.tcs, time.Minute)
		startTasks(s, 23, nil)
		p.send(acs.TypeHeartbeat, acs.Heartbeat{Healthy: true})
		time.Sleep(45 * time.Second)
		for len(p.frames) > 0 {
			<-p.frames
		}
		seen, sizes, message := map[string]bool{}, []int{}, ""
		for fin := false; !fin; {
			m := publication[acs.PublishMetrics](p, acs.TypePublishMetrics)
			sizes, fin = append(sizes, len(m.TaskMetrics)), m.Metadata.Fin
			if message == "" {
				message = m.Metadata.MessageID
			}
			if m.Metadata.Idle || m.Metadata.MessageID != message {
				t.Fatalf("page %d is headed %+v", len(sizes), m.Metadata)
			}
			for _, task := range m.TaskMetrics {
				seen[task.TaskARN] = true
				c := task.ContainerMetrics[0]
				if task.Family != "family" || task.Version != "3" || c.ContainerName != "app" || c.CPU.SampleCount == 0 || c.Memory.Sum == 0 || c.Restart == nil {
					t.Fatalf("measured %+v", task)
				}
			}
		}
		if fmt.Sprint(sizes) != "[10 10 3]" || len(seen) != 23 {
			t.Fatalf("pages of %v with %d tasks", sizes, len(seen))
		}
	})
}

func TestPagesAreBoundedInBytes(t *testing.T) {
	var all []acs.TaskHealth
	for i := range 25 {
		h := acs.TaskHealth{TaskARN: fmt.Sprint(i)}
		for range 100 {
			h.Containers = append(h.Containers, acs.ContainerHealth{ContainerName: "app", StatusMessage: strings.Repeat("m", 3000)})
		}
		all = append(all, h)
	}
	n := 0
	for _, page := range pages(all) {
		size := 0
		for _, h := range page {
			if h.TaskARN != fmt.Sprint(n) {
				t.Fatalf("task %s comes as number %d", h.TaskARN, n)
			}
			n++
			size += len(encode(t, h))
		}
		if len(page) == 0 || len(page) > tasksPerFrame || size > bytesPerFrame {
			t.Fatalf("a page of %d tasks and %d bytes", len(page), size)
		}
	}
	if n != len(all) || len(pages([]int{})) != 1 {
		t.Fatalf("%d of %d tasks are in pages; nothing makes %d", n, len(all), len(pages([]int{})))
	}
}

func TestHealthIsPublishedWhenItChanges(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		p := s.next(s.tcs, time.Minute)
		startTasks(s, 1, func(task *acs.Task) {
			task.Containers[0].HealthCheckType = "docker"
			task.Containers[0].DockerConfig = acs.DockerConfig{Config: `{"Healthcheck":{"Test":["CMD","exit","1"],"Interval":5000000000,"Retries":2}}`}
		})
		began := time.Now()
		for {
			h := publication[acs.PublishHealth](p, acs.TypePublishHealth)
			c := h.Tasks[0].Containers[0]
			if !h.Metadata.Fin || c.ContainerName != "app" {
				t.Fatalf("published %+v", h)
			}
			if c.HealthStatus == HealthUnhealthy {
				break
			}
		}
		between(t, "UNHEALTHY", time.Since(began), 9*time.Second, 12*time.Second) // not the next 20 s
	})
}

// mute answers no list of containers.
type mute struct {
	runtime.Runtime
	mute func() bool
}

func (m *mute) List(ctx context.Context) ([]runtime.Status, error) {
	if m.mute() {
		return nil, errors.New("the runtime does not answer")
	}
	return m.Runtime.List(ctx)
}

func TestHeartbeatsHaveTheRuntimeLookedAt(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		broken := make(chan struct{})
		s.wrap = func(r runtime.Runtime) runtime.Runtime {
			return &mute{r, func() bool {
				select {
				case <-broken:
					return true
				default:
					return false
				}
			}}
		}
		s.boot()
		p, m := s.session(), s.next(s.tcs, time.Minute)
		var changed acs.Timestamp
		for _, want := range []string{acs.InstanceOK, acs.InstanceOK, acs.InstanceImpaired} {
			if want == acs.InstanceImpaired {
				close(broken)
			}
			p.beat(time.Second)
			got := publication[acs.PublishInstanceStatus](m, acs.TypePublishInstance)
			if len(got.Statuses) != 1 || got.Statuses[0].Type != acs.InstanceRuntime || got.Statuses[0].Status != want || got.Metadata.RequestID == "" {
				t.Fatalf("published %+v, want %s", got, want)
			}
			if s := got.Statuses[0]; s.LastUpdated == 0 || want == acs.InstanceOK && changed != 0 && s.LastStatusChange != changed {
				t.Fatalf("published %+v", s)
			}
			changed = got.Statuses[0].LastStatusChange
		}
	})
}

func TestTelemetryIsOpenedAgain(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		p := s.next(s.tcs, time.Minute)
		for range 10 { // acknowledgements keep it open
			publication[acs.PublishMetrics](p, acs.TypePublishMetrics)
			p.send(acs.TypeAckMetrics, acs.TelemetryAck{})
		}
		p.conn.Close(websocket.StatusGoingAway, "")
		s.next(s.tcs, time.Second)
	})
}
