package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"longshore.dev/longshore/internal/acs"
)

// ask is a container's request to the metadata endpoint.
func (s *scene) ask(path string) (status int, body string) {
	s.t.Helper()
	return s.askFrom("127.0.0.1", http.MethodGet, "http://169.254.170.2"+path, nil)
}

// askFrom is a request from an address; header changes its headers.
func (s *scene) askFrom(from, method, url string, header func(http.Header)) (status int, body string) {
	s.t.Helper()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return s.metadata.dialFrom(ctx, from) }
	client := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	request, err := http.NewRequest(method, url, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if header != nil {
		header(request.Header)
	}
	response, err := client.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if status = response.StatusCode; status == http.StatusTooManyRequests && response.Header.Get("Retry-After") == "" {
		s.t.Error("nothing says when to ask again")
	}
	return status, string(raw)
}

// metadataIDs are those of all containers, by task id.
func (s *scene) metadataIDs() map[string]string {
	ids := map[string]string{}
	for _, r := range s.agent.engine.records() {
		ids[r.ID] = r.Containers[0].MetadataID
	}
	return ids
}

func TestMetadataHasItsShapes(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		startTasks(s, 1, func(task *acs.Task) {
			task.TaskClusterARN, task.LaunchType, task.ServiceName, task.CPU, task.Memory = testCluster, "EC2", "web", 0.25, 512
			task.Containers[0].ContainerARN = "arn:container"
			task.Containers[0].HealthCheckType = "docker"
			task.Containers[0].DockerConfig = acs.DockerConfig{Config: `{"Labels":{"own":"1"},"Healthcheck":{"Test":["CMD","exit","0"]}}`, HostConfig: `{"LogConfig":{"Type":"awslogs","Config":{"awslogs-group":"g"}}}`}
		})
		time.Sleep(25 * time.Second) // two samples
		id := s.metadataIDs()["t0"]
		for path, want := range map[string][]string{
			"/v3/" + id:                 {`"DockerId":"t0-0"`, `"Name":"app"`, `"DesiredStatus":"RUNNING"`, `"KnownStatus":"RUNNING"`, `"Type":"NORMAL"`, `"IPv4Addresses":["10.0.0.2"]`, `"own":"1"`, `"com.amazonaws.ecs.task-arn":"` + taskOf("t0").ARN},
			"/v4/" + id:                 {`"ContainerARN":"arn:container"`, `"LogDriver":"awslogs"`, `"LogOptions":{"awslogs-group":"g"}`, `"Ports":[{"ContainerPort":80`, `"HostPort":49153`, `"Health":{"status":`, `"StartedAt":"`, `"ImageID":"sha256:2"`, `"NetworkMode":"bridge"`},
			"/v3/" + id + "/task":       {`"Cluster":"` + testCluster, `"Family":"family"`, `"Revision":"3"`, `"Containers":[{`},
			"/v4/" + id + "/task":       {`"LaunchType":"EC2"`, `"ServiceName":"web"`, `"Limits":{"CPU":0.25,"Memory":512}`, `"PullStartedAt":"`, `"TaskARN":"` + taskOf("t0").ARN},
			"/v4/" + id + "/stats":      {`"cpu_stats":{"cpu_usage":{"total_usage":1000000`, `"memory_stats":{"usage":1048576`, `"networks":{"eth0":{`, `"precpu_stats"`},
			"/v4/" + id + "/task/stats": {`"t0-0":{"read":`},
		} {
			status, body := s.ask(path)
			for _, w := range want {
				if status != http.StatusOK || !strings.Contains(body, w) {
					t.Errorf("%s answers %d without %s: %s", path, status, w, body)
				}
			}
		}
		if _, body := s.ask("/v3/" + id); strings.Contains(body, "LogDriver") || strings.Contains(body, "ContainerARN") {
			t.Errorf("v3 answers what only v4 has: %s", body)
		}
	})
}

func TestContainersAreServedSoMuchAndNoMore(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		startTasks(s, 2, nil)
		ids := s.metadataIDs()
		burst := func(path string, n int) (served int) {
			for range n {
				if status, _ := s.ask(path); status != http.StatusTooManyRequests {
					served++
				}
			}
			return served
		}
		if n := burst("/v4/"+ids["t0"], 100); n != requestBurst {
			t.Errorf("%d of 100 requests at once were served, want %d", n, requestBurst)
		}
		time.Sleep(time.Second)
		if n := burst("/v3/"+ids["t0"]+"/task", 100); n != requestRate {
			t.Errorf("%d of 100 requests in the next second were served, want %d", n, requestRate)
		}
		if n := burst("/v4/"+ids["t1"], requestBurst); n != requestBurst {
			t.Errorf("another container had %d of %d requests served", n, requestBurst)
		}
		if n := burst("/v4/guess", 1000); n != strangerBurst {
			t.Errorf("%d guesses at once were answered, want %d", n, strangerBurst)
		}
		for i := range 300 {
			s.ask(fmt.Sprint("/v4/guess-", i))
		}
		if n := len(s.agent.limits.containers); n != 2 {
			t.Errorf("%d buckets are kept for two containers", n)
		}
	})
}

