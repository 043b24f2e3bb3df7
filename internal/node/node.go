package node

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"longshore.dev/longshore/internal/agent"
	"longshore.dev/longshore/internal/atomicfile"
	"longshore.dev/longshore/internal/edge"
	"longshore.dev/longshore/internal/image"
	"longshore.dev/longshore/internal/network"
	"longshore.dev/longshore/internal/pki"
	"longshore.dev/longshore/internal/runtime/native"
	"longshore.dev/longshore/internal/tcp"
	"longshore.dev/longshore/internal/wire/sigv4"
)

// Options are what a node is started with.
type Options struct {
	// DataDir holds what survives a reboot; the node's part is in its folder "node".
	DataDir               string
	Cluster, Region, Zone string
	// Endpoint is the control plane's base URL.
	Endpoint    string
	Credentials Credentials
	// Universal offers the node to every cluster, Fargate to FARGATE tasks; the
	// control plane must allow it.
	Universal, Fargate bool
	// ENISubnets are the subnets that awsvpc tasks have their addresses in.
	ENISubnets []netip.Prefix
	Images     ImageSettings
	Version    string
	Log        *slog.Logger
}

// Node is a machine's node.
type Node struct {
	options Options
	runDir  string
	lock    *os.File

	images   *image.Local
	networks *network.Linux
	runtime  *native.Runtime
	agent    *agent.Agent
}

// LocalID returns the id of the node with this data directory, drawn once.
func LocalID(dataDir string) (string, error) {
	path := filepath.Join(dataDir, "node", "id")
	raw, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(raw)), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read the node's id: %w", err)
	}
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("draw the node's id: %w", err)
	}
	id := hex.EncodeToString(b[:])
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("make the node's directory: %w", err)
	}
	return id, atomicfile.Write(path, []byte(id+"\n"))
}

// nameOf is the name that everything of the node on this machine carries (links,
// tables, cgroups): nodes with different data directories never meet.
func nameOf(dataDir string) string {
	sum := sha256.Sum256([]byte(filepath.Clean(dataDir)))
	return hex.EncodeToString(sum[:4])
}

// runDirOf is where what a reboot ends is kept.
func runDirOf(dataDir string) string { return filepath.Join("/run/longshore", nameOf(dataDir)) }

// Open opens the node's parts; what ran before is found again. Run or Close must follow.
func Open(ctx context.Context, o Options) (*Node, error) {
	dataDir, err := filepath.Abs(o.DataDir)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	o.DataDir = dataDir
	n := &Node{options: o, runDir: runDirOf(o.DataDir)}
	if err := n.open(ctx); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *Node) open(ctx context.Context) (err error) {
	o := &n.options
	dir, name := filepath.Join(o.DataDir, "node"), nameOf(o.DataDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the node's directory: %w", err)
	}
	if n.lock, err = lockDir(dir); err != nil {
		return err
	}
	if err := prepareRunDir(n.runDir); err != nil {
		return err
	}
	images, err := o.Images.options(o.DataDir, o.Log)
	if err != nil {
		return err
	}
	// The three parts wait on different things (bolt, netlink, shims): side by side.
	var parts errgroup.Group
	parts.Go(func() (err error) {
		if n.images, err = image.Open(images); err != nil {
			return err
		}
		return n.images.EnsureSample(ctx)
	})
	parts.Go(func() (err error) {
		n.networks, err = network.New(network.Options{
			Node: name, StateDir: filepath.Join(dir, "network"), RunDir: filepath.Join(n.runDir, "network"),
			ENISubnets: o.ENISubnets, Log: o.Log,
		})
		return err
	})
	parts.Go(func() (err error) {
		n.runtime, err = native.New(ctx, native.Options{
			StateDir: filepath.Join(dir, "runtime"), RunDir: filepath.Join(n.runDir, "runtime"), Node: name,
			Prestart: true, Logger: o.Log,
		})
		return err
	})
	if err := parts.Wait(); err != nil {
		return err
	}
	options, err := n.agentOptions(dir)
	if err != nil {
		return err
	}
	n.agent, err = agent.New(options)
	return err
}

