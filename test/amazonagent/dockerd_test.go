package amazonagent

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"longshore.dev/longshore/internal/image/sample"
	"longshore.dev/longshore/internal/service/iam"
)

// dockerImage is what the tests' tasks run: the sample program alone.
const dockerImage = "amazonagent/sample:1"

// docker is a Docker daemon of the test's own, by its HTTP API.
type docker struct {
	t      *testing.T
	client *http.Client
}

// startDocker starts a daemon without networks, with a key for its awslogs driver,
// and loads the image. It skips where there is no Docker.
func startDocker(t *testing.T, key iam.AccessKey) *docker {
	t.Helper()
	path, err := exec.LookPath("dockerd")
	if err != nil {
		t.Skip("dockerd is not installed: apt-get install docker.io")
	}
	if os.Geteuid() != 0 {
		t.Skip("dockerd needs root")
	}
	dir, err := os.MkdirTemp("", "dockerd") // short: it holds sockets
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	var output bytes.Buffer
	c := exec.Command(path, "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid"),
		"-H", "unix://"+socket, "--iptables=false", "--bridge=none", "--storage-driver", "vfs")
	c.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+key.ID, "AWS_SECRET_ACCESS_KEY="+key.Secret, "AWS_EC2_METADATA_DISABLED=true")
	c.Stdout, c.Stderr = &output, &output
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(30*time.Second, func() { _ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) })
		_ = c.Wait()
		late.Stop()
		if t.Failed() {
			tail := output.Bytes()
			t.Logf("dockerd: %s", tail[max(0, len(tail)-4000):])
		}
		unmountBelow(t, dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("dockerd left: %v", err)
		}
	})
	d := &docker{t: t, client: &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}}
	t.Cleanup(d.client.CloseIdleConnections)
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if answer, err := d.client.Get("http://docker/_ping"); err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				break
			}
		}
		if time.Now().After(end) {
			t.Fatalf("dockerd does not answer: %s", output.String())
		}
	}
	d.load()
	return d
}

// unmountBelow takes away what the daemon leaves mounted, such as the host's network
// namespace.
func unmountBelow(t *testing.T, dir string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			if err := syscall.Unmount(f[4], syscall.MNT_DETACH); err != nil {
				t.Errorf("unmount %s: %v", f[4], err)
			}
		}
	}
}

// call makes one call of Docker's API.
func (d *docker) call(method, path string, in any) (int, []byte) {
	d.t.Helper()
	var body io.Reader
	kind := "application/json"
	switch in := in.(type) {
	case nil:
	case []byte:
		body, kind = bytes.NewReader(in), "application/x-tar"
	default:
		raw, err := json.Marshal(in)
		if err != nil {
			d.t.Fatal(err)
		}
		body = bytes.NewReader(raw)
	}
	r, err := http.NewRequest(method, "http://docker"+path, body)
	if err != nil {
		d.t.Fatal(err)
	}
	r.Header.Set("Content-Type", kind)
	answer, err := d.client.Do(r)
	if err != nil {
		d.t.Fatal(err)
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return answer.StatusCode, raw
}

// must makes a call that has to succeed.
func (d *docker) must(method, path string, in, out any) {
	d.t.Helper()
	status, raw := d.call(method, path, in)
	if status >= 300 {
		d.t.Fatalf("%s %s: %d %s", method, path, status, raw)
	}
	if out != nil {
		if err := json.Unmarshal(raw, out); err != nil {
			d.t.Fatalf("%s %s: %q: %v", method, path, raw, err)
		}
	}
}

// load imports the image from an archive as `docker save` makes them.
func (d *docker) load() {
	d.t.Helper()
	layer := archive(d.t, map[string][]byte{"bin/sample": program(d.t)}, 0o755)
	sum := sha256.Sum256(layer)
	config := fmt.Sprintf(`{"architecture":%q,"os":"linux","config":{"Entrypoint":["/bin/sample"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]},"history":[{}]}`,
		runtime.GOARCH, hex.EncodeToString(sum[:]))
	manifest := fmt.Sprintf(`[{"Config":"config.json","RepoTags":[%q],"Layers":["layer.tar"]}]`, dockerImage)
	d.must(http.MethodPost, "/images/load?quiet=1", archive(d.t, map[string][]byte{
		"manifest.json": []byte(manifest), "config.json": []byte(config), "layer.tar": layer,
	}, 0o644), nil)
	d.must(http.MethodGet, "/images/"+dockerImage+"/json", nil, nil)
}

func archive(t *testing.T, files map[string][]byte, mode int64) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, data := range files {
		if dir := filepath.Dir(name); dir != "." {
			if err := w.WriteHeader(&tar.Header{Name: dir + "/", Mode: 0o755, Typeflag: tar.TypeDir}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(data)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// program is the sample program, built where it is not embedded.
func program(t *testing.T) []byte {
	t.Helper()
	if data, err := sample.Program(); err == nil {
		return data
	}
	path := filepath.Join(t.TempDir(), "sample")
	build := exec.Command("go", "build", "-tags", "nethttpomithttp2", "-trimpath", "-ldflags", "-s -w", "-o", path, "longshore.dev/longshore/cmd/longshore-sample")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the sample: %v: %s", err, out)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
