package native_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"longshore.dev/longshore/internal/oomscore"
	"longshore.dev/longshore/internal/runtime"
	"longshore.dev/longshore/internal/runtime/shimrpc"
)

// TestContainersCountByTheirUse: when the machine runs out of memory, what runs in a
// container counts by its use, from its first process to the children of a command
// that is run later, and cannot make itself count for less.
func TestContainersCountByTheirUse(t *testing.T) {
	n := newNode(t)
	want := "counts " + n.inheritedScore() + "\nlower: write /proc/self/oom_score_adj: permission denied\n"
	if out, exit := n.run(n.spec("a", "score")); exit.Code != 0 || out != want+want+"child: done\n" {
		t.Errorf("a container: %q, %+v", out, exit)
	}
	n.start(n.spec("b", "ignore"))
	result, err := n.Exec(n.ctx, "b", runtime.ExecSpec{Args: []string{"/bin/score"}})
	if out := string(result.Output); err != nil || out != want+want+"child: done\n" {
		t.Errorf("a command that is run later: %q, %v", out, err)
	}
	if shims := n.shimScores(); len(shims) != 2 {
		t.Errorf("the scores of the two containers' shims: %v", shims)
	}
}

// inheritedScore is what a container starts with: 0, or more where all that this test
// starts counts for more, as on some build machines.
func (n *node) inheritedScore() string {
	n.t.Helper()
	if oomscore.Lowered() {
		return "0"
	}
	own, err := os.ReadFile("/proc/self/oom_score_adj")
	n.must(err)
	return strings.TrimSpace(string(own))
}

// TestShimsOutlastContainers: the kernel takes a shim only when hardly anything else
// is left, and nothing of that is handed on to its container.
func TestShimsOutlastContainers(t *testing.T) {
	n := newNode(t)
	own, err := os.ReadFile("/proc/self/oom_score_adj")
	n.must(err)
	if err := oomscore.Set(oomscore.Main); err != nil {
		t.Skip("a lower score needs CAP_SYS_RESOURCE: ", err)
	}
	t.Cleanup(func() { n.must(os.WriteFile("/proc/self/oom_score_adj", own, 0)) })
	if out, exit := n.run(n.spec("a", "score", "child")); exit.Code != 0 || !strings.HasPrefix(out, "counts 0\n") {
		t.Errorf("the container: %q, %+v", out, exit)
	}
	if shims := n.shimScores(); !slices.Equal(shims, []string{strconv.Itoa(oomscore.Shim)}) {
		t.Errorf("the shim's score: %v, want %d", shims, oomscore.Shim)
	}
}

// shimScores are of the shims that serve this test's node.
func (n *node) shimScores() []string {
	n.t.Helper()
	var scores []string
	entries, err := os.ReadDir("/proc")
	n.must(err)
	for _, e := range entries {
		command, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if !strings.Contains(string(command), "\x00shim\x00") || !strings.Contains(string(command), strconv.Quote(n.options.Node)) {
			continue
		}
		score, err := os.ReadFile(filepath.Join("/proc", e.Name(), "oom_score_adj"))
		n.must(err)
		scores = append(scores, strings.TrimSpace(string(score)))
	}
	return scores
}

// TestMachineOutOfMemory: the node's own bound, above the containers', plays the
// machine that is full. The kernel takes the container that has most, that is told
// as the end for want of memory that it was, and the others live on.
func TestMachineOutOfMemory(t *testing.T) {
	n := newNode(t)
	n.start(n.spec("small", "ignore"))
	n.limitNode(120 << 20)
	out, exit := n.run(n.spec("greedy", "alloc", "400"))
	if exit.Code != 137 || !exit.OOMKilled {
		t.Errorf("the greedy container: %q, %+v", out, exit)
	}
	if status, err := n.Status(n.ctx, "small"); err != nil || status.Phase != runtime.PhaseRunning {
		t.Errorf("the small container: %+v, %v", status, err)
	}
}

// limitNode bounds the memory of all of the node's containers together.
func (n *node) limitNode(bytes int64) {
	n.t.Helper()
	path := shimrpc.NodeCgroup(n.options.Node)
	err := os.WriteFile(filepath.Join("/sys/fs/cgroup", path, "memory.max"), []byte(fmt.Sprint(bytes)), 0)
	if err != nil {
		err = os.WriteFile(filepath.Join("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"), []byte(fmt.Sprint(bytes)), 0)
	}
	n.must(err)
}
