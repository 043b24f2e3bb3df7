package imagetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

var buildSample = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "longshore-sample-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "sample")
	build := exec.Command("go", "build", "-tags", "nethttpomithttp2", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w", "-o", program, "longshore.dev/longshore/cmd/longshore-sample")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return os.ReadFile(program)
})

// SampleProgram builds the sample program, once in a test binary, for
// image.Options.SampleProgram: tests must not depend on `make build`.
func SampleProgram(t testing.TB) []byte {
	t.Helper()
	program, err := buildSample()
	if err != nil {
		t.Fatalf("build the sample program: %v", err)
	}
	return program
}
