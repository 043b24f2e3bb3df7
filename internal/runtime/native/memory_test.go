package native_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"longshore.dev/longshore/internal/oomscore"
	"longshore.dev/longshore/internal/runtime"
	"longshore.dev/longshore/internal/runtime/shimrpc"
)

// TestMemoryPressureTakesContainersFirst: shims count for almost nothing when the
// machine runs out of memory, and what runs in a container counts by its use, from
// its first process to the children of a command that is run later. It cannot make
// itself count for less.
func TestMemoryPressureTakesContainersFirst(t *testing.T) {
	n := newNode(t)
	own, err := os.ReadFile("/proc/self/oom_score_adj")
	n.must(err)
	refused := oomscore.Set(oomscore.Main)
	t.Cleanup(func() { n.must(os.WriteFile("/proc/self/oom_score_adj", own, 0)) })

	const want = "counts 0\nlower: open /proc/self/oom_score_adj: permission denied\n"
	out, exit := n.run(n.spec("a", "score"))
	denied := strings.ReplaceAll(out, "write /proc", "open /proc")
	if exit.Code != 0 || denied != want+want+"child: done\n" {
		t.Errorf("a container: %q, %+v", out, exit)
	}
	n.start(n.spec("b", "ignore"))
	result, err := n.Exec(n.ctx, "b", runtime.ExecSpec{Args: []string{"/bin/score", "child"}})
	if err != nil || !strings.HasPrefix(string(result.Output), "counts 0\n") {
		t.Errorf("a command that is run later: %q, %v", result.Output, err)
	}
	shims := n.shimScores()
	if len(shims) != 2 {
		t.Fatalf("the scores of the two containers' shims: %v", shims)
	}
	if refused != nil {
		t.Skip("the shims' own scores need CAP_SYS_RESOURCE: ", refused)
	}
	if want := strconv.Itoa(oomscore.Shim); shims[0] != want || shims[1] != want {
		t.Errorf("the shims' scores: %v, want %s", shims, want)
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
