package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestMain doubles as the program itself.
func TestMain(m *testing.M) {
	if os.Getenv("SAMPLE_TEST_RUN") != "" {
		main()
	}
	os.Exit(m.Run())
}

// start starts the program; its output can be read from out.
func start(t *testing.T, env []string, args ...string) (cmd *exec.Cmd, out *bufio.Reader) {
	t.Helper()
	cmd = exec.Command(os.Args[0], args...)
	cmd.Env = append([]string{"SAMPLE_TEST_RUN=1"}, env...)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd, bufio.NewReader(pipe)
}

// finish waits for the program and returns its exit code.
func finish(t *testing.T, cmd *exec.Cmd, out *bufio.Reader) (code int, rest string) {
	t.Helper()
	timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	data, _ := io.ReadAll(out)
	_ = cmd.Wait()
	if cmd.ProcessState.ExitCode() < 0 {
		t.Errorf("%v was killed: %v", cmd.Args[1:], cmd.ProcessState)
	}
	return cmd.ProcessState.ExitCode(), string(data)
}

func line(t *testing.T, out *bufio.Reader) string {
	t.Helper()
	s, err := out.ReadString('\n')
	if err != nil {
		t.Fatalf("read a line: %v (%q)", err, s)
	}
	return strings.TrimSuffix(s, "\n")
}

func TestCommands(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/missing" {
			w.WriteHeader(http.StatusNotFound)
		}
		fmt.Fprint(w, "hello")
	}))
	defer web.Close()
	for _, tc := range []struct {
		args []string
		code int
		out  string // contained
	}{
		{[]string{"echo", "a", "b"}, 0, "a b\n"},
		{[]string{"exit", "7"}, 7, ""},
		{[]string{"exit", "256"}, 2, "not an exit code"},
		{[]string{"lines", "3"}, 0, "line 1\nline 2\nline 3\n"},
		{[]string{"lines", "-1"}, 2, "not a number"},
		{[]string{"env"}, 0, "SECRET=value\n"},
		{[]string{"id"}, 0, fmt.Sprintf("uid=%d gid=%d", os.Getuid(), os.Getgid())},
		{[]string{"id"}, 0, "CapEff="},
		{[]string{"sleep", "0.01"}, 0, ""},
		{[]string{"sleep", "x"}, 2, "not a number of seconds"},
		{[]string{"sleep"}, 2, "usage: sleep SECONDS"},
		{[]string{"write", file, "300000"}, 0, ""},
		{[]string{"write", dir + "/no/f", "1"}, 1, "no such file"},
		{[]string{"cat", dir + "/none"}, 1, "no such file"},
		{[]string{"get", web.URL}, 0, "hello"},
		{[]string{"get", web.URL + "/missing"}, 1, "404"},
		{[]string{"get", "http://127.0.0.1:1"}, 1, "refused"},
		{[]string{"burn", "money"}, 2, "usage: burn"},
		{[]string{"dance"}, 2, `unknown command "dance"`},
		{[]string{"listen", "99999"}, 2, "not a port"},
	} {
		cmd, out := start(t, []string{"SECRET=value"}, tc.args...)
		code, got := finish(t, cmd, out)
		if code != tc.code || !strings.Contains(got, tc.out) {
			t.Errorf("%v: exit code %d, output %q; want %d, %q", tc.args, code, got, tc.code, tc.out)
		}
	}
	if info, err := os.Stat(file); err != nil || info.Size() != 300000 {
		t.Errorf("write: %v %v", info, err)
	}
}

