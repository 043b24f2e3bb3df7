package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"longshore.dev/longshore/internal/edge"
	"longshore.dev/longshore/internal/nodestate"
	"longshore.dev/longshore/internal/pki"
	"longshore.dev/longshore/internal/tcp"
	"longshore.dev/longshore/internal/wire/sigv4"
)

// Times of the supervision of the edge.
const (
	// lookEvery is how often the edge is asked whether it is there.
	lookEvery = time.Second
	// startLimit is how long a new one may take to answer.
	startLimit = 10 * time.Second
	// firstPause doubles with each start in a row that failed, up to mostPause.
	firstPause, mostPause = time.Second, 30 * time.Second
	// idleLimit ends an edge that has had nothing to serve for so long.
	idleLimit = time.Minute
)

// maxEdgeLog is from what size on the edge's log is begun anew.
const maxEdgeLog = 10 << 20

// edgeDirOf is where the edge's control socket is: it outlives the node.
func edgeDirOf(dataDir string) string {
	return filepath.Join("/run/longshore", nameOf(dataDir)+"-edge")
}

// supervisor keeps the node's edge process, which goes on when the node ends: one of the
// same executable is given its configuration, one of another is replaced by it.
type supervisor struct {
	node   *Node
	config edge.Config
	// wanted: there is something to serve.
	wanted atomic.Bool
	// idleSince is when there was nothing to serve any more.
	idleSince time.Time
	pause     time.Duration
	notBefore time.Time
}

func newSupervisor(n *Node) (*supervisor, error) {
	o := &n.options
	identity, err := executable(o.Version)
	if err != nil {
		return nil, err
	}
	return &supervisor{node: n, pause: firstPause, config: edge.Config{
		Server: o.Endpoint, Region: o.Region, AccessKeyID: o.Credentials.AccessKeyID, SecretAccessKey: o.Credentials.SecretAccessKey, CA: o.Credentials.CA,
		RunDir: edgeDirOf(o.DataDir), StateDir: filepath.Join(o.DataDir, "node", "edge"), Identity: identity,
	}}, nil
}

// executable tells this process's executable from others.
func executable(version string) (string, error) {
	info, err := os.Stat("/proc/self/exe")
	if err != nil {
		return "", fmt.Errorf("look at the executable: %w", err)
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", errors.New("look at the executable: it has no inode")
	}
	return fmt.Sprintf("%s %d:%d %d %d", version, s.Dev, s.Ino, info.Size(), info.ModTime().UnixNano()), nil
}

// run supervises until ctx ends; the edge goes on.
func (s *supervisor) run(ctx context.Context) error {
	follower, err := s.follower()
	if err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = follower.Run(ctx) // returns at ctx's end, nothing else
	}()
	defer func() { <-done }()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		s.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// follower learns whether there is anything to serve.
func (s *supervisor) follower() (*nodestate.Follower, error) {
	trust, err := pki.Trusting([]byte(s.config.CA))
	if err != nil {
		return nil, err
	}
	c := s.config
	return nodestate.NewFollower(nodestate.FollowerOptions{
		URL: c.Server + edge.StatePath, Kind: edge.Kind,
		Client: &http.Client{Transport: &http.Transport{TLSClientConfig: trust, DialContext: tcp.Dialer().DialContext}},
		Sign: func(r *http.Request) error {
			return sigv4.Sign(r, sigv4.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey}, c.Region, "ecs", sigv4.Hash(nil), time.Now())
		},
		Apply: func(entries nodestate.Entries) error {
			s.wanted.Store(edge.Serves(entries))
			return nil
		},
		Log: s.node.options.Log,
	}), nil
}

// look sees to it that an edge runs if one is wanted.
func (s *supervisor) look(ctx context.Context) {
	log := s.node.options.Log
	status, err := edge.Configure(s.config.RunDir, s.config)
	wanted := s.wanted.Load()
	switch {
	case err == nil && status.Identity == s.config.Identity:
		s.pause = firstPause
		s.idle(wanted)
		return
	case err != nil && !errors.Is(err, edge.ErrNone):
		log.Warn("the edge does not take its configuration; it is asked again", "error", err)
		return
	case err != nil && !wanted, time.Now().Before(s.notBefore):
		return
	}
	if err := s.start(ctx); err != nil && ctx.Err() == nil {
		log.Error("the edge, which serves this node's load balancers, does not start; it is tried again", "log", s.logFile(), "error", err, "nextAttemptIn", s.pause)
		s.notBefore, s.pause = time.Now().Add(s.pause), min(2*s.pause, mostPause)
	}
}

// idle ends an edge that has had nothing to serve for a while.
func (s *supervisor) idle(wanted bool) {
	switch {
	case wanted:
		s.idleSince = time.Time{}
	case s.idleSince.IsZero():
		s.idleSince = time.Now()
	case time.Since(s.idleSince) > idleLimit:
		s.idleSince = time.Time{}
		if err := edge.Stop(s.config.RunDir); err != nil {
			s.node.options.Log.Warn("the edge has nothing to serve and does not end", "error", err)
		}
	}
}

func (s *supervisor) logFile() string { return filepath.Join(s.config.StateDir, "log") }

// start starts a process and waits until it answers. It has a session of its own, and
// nothing of this process but the log file; its configuration comes over a pipe.
func (s *supervisor) start(ctx context.Context) error {
	if err := os.MkdirAll(s.config.StateDir, 0o700); err != nil {
		return fmt.Errorf("make the edge's directory: %w", err)
	}
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if info, err := os.Stat(s.logFile()); err == nil && info.Size() > maxEdgeLog {
		flags |= os.O_TRUNC
	}
	log, err := os.OpenFile(s.logFile(), flags, 0o600)
	if err != nil {
		return fmt.Errorf("open the edge's log: %w", err)
	}
	defer log.Close()
	config, err := json.Marshal(s.config)
	if err != nil {
		return err
	}
	c := exec.Command("/proc/self/exe", "edge")
	c.Args[0] = "longshore"
	c.Stdin, c.Stdout, c.Stderr, c.Dir = bytes.NewReader(config), log, log, "/"
	c.Env = []string{"PATH=" + os.Getenv("PATH")} // nothing that may be secret
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return fmt.Errorf("start the edge: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }() // it is reaped whenever it ends
	err = s.await(ctx, c.Process.Pid, ended)
	if err != nil && ctx.Err() == nil {
		_ = c.Process.Kill() // there are to be no two
	}
	return err
}

// await waits until a process answers as the edge.
func (s *supervisor) await(ctx context.Context, pid int, ended <-chan error) error {
	limit, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		status, err := edge.Configure(s.config.RunDir, s.config)
		if err == nil && status.PID == pid {
			return nil
		}
		select {
		case err := <-ended:
			return fmt.Errorf("the edge has ended: %w", errors.Join(err, errors.New("its log says why")))
		case <-limit.Done():
			return fmt.Errorf("the edge does not answer: %w", errors.Join(err, context.Cause(limit)))
		case <-time.After(20 * time.Millisecond):
		}
	}
}