func (n *Node) agentOptions(dir string) (agent.Options, error) {
	o := n.options
	tlsConfig, err := pki.Trusting([]byte(o.Credentials.CA))
	if err != nil {
		return agent.Options{}, err
	}
	endpoint, err := url.Parse(o.Endpoint)
	if err != nil {
		return agent.Options{}, fmt.Errorf("the control plane's endpoint: %w", err)
	}
	attributes := map[string]string{}
	if o.Universal {
		attributes["longshore.universal"] = "true"
	}
	if o.Fargate {
		attributes["longshore.fargate"] = "true"
	}
	credentials := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: o.Credentials.AccessKeyID, SecretAccessKey: o.Credentials.SecretAccessKey, Source: "longshore node"}, nil
	})
	transport := &http.Transport{TLSClientConfig: tlsConfig, DialContext: tcp.Dialer().DialContext, MaxIdleConns: 128, MaxIdleConnsPerHost: 64, IdleConnTimeout: 90 * time.Second}
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	return agent.Options{
		DataDir: dir, RunDir: n.runDir, Cluster: o.Cluster, Region: o.Region, Zone: o.Zone, Attributes: attributes, Version: o.Version,
		Images: n.images, Networks: n.networks, Runtime: n.runtime, CleanImages: o.Images.cleanEvery(),
		Logs:    &logDrivers{region: o.Region, node: credentials, logs: logsClients(o, client), log: o.Log},
		Control: ecs.New(ecs.Options{Region: o.Region, BaseEndpoint: aws.String(o.Endpoint), Credentials: credentials, HTTPClient: client}),
		Sign: func(r *http.Request, payload []byte) error {
			return sigv4.Sign(r, sigv4.Credentials{AccessKeyID: o.Credentials.AccessKeyID, SecretAccessKey: o.Credentials.SecretAccessKey},
				o.Region, "ecs", sigv4.Hash(payload), time.Now())
		},
		// Websockets outlive any request timeout.
		HTTPClient: &http.Client{Transport: transport},
		API:        agent.API{Endpoint: endpoint, Transport: transport},
		Now:        time.Now, NewID: uuid.NewString, Log: o.Log,
	}, nil
}

// Run is the node's life until ctx ends. Containers run on.
func (n *Node) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return n.agent.Run(ctx) })
	group.Go(func() error { return n.serveLocal(ctx) })
	supervisor, err := newSupervisor(n)
	if err != nil {
		return errors.Join(err, n.Close())
	}
	group.Go(func() error { return supervisor.run(ctx) })
	return errors.Join(group.Wait(), n.Close())
}

// StopTasks stops every task, and returns when the control plane knows it. The edge, which
// has nothing left to send requests to, ends too.
func (n *Node) StopTasks(ctx context.Context) error {
	return errors.Join(n.agent.StopTasks(ctx), edge.Stop(edgeDirOf(n.options.DataDir)))
}

// idle tells that no task has anything on the machine.
func (n *Node) idle() bool {
	if n.runtime == nil {
		return false
	}
	sandboxes, err := n.networks.Sandboxes(context.Background())
	if err != nil || len(sandboxes) > 0 {
		return false
	}
	containers, err := n.runtime.List(context.Background())
	return err == nil && len(containers) == 0
}

// Close releases what Open took. What the node's tasks share on the machine goes
// with the last of them.
func (n *Node) Close() error {
	var errs []error
	idle := false
	if n.networks != nil {
		if idle = n.idle(); idle {
			errs = append(errs, n.networks.Destroy(context.Background()))
		}
		errs = append(errs, n.networks.Close())
	}
	if n.runtime != nil {
		errs = append(errs, n.runtime.Close())
	}
	if n.images != nil {
		errs = append(errs, n.images.Close())
	}
	if idle {
		errs = append(errs, removeRunDir(n.runDir))
	}
	if n.lock != nil {
		errs = append(errs, n.lock.Close())
	}
	n.networks, n.runtime, n.images, n.lock = nil, nil, nil, nil
	return errors.Join(errs...)
}
