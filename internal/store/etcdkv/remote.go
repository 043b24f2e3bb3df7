package etcdkv

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"longshore.dev/longshore/internal/store"
)

// Remote configures the client of an existing etcd cluster.
type Remote struct {
	// Endpoints are URLs or host:port pairs.
	Endpoints []string
	// CAFile, CertFile and KeyFile are PEM files for TLS; with https endpoints
	// and no CAFile the system's roots are used.
	CAFile, CertFile, KeyFile string
	Username, Password        string
	// Prefix is put before every key, so that several installations can share a
	// cluster ("": none).
	Prefix string
	// MaxTxnOps and MaxRequestBytes are the cluster's --max-txn-ops and
	// --max-request-bytes (0: etcd's defaults, 128 and 1.5 MiB).
	MaxTxnOps, MaxRequestBytes int
	// DialTimeout bounds the first contact (0: 10 s).
	DialTimeout time.Duration
}

func (o Remote) withDefaults() Remote {
	if o.MaxTxnOps <= 0 {
		o.MaxTxnOps = 128
	}
	if o.MaxRequestBytes <= 0 {
		o.MaxRequestBytes = 3 << 19
	}
	if o.DialTimeout <= 0 {
		o.DialTimeout = 10 * time.Second
	}
	return o
}

// reconnect bounds how long after an outage the cluster is found again: gRPC's
// own backoff grows to two minutes.
var reconnect = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
	MinConnectTimeout: 3 * time.Second,
}

// OpenRemote connects to a cluster and makes sure that it answers.
func OpenRemote(ctx context.Context, opts Remote) (*KV, error) {
	opts = opts.withDefaults()
	if len(opts.Endpoints) == 0 {
		return nil, errors.New("store: no etcd endpoint was given")
	}
	tlsConfig, err := opts.tls()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, opts.DialTimeout)
	defer cancel()
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            opts.Endpoints,
		TLS:                  tlsConfig,
		Username:             opts.Username,
		Password:             opts.Password,
		DialTimeout:          opts.DialTimeout,
		DialKeepAliveTime:    5 * time.Second,
		DialKeepAliveTimeout: 3 * time.Second,
		MaxCallSendMsgSize:   opts.MaxRequestBytes + 1<<20,
		DialOptions:          []grpc.DialOption{grpc.WithConnectParams(reconnect)},
		Logger:               zap.NewNop(),
	})
	if err != nil {
		return nil, opts.unreachable(err)
	}
	kv := newKV(client, opts.Prefix, limits{txnOps: opts.MaxTxnOps, requestBytes: opts.MaxRequestBytes})
	kv.watchContext = clientv3.WithRequireLeader
	if _, err := kv.Get(ctx, "ls/probe"); err != nil && !errors.Is(err, store.ErrNotFound) {
		kv.Close()
		return nil, opts.unreachable(err)
	}
	return kv, nil
}

func (o Remote) unreachable(err error) error {
	return fmt.Errorf("%w: the etcd cluster at %s does not serve us: check the endpoints, the certificates and that it has a leader: %w",
		store.ErrUnavailable, strings.Join(o.Endpoints, ","), err)
}

func (o Remote) tls() (*tls.Config, error) {
	secure := o.CAFile != "" || o.CertFile != "" || o.KeyFile != ""
	for _, e := range o.Endpoints {
		secure = secure || strings.HasPrefix(e, "https://")
	}
	if !secure {
		return nil, nil
	}
	info := transport.TLSInfo{TrustedCAFile: o.CAFile, CertFile: o.CertFile, KeyFile: o.KeyFile}
	cfg, err := info.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("store: the TLS files for etcd (CA %q, certificate %q, key %q): %w", o.CAFile, o.CertFile, o.KeyFile, err)
	}
	return cfg, nil
}
