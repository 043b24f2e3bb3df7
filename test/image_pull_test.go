package test

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore.dev/longshore/internal/image/imagetest"
)

// sampleImage is an image of the sample program, told apart by a file.
func sampleImage(t *testing.T, mark string) *imagetest.Image {
	t.Helper()
	program := imagetest.File("sample", string(imagetest.SampleProgram(t)))
	program.Mode = 0o755
	return imagetest.Build(t, imagetest.Spec{
		Layers: []imagetest.Layer{
			{Compression: imagetest.Gzip, Entries: []imagetest.Entry{program}},
			{Compression: imagetest.Gzip, Entries: []imagetest.Entry{imagetest.File("mark", mark)}},
		},
		Config: ocispec.ImageConfig{Entrypoint: []string{"/sample"}},
	})
}

// of starts a task of one container of an image.
func (l *longshore) of(family, ref string, command ...string) string {
	l.t.Helper()
	c := container(family, "app", command...)
	c.Image = &ref
	return l.begin(&ecs.RegisterTaskDefinitionInput{Family: &family, ContainerDefinitions: []types.ContainerDefinition{c}})
}

// TestImagePullReasons: why an image could not be pulled is what DescribeTasks
// says, in AWS's words.
func TestImagePullReasons(t *testing.T) {
	l := up(t, "--no-sample")
	reg := imagetest.NewRegistry(t)
	good := sampleImage(t, "good")
	other := imagetest.Build(t, imagetest.Spec{Platform: ocispec.Platform{OS: "linux", Architecture: "s390x"}})
	corrupt := imagetest.Build(t, imagetest.Spec{Layers: []imagetest.Layer{{Entries: []imagetest.Entry{imagetest.File("f", "corrupt")}}}})
	bomb := imagetest.Build(t, imagetest.Spec{Layers: []imagetest.Layer{{Entries: []imagetest.Entry{{Name: "f", Size: 1 << 50}}}}})
	reg.Push("app", "good", good)
	reg.Push("app", "corrupt", corrupt)
	reg.Corrupt(corrupt.Manifest.Layers[0].Digest)
	reg.Push("app", "other", imagetest.Index(t, false, other))
	reg.Push("app", "bomb", bomb)
	reg.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		status, code, message := 0, "", ""
		switch {
		case strings.Contains(r.URL.Path, "/limited/"):
			status, code, message = http.StatusTooManyRequests, "TOOMANYREQUESTS", "You have reached your pull rate limit. You may increase the limit by authenticating and upgrading: https://www.docker.com/increase-rate-limit"
		case strings.Contains(r.URL.Path, "/private/"):
			status, code, message = http.StatusForbidden, "DENIED", "requested access to the resource is denied"
		default:
			return false
		}
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, code, message)
		return true
	}
	tasks := map[string]string{}
	cases := map[string]string{
		"app:missing": `^CannotPullContainerError: pull image manifest has been retried 1 time\(s\): failed to resolve ref HOST/app:missing: HOST/app:missing: not found$`,
		"limited:1":   `^CannotPullContainerError: pull image manifest has been retried 5 time\(s\): failed to resolve ref HOST/limited:1: unexpected status from HEAD request to http://HOST/v2/limited/manifests/1: 429 Too Many Requests - Server message: toomanyrequests: You have reached your pull rate limit\. You may increase the limit by authenticating and upgrading: https://www\.docker\.com/increase-rate-limit$`,
		"private:1":   `^CannotPullContainerError: pull image manifest has been retried 1 time\(s\): failed to resolve ref HOST/private:1: .*403 Forbidden - Server message: denied: requested access to the resource is denied$`,
		"app:other":   `^CannotPullContainerError: image Manifest does not contain descriptor matching platform 'linux/`,
		"app:corrupt": `^CannotPullContainerError: ref pull has been retried 1 time\(s\): failed to copy sha256:[0-9a-f]+: unexpected commit digest sha256:[0-9a-f]+, expected sha256:`,
		"app:bomb":    `^CannotPullContainerError: failed to extract layer sha256:[0-9a-f]+: it needs more than the \d+ bytes .*no space left on device`,
	}
	for image := range cases {
		tasks[image] = l.of(strings.ReplaceAll(image, ":", "-"), reg.Host+"/"+image, "exit", "0")
	}
	for image, reason := range cases {
		task := l.ended(tasks[image])
		want := regexp.MustCompile(strings.ReplaceAll(reason, "HOST", regexp.QuoteMeta(reg.Host)))
		if task.StopCode != types.TaskStopCodeTaskFailedToStart || !want.MatchString(aws.ToString(task.StoppedReason)) {
			t.Errorf("%s: the task stopped with %s\n%q, want\n%s", image, task.StopCode, aws.ToString(task.StoppedReason), want)
		}
		if got := aws.ToString(task.Containers[0].Reason); !want.MatchString(got) {
			t.Errorf("%s: the container's reason is %q", image, got)
		}
	}
	if code := l.ended(l.of("good", reg.Host+"/app:good", "exit", "3")).Containers[0].ExitCode; aws.ToInt32(code) != 3 {
		t.Errorf("after all that, the good image's exit code is %v, want 3", code)
	}
}

