package runtimetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// commands are the names under which the program is in a RootFS's /bin.
var commands = []string{
	"exit", "sleep", "echo", "err", "spam", "trap", "env", "id", "cat", "write", "alloc",
	"forks", "call", "ls", "orphan", "ignore", "cwd", "lines", "stat", "signal",
}

// RootFS builds a root file system and returns its directory, which goes with
// the test.
func RootFS(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"bin", "etc", "proc", "sys", "dev", "tmp", "home/worker"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(root, "bin", "program")
	build := exec.Command("go", "build", "-o", program, "longshore.dev/longshore/internal/runtime/runtimetest/program")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the test program: %v\n%s", err, out)
	}
	for _, name := range commands {
		if err := os.Symlink("program", filepath.Join(root, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	files := map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nworker:x:1000:1001::/home/worker:/bin/sh\n",
		"etc/group":  "root:x:0:\nworkers:x:1001:\nextra:x:1002:worker\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}
