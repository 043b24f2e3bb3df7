package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"longshore.dev/longshore/internal/wire/sigv4"
	"longshore.dev/longshore/internal/wire/wiretest"
)

const (
	region    = "us-east-1"
	keyID     = "LSIABENCHMARKBENCHMA"
	keySecret = "benchmark/benchmark/benchmark/benchmark0"

	readyLimit = 30 * time.Second
	// endLimit is how long a server with containers may take to stop them all.
	endLimit = 30 * time.Second
)

// server is a longshore process of ours.
type server struct {
	cmd      *exec.Cmd
	endpoint string
	client   *http.Client
	output   tail
	ended    chan struct{}
	endErr   error
}

// launch starts `longshore COMMAND…` with its data below name, on a free port,
// and does not wait for it.
func (b *bench) launch(name string, command ...string) (*server, error) {
	listen, err := freeAddress()
	if err != nil {
		return nil, err
	}
	return b.launchAt(listen, name, command...)
}

// launchAt does so on a given address.
func (b *bench) launchAt(listen, name string, command ...string) (*server, error) {
	s := &server{
		endpoint: "http://" + listen, ended: make(chan struct{}),
		client: &http.Client{Transport: wiretest.PlainBodies{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}, Timeout: time.Minute},
	}
	s.cmd = exec.Command(b.binary, append(command, "--data", filepath.Join(b.dir, name), "--listen", listen)...)
	s.cmd.Env = append(os.Environ(), "LONGSHORE_ROOT_ACCESS_KEY_ID="+keyID, "LONGSHORE_ROOT_SECRET_ACCESS_KEY="+keySecret)
	s.cmd.Stdout, s.cmd.Stderr = &s.output, &s.output
	// A process group of its own: an interrupt of ours is for us to pass on. If we
	// are killed, it ends too.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		s.endErr = s.cmd.Wait()
		close(s.ended)
	}()
	return s, nil
}

// open launches a server and waits until it answers.
func (b *bench) open(ctx context.Context, name string, command ...string) (*server, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s, err := b.launch(name, command...)
	if err != nil {
		return nil, err
	}
	if err := s.ready(ctx); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// ready returns when a signed GetCallerIdentity succeeds. It asks about every
// half millisecond.
func (s *server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	client := s.sts()
	for {
		_, err := client.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
		if err == nil {
			return nil
		}
		select {
		case <-s.ended:
			return fmt.Errorf("%s ended (%w): %s", s.cmd, s.endErr, s.output.text())
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w: %s", s.cmd, err, s.output.text())
		case <-time.After(500 * time.Microsecond):
		}
	}
}

// kill ends the process without a warning.
func (s *server) kill() error {
	s.client.CloseIdleConnections()
	err := s.cmd.Process.Kill()
	<-s.ended
	return err
}

// stop ends the process, in order, or else by force.
func (s *server) stop() error {
	s.client.CloseIdleConnections()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-s.ended:
	case <-time.After(endLimit):
		err := s.cmd.Process.Kill()
		<-s.ended
		return errors.Join(fmt.Errorf("%s did not end within %s: %s", s.cmd, endLimit, s.output.text()), err)
	}
	var exit *exec.ExitError
	if errors.As(s.endErr, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGTERM {
		return nil // it was told before it listened
	}
	if s.endErr != nil {
		return fmt.Errorf("%s: %w: %s", s.cmd, s.endErr, s.output.text())
	}
	return nil
}

func credentials() aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: keyID, SecretAccessKey: keySecret}, nil
	})
}

// The clients never retry: a refused call must not hide in a latency.

func (s *server) sts() *sts.Client {
	return sts.New(sts.Options{Region: region, BaseEndpoint: &s.endpoint, Credentials: credentials(), HTTPClient: s.client, Retryer: aws.NopRetryer{}})
}

func (s *server) ecs() *ecs.Client { return ecsClient(s.endpoint, s.client) }

func ecsClient(endpoint string, client *http.Client) *ecs.Client {
	return ecs.New(ecs.Options{Region: region, BaseEndpoint: &endpoint, Credentials: credentials(), HTTPClient: client, Retryer: aws.NopRetryer{}})
}

func (s *server) logs() *cloudwatchlogs.Client {
	return cloudwatchlogs.New(cloudwatchlogs.Options{Region: region, BaseEndpoint: &s.endpoint, Credentials: credentials(), HTTPClient: s.client, Retryer: aws.NopRetryer{}})
}

// post makes one awsJson 1.1 call whose body, and the body's hash, are there already.
func (s *server) post(ctx context.Context, service, target string, body []byte, hash string) error {
	return post(ctx, s.client, s.endpoint, sigv4.Credentials{AccessKeyID: keyID, SecretAccessKey: keySecret}, service, target, body, hash)
}

// post does so anywhere, as anybody.
func post(ctx context.Context, client *http.Client, endpoint string, keys sigv4.Credentials, service, target string, body []byte, hash string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint+"/", bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", target)
	if err := sigv4.Sign(r, keys, region, service, hash, time.Now()); err != nil {
		return err
	}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answered %s: %s", target, answer.Status, clip(string(said), 200))
	}
	return err
}

// cpu is the processor time that the process has used so far.
func (s *server) cpu() (time.Duration, error) {
	own, _, err := processCPU(s.cmd.Process.Pid)
	return own, err
}

// processCPU is the processor time that a process has used, and that the children
// it has waited for have.
func processCPU(pid int) (own, children time.Duration, err error) {
	path := fmt.Sprintf("/proc/%d/stat", pid)
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, err
	}
	// Behind the name in parentheses: state, ten others, then ticks of the process in
	// user mode and in the kernel, and of its children.
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	const first, perSecond = 11, 100 // USER_HZ, the same on all that Linux runs on today
	if len(fields) < first+4 {
		return 0, 0, fmt.Errorf("%s has %d fields", path, len(fields))
	}
	var times [4]time.Duration
	for i := range times {
		n, err := strconv.ParseInt(fields[first+i], 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("%s: %w", path, err)
		}
		times[i] = time.Duration(n) * time.Second / perSecond
	}
	return times[0] + times[1], times[2] + times[3], nil
}

// freeAddress is a loopback address that nobody listened on a moment ago.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// tail keeps the end of what a process writes.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

const tailSize = 4 << 10

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p...)
	t.kept = t.kept[max(0, len(t.kept)-tailSize):]
	return len(p), nil
}

func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.kept))
}