func TestCommandsStopWhenTold(t *testing.T) {
	for _, tc := range []struct {
		args  []string
		lines int // to wait for: then the signal is caught
	}{
		{[]string{"fork", "3"}, 3},
		{[]string{"burn", "cpu"}, 1},
	} {
		cmd, out := start(t, nil, tc.args...)
		var children []string
		for range tc.lines {
			if pid, ok := strings.CutPrefix(line(t, out), "child "); ok {
				children = append(children, pid)
			}
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if code, rest := finish(t, cmd, out); code != 143 {
			t.Errorf("%v: exit code %d (%s), want 143", tc.args, code, rest)
		}
		for _, pid := range children {
			if _, err := os.Stat("/proc/" + pid); err == nil {
				t.Errorf("%v: child %s still runs", tc.args, pid)
			}
		}
	}
}

func TestSleepStopsWhenTold(t *testing.T) {
	own := make(chan os.Signal, 1)
	signal.Notify(own, syscall.SIGTERM) // or the test would die of it
	defer signal.Stop(own)
	ended := make(chan int, 1)
	go func() { ended <- run([]string{"sleep", "1000"}, io.Discard, io.Discard) }()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case code := <-ended:
			if code != 143 {
				t.Errorf("exit code %d, want 143", code)
			}
			return
		case <-tick.C: // sleep may not have begun
			if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestIgnoreTerm(t *testing.T) {
	cmd, out := start(t, nil, "ignore-term")
	line(t, out)
	for range 2 {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if got := line(t, out); got != "ignored terminated" {
			t.Errorf("said %q", got)
		}
	}
}

func TestServer(t *testing.T) {
	var hold atomic.Bool
	asked, release := make(chan struct{}), make(chan struct{})
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if hold.Load() {
			close(asked)
			<-release
		}
		fmt.Fprint(w, `{"DockerName":"web"}`)
	}))
	defer metadata.Close()
	cmd, out := start(t, []string{"PORT=0", "SECRET=value", "ECS_CONTAINER_METADATA_URI_V4=" + metadata.URL})
	url := "http://127.0.0.1:" + line(t, out)[len("listening on [::]:"):]

	resp, err := http.Get(url + "/a%0Ab?status=201")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	var got about
	if err != nil || json.Unmarshal(body, &got) != nil || resp.StatusCode != 201 {
		t.Fatalf("%s: %s %v", resp.Status, body, err)
	}
	if got.PID != cmd.Process.Pid || got.Path != "/a\nb" || !strings.Contains(string(got.Metadata), "web") {
		t.Errorf("answer %s", body)
	}
	if !strings.Contains(strings.Join(got.Environment, " "), "SECRET") || strings.Contains(string(body), "value") {
		t.Errorf("want names of the environment and no values: %s", body)
	}
	if l := line(t, out); !strings.Contains(l, `GET "/a\nb" 201`) {
		t.Errorf("log line %q", l)
	}

	// A request in flight is finished after SIGTERM, and the exit code is 0. That it
	// is in flight shows when it asks for metadata.
	hold.Store(true)
	answered := make(chan string, 1)
	go func() {
		resp, err := http.Get(url + "/slow")
		if err != nil {
			answered <- err.Error()
			return
		}
		defer resp.Body.Close()
		answered <- resp.Status
	}()
	<-asked
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	waitForRefusal(t, strings.TrimPrefix(url, "http://"))
	close(release)
	if s := <-answered; s != "200 OK" {
		t.Errorf("the request in flight: %s", s)
	}
	if code, rest := finish(t, cmd, out); code != 0 {
		t.Errorf("exit code %d, want 0: %s", code, rest)
	}
}

// waitForRefusal waits until the server accepts no connection any more.
func waitForRefusal(t *testing.T, address string) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for range 500 { // less than the program waits for its metadata
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return
		}
		conn.Close()
		<-tick.C
	}
	t.Fatal("connections are still accepted after SIGTERM")
}

// TestReapsAsInit runs the program as PID 1 of a namespace: orphans must not stay.
func TestReapsAsInit(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes a pid namespace")
	}
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("needs sh to make an orphan")
	}
	cmd := exec.Command(os.Args[0], "ignore-term")
	cmd.Env = []string{"SAMPLE_TEST_RUN=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	line(t, bufio.NewReader(pipe))

	// In the namespace, a shell starts a child and ends before it.
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		t.Skip("needs nsenter to enter the namespace")
	}
	made := exec.Command(nsenter, "-t", fmt.Sprint(cmd.Process.Pid), "-p", sh, "-c", "sleep 0.1 & exit 0")
	if out, err := made.CombinedOutput(); err != nil {
		t.Skipf("nsenter: %v: %s", err, out)
	}
	children := fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 2000 {
		left, err := os.ReadFile(children)
		if err != nil {
			t.Skipf("this kernel does not list children: %v", err)
		}
		if len(bytes.TrimSpace(left)) == 0 {
			return
		}
		<-tick.C
	}
	t.Error("the orphan was not reaped")
}
