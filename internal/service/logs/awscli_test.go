package logs_test

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"longshore.dev/longshore/internal/service/logs/logstest"
)

// awscli returns a command of the AWS CLI against the room, or skips.
func (r *room) awscli(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	if testing.Short() {
		t.Skip("the AWS CLI is slow; not with -short")
	}
	path := awsCLI2()
	if path == "" {
		t.Skip("version 2 of the AWS CLI is not installed")
	}
	cmd := exec.CommandContext(t.Context(), path, append([]string{"--endpoint-url", r.URL, "--region", logstest.Region, "logs"}, args...)...)
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+logstest.AccessKey, "AWS_SECRET_ACCESS_KEY="+logstest.SecretKey,
		"AWS_CONFIG_FILE="+os.DevNull, "AWS_SHARED_CREDENTIALS_FILE="+os.DevNull, "AWS_PAGER=", "PYTHONUNBUFFERED=1", "HOME="+t.TempDir())
	cmd.Stderr = t.Output()
	return cmd
}

// awsCLI2 returns where version 2 of the AWS CLI is; version 1 has no "logs tail".
func awsCLI2() string {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/bin") {
		path := filepath.Join(dir, "aws")
		if out, err := exec.Command(path, "--version").Output(); err == nil && strings.HasPrefix(string(out), "aws-cli/2") {
			return path
		}
	}
	return ""
}

func TestCLIGetLogEvents(t *testing.T) {
	r := newRoom(t)
	r.group("/ecs/web")
	r.stream("/ecs/web", "web/app/1")
	r.put("/ecs/web", "web/app/1", at(0, "hello"), at(time.Second, "größe ✓"))
	out, err := r.awscli(t, "get-log-events", "--log-group-name", "/ecs/web", "--log-stream-name", "web/app/1").Output()
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Events []struct {
			Timestamp int64
			Message   string
		}
		NextForwardToken string
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		t.Fatal(err)
	}
	if len(answer.Events) != 2 || answer.Events[1].Message != "größe ✓" || answer.Events[0].Timestamp != noon.UnixMilli() || answer.NextForwardToken == "" {
		t.Errorf("the CLI says %s", out)
	}
}

func TestCLITailFollows(t *testing.T) {
	r := newRoom(t)
	r.SetTime(time.Now()) // the CLI asks for what is recent
	r.group("/ecs/web")
	r.stream("/ecs/web", "web/app/1")
	r.stream("/ecs/web", "web/app/2")
	say := func(stream, message string) {
		e := at(0, message)
		*e.Timestamp = time.Now().UnixMilli()
		r.put("/ecs/web", stream, e)
	}
	say("web/app/1", "first")
	cmd := r.awscli(t, "tail", "/ecs/web", "--follow", "--format", "short")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for s := bufio.NewScanner(out); len(lines) < 3 && s.Scan(); {
		lines = append(lines, s.Text())
		if len(lines) == 1 {
			say("web/app/2", "second")
			say("web/app/1", "third")
		}
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // interrupted
	if len(lines) != 3 || !strings.HasSuffix(lines[0], "first") || !strings.HasSuffix(lines[1], "second") || !strings.HasSuffix(lines[2], "third") {
		t.Errorf("tail printed %q", lines)
	}
}
