package runtimetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// commands are the names under which the program is in a RootFS's /bin.
var commands = []string{
	"exit", "sleep", "echo", "err", "spam", "trap", "env", "id", "cat", "write", "alloc",
	"forks", "call", "ls", "orphan", "ignore", "cwd", "lines", "stat", "signal", "slack",

	"open", "fds", "node", "swap", "overwrite", "mounts", "userns", "shocker", "tiocsti", "setid", "packet",
	"connect", "statfs", "inheritable", "holdns", "givens", "ptrace-other",

	"brood", "bomb", "daemon", "shut", "garbage", "oneline", "numbered", "zombies", "rename", "rmroot", "fill", "oomchild",
	"freeze", "stopped", "score",
}

// RootFS builds a root file system and returns its directory, which goes with
// the test.
func RootFS(t testing.TB) string {
	t.Helper()
	root, err := MakeRootFS(filepath.Join(t.TempDir(), "rootfs"))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// MakeRootFS builds a root file system in dir and returns dir.
func MakeRootFS(dir string) (string, error) {
	for _, name := range []string{"bin", "etc", "proc", "sys", "dev", "tmp", "home/worker"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return "", err
		}
	}
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "bin", "program"),
		"longshore.dev/longshore/internal/runtime/runtimetest/program")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the test program: %w\n%s", err, out)
	}
	for _, name := range commands {
		if err := os.Symlink("program", filepath.Join(dir, "bin", name)); err != nil {
			return "", err
		}
	}
	files := map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nworker:x:1000:1001::/home/worker:/bin/sh\n",
		"etc/group":  "root:x:0:\nworkers:x:1001:\nextra:x:1002:worker\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	return dir, nil
}
