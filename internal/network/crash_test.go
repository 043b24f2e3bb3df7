package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The child process of a crash test kills itself at a step.
const (
	crashEnv = "LONGSHORE_NETWORK_TEST_CRASH"
	crashDir = "LONGSHORE_NETWORK_TEST_DIR"
)

var crashRequests = map[string]Request{
	"bridge": {ID: "victim", Mode: ModeBridge, Ports: []PortMapping{
		{Protocol: "tcp", ContainerPort: 80, HostPort: 8080}, {Protocol: "udp", ContainerPort: 53}}},
	"awsvpc": {ID: "victim", Mode: ModeAWSVPC, ENI: eni("10.77.0.10/24")},
	"none":   {ID: "victim", Mode: ModeNone},
	"host":   {ID: "victim", Mode: ModeHost},
}

func crashOptions(dir string) Options {
	return Options{Node: "crash", StateDir: filepath.Join(dir, "state"), RunDir: filepath.Join(dir, "run"),
		ENISubnets: []netip.Prefix{testENISubnet}}
}

// crashChild sets a sandbox up and tears it down, and dies by SIGKILL at the step.
func crashChild(step string) {
	mode, at, _ := strings.Cut(step, "/")
	l, err := New(crashOptions(os.Getenv(crashDir)))
	if err == nil {
		l.atStep = func(s string) {
			if s == at {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
		_, err = l.Setup(context.Background(), crashRequests[mode])
	}
	if err == nil {
		err = l.Teardown(context.Background(), "victim")
	}
	fmt.Fprintf(os.Stderr, "step %s was not reached (error: %v)\n", step, err)
	os.Exit(3)
}

func TestKilledAnywhereLeavesNothing(t *testing.T) {
	newHost(t)
	making := []string{"record", "files", "namespace", "link", "inside", "elements", "ready"}
	removing := []string{"remove-elements", "remove-link", "remove-namespace", "remove-files", "remove-record"}
	steps := []string{"awsvpc/inside", "awsvpc/ready", "awsvpc/remove-link", "none/ready", "host/ready", "host/remove-record"}
	for _, s := range append(making, removing...) {
		steps = append(steps, "bridge/"+s)
	}
	for _, step := range steps {
		t.Run(step, func(t *testing.T) {
			dir := t.TempDir()
			before := snapshot(t)
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), crashEnv+"="+step, crashDir+"="+dir)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("child: %v\n%s", err, out)
			}

			l, err := New(crashOptions(dir))
			must(t, err)
			all, err := l.Sandboxes(context.Background())
			must(t, err)
			if len(all) > 0 && !strings.Contains(step, "/remove-") {
				t.Errorf("a half-made sandbox was adopted: %+v", all)
			}
			// The id, the ports and the address are free again, or the sandbox is whole.
			mode, _, _ := strings.Cut(step, "/")
			s := setup(t, l, crashRequests[mode])
			if mode == "bridge" {
				listen(t, s.NetNS, "tcp", ":80", "victim")
				wantAnswer(t, "host", "tcp", "127.0.0.1:8080", "victim "+l.pool.gateway().String())
			}
			destroy(t, l)
			wantSame(t, before, snapshot(t))
			wantEmpty(t, dir)
		})
	}
}

func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			t.Errorf("left behind: %s", path)
		}
		return err
	})
	must(t, err)
}