// TestImagePullIsSharedAndEnds: four tasks are one download, which ends when the
// last of them is stopped.
func TestImagePullIsSharedAndEnds(t *testing.T) {
	l := up(t, "--no-sample")
	reg := imagetest.NewRegistry(t)
	img := sampleImage(t, "shared")
	layer := img.Manifest.Layers[0].Digest
	var began, ended atomic.Int64
	var stall atomic.Bool
	stall.Store(true)
	reg.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, layer.String()) || !stall.Load() {
			return false
		}
		began.Add(1)
		data := reg.Blob(layer)
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(data[:len(data)/2])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		ended.Add(1)
		return true
	}
	ref := reg.Push("app", "1", img)
	var tasks []string
	for i := range 4 {
		tasks = append(tasks, l.of(fmt.Sprint("shared-", i), ref, "sleep", "600"))
	}
	l.eventually("the download has begun", func() error {
		if began.Load() == 0 {
			return fmt.Errorf("nobody asked for the layer")
		}
		return nil
	})
	for _, arn := range tasks[:3] {
		l.stop(arn)
		if task := l.ended(arn); task.StopCode != types.TaskStopCodeUserInitiated {
			t.Errorf("a task that was stopped while it pulled has the code %s", task.StopCode)
		}
	}
	if n := ended.Load(); n != 0 {
		t.Errorf("the download ended %d times while a task still waits for it", n)
	}
	l.stop(tasks[3])
	l.ended(tasks[3])
	l.eventually("the download has ended", func() error {
		if ended.Load() != 1 {
			return fmt.Errorf("%d ended", ended.Load())
		}
		return nil
	})
	if n := began.Load(); n != 1 {
		t.Errorf("four tasks were %d downloads, want 1", n)
	}
	stall.Store(false)
	l.await("", l.of("after", ref, "sleep", "600"), "RUNNING")
}

// TestImageCleanup: the image of a task that ended goes, that of one that runs
// stays, and so does what was built in.
func TestImageCleanup(t *testing.T) {
	l := up(t, "--no-sample", "--image-cleanup-interval", "1s", "--image-minimum-cleanup-age", "2s")
	reg := imagetest.NewRegistry(t)
	running, ended := reg.Push("app", "running", sampleImage(t, "running")), reg.Push("app", "ended", sampleImage(t, "ended"))
	arn := l.of("running", running, "sleep", "600")
	l.await("", arn, "RUNNING")
	if code := l.ended(l.of("ended", ended, "exit", "3")).Containers[0].ExitCode; aws.ToInt32(code) != 3 {
		t.Fatalf("exit code %v, want 3", code)
	}
	list := func() string {
		c := spawn(t, nil, "image", "list", "--data", l.data)
		if err := c.end(0); err != nil {
			t.Fatalf("%v\n%s", err, c.output.String())
		}
		return c.output.String()
	}
	l.eventually("the image of the task that ended goes", func() error {
		if got := list(); strings.Contains(got, ended) {
			return fmt.Errorf("there are\n%s", got)
		}
		return nil
	})
	for _, kept := range []string{running, "longshore/sample"} {
		if got := list(); !strings.Contains(got, kept) {
			t.Errorf("%s is gone; there are\n%s", kept, got)
		}
	}
	out, err := l.ecs().DescribeTasks(context.Background(), &ecs.DescribeTasksInput{Tasks: []string{arn}})
	if err != nil || len(out.Tasks) != 1 || aws.ToString(out.Tasks[0].LastStatus) != "RUNNING" {
		t.Errorf("the task that ran: %+v %v", out, err)
	}
	// Both begin again, the one from the registry.
	for _, ref := range []string{running, ended} {
		if code := l.ended(l.of("again", ref, "exit", "4")).Containers[0].ExitCode; aws.ToInt32(code) != 4 {
			t.Errorf("%s: exit code %v, want 4", ref, code)
		}
	}
}