func TestBucketsGoWithTheirContainers(t *testing.T) {
	l := newRequestLimits()
	known := func(id string) bool { return id == "new" }
	for i := range 1000 {
		l.allow(fmt.Sprint("old", i), func(string) bool { return false })
	}
	if l.allow("new", known); len(l.containers) != 1 {
		t.Fatalf("%d buckets are left", len(l.containers))
	}
}

func TestMetadataIDsCannotBeGuessed(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.options = func(o *Options) { o.NewID = uuid.NewString }
		s.boot()
		startTasks(s, 3, nil)
		random := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
		var seen []string
		for _, id := range s.metadataIDs() {
			if !random.MatchString(id) || slices.Contains(seen, id) {
				t.Errorf("the metadata id %s is not a random one of its own", id)
			}
			seen = append(seen, id)
		}
	})
}

// A container reads its own task, and nothing leads from there to another.
func TestNoTaskReadsAnothersMetadata(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		startTasks(s, 2, nil)
		ids := s.metadataIDs()
		for _, path := range []string{"", "/task", "/stats", "/task/stats"} {
			status, body := s.ask("/v4/" + ids["t0"] + path)
			if status != http.StatusOK || strings.Contains(body, "t1") || strings.Contains(body, ids["t1"]) || strings.Contains(body, ids["t0"]) {
				t.Errorf("%s answers %d: %s", path, status, body)
			}
		}
		for _, path := range []string{
			"/", "/v3", "/v4/", "/v3/", "/v4/t1", "/v4/t1-0", "/v4/" + taskOf("t1").ARN, "/v4/*", "/v4/%00", "/v4/..%2f" + ids["t1"],
			"/v4/" + ids["t0"] + "/../" + "t1-0", "/v4/" + ids["t0"] + "/task/t1", "/v2/metadata", "/v2/credentials/" + ids["t1"], "/api/" + ids["t1"],
		} {
			if status, body := s.ask(path); status == http.StatusOK || strings.Contains(body, "t1-0") {
				t.Errorf("%s answers %d: %s", path, status, body)
			}
		}
	})
}

func TestRequestsToTheMetadataEndpointAreBounded(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		startTasks(s, 1, nil)
		id := s.metadataIDs()["t0"]
		for request, want := range map[string]string{
			"GET /v4/" + id + " HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 2*maxHeaders) + "\r\n\r\n":           "HTTP/1.1 431 ",
			"GET /v4/" + strings.Repeat("x", 2*maxHeaders) + " HTTP/1.1\r\nHost: x\r\n\r\n":                            "HTTP/1.1 431 ",
			"POST /v4/" + id + " HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n":                            "HTTP/1.1 405 ",
			"GET /v4/" + id + " HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n" + strings.Repeat("x", 1000): "HTTP/1.1 200 ",
			"GET /v4/" + id + " HTTP/1.1\r\nHost: x\r\nSlow":                                                           "HTTP/1.1 400 ",
			"\x16\x03\x01" + strings.Repeat("\x00", 100) + "\r\n\r\n":                                                  "HTTP/1.1 400 ",
		} {
			conn, err := s.metadata.dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if _, err := conn.Write([]byte(request)); err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(conn) // until the agent closes it
			if err != nil || !strings.HasPrefix(string(answer), want) {
				t.Errorf("%.60q: %.60q, %v", request, answer, err)
			}
			if d := time.Since(began); d > 45*time.Second {
				t.Errorf("%.60q kept its connection for %s", request, d)
			}
			conn.Close()
		}
	})
}

func TestConnectionsToTheMetadataEndpointAreBounded(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		startTasks(s, 1, nil)
		path := "/v4/" + s.metadataIDs()["t0"]
		var open []io.Closer
		for range connectionsPerAddress {
			conn, err := s.metadata.dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, conn)
		}
		conn, err := s.metadata.dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) || time.Since(began) > time.Second {
			t.Fatalf("a connection too many was read from: %d, %v", n, err)
		}
		for _, c := range open {
			c.Close()
		}
		time.Sleep(time.Second)
		if status, _ := s.ask(path); status != http.StatusOK {
			t.Fatalf("after the others were closed: %d", status)
		}
	})
}
