package native

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

//go:embed all:embedded
var embedded embed.FS

const (
	embeddedRunner = "embedded/longshore-runner"
	runnerPrefix   = "longshore-runner-"
)

// ErrNoRunner is returned when this executable was built without the runner.
var ErrNoRunner = errors.New("the container runner was not built in: run make build")

// Embedded tells whether the runner was built in.
func Embedded() bool {
	_, err := fs.Stat(embedded, embeddedRunner)
	return err == nil
}

// extract writes the embedded runner into dir, named by its content, and returns
// its path. An intact copy is left as it is; copies of other versions are
// removed, for a process keeps its own executable.
func extract(dir string) (string, error) {
	data, err := fs.ReadFile(embedded, embeddedRunner)
	if errors.Is(err, fs.ErrNotExist) {
		return "", ErrNoRunner
	}
	if err != nil {
		return "", fmt.Errorf("read the embedded runner: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make a place for the runner: %w", err)
	}
	sum := sha256.Sum256(data)
	name := runnerPrefix + hex.EncodeToString(sum[:8])
	path := filepath.Join(dir, name)
	if !intact(path, sum) {
		if err := replace(path, data); err != nil {
			return "", fmt.Errorf("extract the runner: %w", err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("list the runners: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), runnerPrefix) && e.Name() != name {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
	return path, nil
}

func intact(path string, sum [sha256.Size]byte) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm() != 0o700 {
		return false
	}
	data, err := os.ReadFile(path)
	return err == nil && sha256.Sum256(data) == sum
}

// replace writes the file beside and renames it over path.
func replace(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".runner-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o700), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
