package control

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"gopkg.in/natefinch/lumberjack.v2"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/bulk/pebblebulk"
	"longshore.dev/longshore/internal/events"
	"longshore.dev/longshore/internal/join"
	"longshore.dev/longshore/internal/nodestate"
	"longshore.dev/longshore/internal/seal"
	"longshore.dev/longshore/internal/service/ecs"
	"longshore.dev/longshore/internal/service/elbv2"
	"longshore.dev/longshore/internal/service/iam"
	"longshore.dev/longshore/internal/service/logs"
	"longshore.dev/longshore/internal/service/sts"
	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/store/etcdkv"
	"longshore.dev/longshore/internal/wire"
	"longshore.dev/longshore/internal/wire/constraint"
)

// drainTimeout is how long a stopping server waits for calls under way.
const drainTimeout = 10 * time.Second

// The audit log is kept in so many files of so many MB.
const auditFileMB, auditFiles = 64, 8

// Server is one control plane: the API, the rooms and their loops.
type Server struct {
	config   Config
	log      *slog.Logger
	listener net.Listener
	// also listens on port 443, nil where that is not possible.
	also        net.Listener
	trust       trust
	authorities *store.Table[authorityRecord]
	ring        *seal.Keyring
	backingUp   sync.Mutex    // held while a backup is sent
	rotating    sync.Mutex    // held while the root keys change
	rotated     chan struct{} // wakes resealLoop
	access      Access

	kv    *etcdkv.KV
	db    *store.DB
	bulk  *pebblebulk.DB
	audit *lumberjack.Logger

	iam  *iam.Service
	ecs  *ecs.Service
	logs *logs.Service
	elb  *elbv2.Service
	// state is the stream that nodes are told by what they must know besides tasks.
	state *nodestate.Hub
	// events are what happens, for who follows it.
	events *events.Bus

	registry   *wire.Registry
	api        *wire.Server
	sessions   *acs.Server
	authorizer wire.Authorizer
	auditor    wire.Auditor
	throttler  wire.Throttler
	attempts   attempts
	now        func() time.Time
}

// newID returns 32 random lower-case hex digits.
func newID() string {
	id := uuid.New()
	return fmt.Sprintf("%x", id[:])
}

// Open brings a server up to the point where it can serve: it listens, its store
// is loaded and its rooms are built. Run or Close must follow.
func Open(ctx context.Context, config Config) (*Server, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	if err := prepareDir(config.DataDir, config.Log); err != nil {
		return nil, err
	}
	if err := checkRestored(config.DataDir); err != nil {
		return nil, err
	}
	if config.RequestRates == nil {
		scale := DefaultRequestRates
		config.RequestRates = &scale
	}
	if config.keyGrace == 0 {
		config.keyGrace = keyGrace
	}
	if config.Limits == (wire.Limits{}) {
		config.Limits = wire.DefaultLimits()
	}
	s := &Server{config: config, log: config.Log, now: time.Now, rotated: make(chan struct{}, 1)}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Server) open(ctx context.Context) (err error) {
	s.ring = &seal.Keyring{}
	if s.kv, err = openKV(ctx, &s.config); err != nil {
		return err
	}
	if s.listener, err = listen(ctx, s.config.Listen); err != nil {
		return err
	}
	if s.bulk, err = pebblebulk.Open(filepath.Join(s.config.DataDir, "bulk"), pebblebulk.Options{Log: s.log}); err != nil {
		return err
	}
	if err := s.build(); err != nil {
		return err
	}
	if err := s.db.Start(ctx); err != nil {
		return err
	}
	if err := s.unlock(ctx); err != nil {
		return err
	}
	// No agent is connected to a server that starts, whatever the last one wrote.
	if err := s.ecs.ResetConnectivity(ctx); err != nil {
		return err
	}
	if err := s.secure(ctx); err != nil {
		return err
	}
	if s.trust.config != nil {
		s.listenOn443(ctx)
	}
	return s.ensureAccess(ctx)
}

func openKV(ctx context.Context, c *Config) (*etcdkv.KV, error) {
	if len(c.Etcd.Endpoints) == 0 {
		return etcdkv.OpenEmbedded(ctx, etcdkv.Embedded{Dir: filepath.Join(c.DataDir, "etcd"), Log: c.Log, Now: time.Now})
	}
	return etcdkv.OpenRemote(ctx, etcdkv.Remote{
		Endpoints: c.Etcd.Endpoints, CAFile: c.Etcd.CAFile, CertFile: c.Etcd.CertFile, KeyFile: c.Etcd.KeyFile,
		Username: c.Etcd.Username, Password: c.Etcd.Password, Prefix: c.Etcd.Prefix,
	})
}

// build makes the rooms and wires what one needs of another.
func (s *Server) build() (err error) {
	s.db = store.New(s.kv, store.Options{Log: s.log})
	s.authorities = store.NewTable[authorityRecord](s.db, "control.authority")
	s.iam = iam.New(iam.Deps{DB: s.db, Sealer: s.ring, Now: time.Now, CertificateUser: func(arn string) string { return s.elb.CertificateUser(arn) }})
	if s.logs, err = logs.New(logs.Deps{DB: s.db, Events: s.bulk.Logs(), Now: time.Now, NewID: newID, Log: s.log}); err != nil {
		return err
	}
	s.events = events.New()
	if s.elb, err = elbv2.New(elbv2.Deps{DB: s.db, Network: balancerNetwork{s}, Certificates: s.iam, Now: time.Now, NewID: newID, Log: s.log}); err != nil {
		return err
	}
	s.ecs, err = ecs.New(ecs.Deps{
		DB: s.db, History: s.bulk.History(), Now: time.Now, NewID: newID, Log: s.log, Endpoint: s.Endpoint(),
		LostAfter: s.config.LostAfter, Roles: roles{s}, Balancer: balancers{s.elb}, Infrastructure: acting{s}, Events: s.events,
	})
	if err != nil {
		return err
	}
	s.audit = &lumberjack.Logger{Filename: filepath.Join(s.config.DataDir, "audit.log"), MaxSize: auditFileMB, MaxBackups: auditFiles}
	s.auditor = wire.NewAuditor(s.audit, s.log)
	s.throttler = newThrottler(*s.config.RequestRates)
	s.authorizer = s.iam.Noting(&iam.Authorizer{Holders: s.iam, Nodes: map[string]iam.Nodes{"ecs": s.ecs, "logs": logsForNodes{s.ecs}}})
	s.registry = wire.NewRegistry(wire.Chain{
		Credentials: s.iam, Constraints: constraint.New().Check,
		Authorizer: s.authorizer,
		Throttler:  s.throttler,
		Auditor:    s.auditor,
		Now:        time.Now, NewID: uuid.NewString, Log: s.log,
	})
	s.iam.Register(s.registry)
	sts.New(sts.Deps{Roles: s.iam, Now: time.Now}).Register(s.registry)
	s.ecs.Register(s.registry)
	s.logs.Register(s.registry)
	s.elb.Register(s.registry)
	s.api = wire.NewServer(s.registry)
	s.sessions = acs.NewServer(s.ecs, s.authenticateAgent, newID, s.log)
	s.api.HandleInternal("GET "+acsPath, http.HandlerFunc(s.sessions.ServeACS))
	s.api.HandleInternal("GET "+tcsPath, http.HandlerFunc(s.sessions.ServeTCS))
	s.api.HandleInternal("POST "+join.Path, http.HandlerFunc(s.serveJoin))
	s.handleEdges()
	s.handleAdmin()
	return nil
}

// newThrottler holds callers to AWS's rates times scale; 0 to none. Agents of ours
// are not throttled, but Amazon's may all have one account's key, and a whole fleet
// of them comes back at once: what agents call by themselves has rates that stop
// runaways only.
func newThrottler(scale float64) wire.Throttler {
	if scale == 0 {
		return nil
	}
	return wire.NewTokenBuckets(wire.DefaultRate(), append(wire.Quotas(scale), wire.Group{
		Service: "ecs",
		Operations: []string{
			"DiscoverPollEndpoint", "RegisterContainerInstance", "SubmitAttachmentStateChanges",
			"SubmitContainerStateChange", "SubmitTaskStateChange",
		},
		Rate: wire.Rate{PerSecond: 10_000, Burst: 20_000},
	}))
}

// authenticate verifies an agent's websocket handshake or signed frame.
func (s *Server) authenticate(r *http.Request, body []byte) (wire.Principal, string, error) {
	principal, signature, err := s.api.Authenticate(r, body)
	if err != nil {
		return wire.Principal{}, "", err
	}
	if signature.Service != "ecs" {
		return wire.Principal{}, "", wire.Errorf("InvalidSignatureException", "the signature is for the service %q, not ecs", signature.Service)
	}
	return principal, signature.Region, nil
}

// ensureAccess makes sure that there are a default cluster and a root key, and
// leaves on disk how this machine's owner reaches the server.
func (s *Server) ensureAccess(ctx context.Context) error {
	if err := s.ecs.EnsureDefaultCluster(ctx, s.config.Account, s.config.Region); err != nil {
		return err
	}
	root, err := s.iam.EnsureRoot(ctx, s.config.Account, s.config.Root)
	if err != nil {
		return err
	}
	s.access = Access{
		Endpoint: s.Endpoint(), Region: s.config.Region, Account: s.config.Account,
		AccessKeyID: root.ID, SecretAccessKey: root.Secret,
	}
	if len(s.trust.pem) > 0 {
		s.access.CAFile = caPath(s.config.DataDir)
	}
	return writeAccess(s.config.DataDir, s.ring, s.access)
}

// Endpoint is the API's base URL on this machine.
func (s *Server) Endpoint() string {
	return endpointURL(s.listener.Addr(), s.config.TLS.wanted(s.listener.Addr()))
}

// On443 tells whether the API is served on port 443 as well.
func (s *Server) On443() bool { return s.also != nil }

// CA is the certificate of the server's authority in PEM, nil when it has none.
func (s *Server) CA() []byte { return s.trust.pem }

// Access is how the server's owner reaches it.
func (s *Server) Access() Access { return s.access }

// Subnets are the address ranges of the account's VPC, which nodes must carry.
func (s *Server) Subnets() []netip.Prefix {
	var all []netip.Prefix
	for _, subnet := range s.ecs.Subnets(s.config.Account, s.config.Region) {
		all = append(all, subnet.CIDR)
	}
	return all
}

// AddNode makes a node known, with what it may serve, and returns its access key.
func (s *Server) AddNode(ctx context.Context, id string, all, fargate bool) (iam.AccessKey, error) {
	if err := s.ecs.PutNode(ctx, s.config.Account, s.config.Region, ecs.Admission{NodeID: id, All: all, Fargate: fargate}); err != nil {
		return iam.AccessKey{}, err
	}
	return s.iam.EnsureNode(ctx, s.config.Account, id)
}

// Run serves until ctx ends or a part dies, and then closes everything.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	server := wire.NewHTTPServer(s.api, s.config.Limits)
	// What strangers do to the port (handshakes that fail) is no news.
	server.ErrorLog = slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)
	for _, l := range []net.Listener{s.listener, s.also} {
		if l == nil {
			continue
		}
		if s.trust.config != nil {
			l = tls.NewListener(l, s.trust.config)
		}
		group.Go(func() error {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("the API stopped serving: %w", err)
			}
			return nil
		})
	}
	group.Go(func() error {
		<-ctx.Done()
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		s.sessions.Close()
		s.state.Close()
		s.events.Close()
		if err := server.Shutdown(drain); err != nil {
			return errors.Join(err, server.Close())
		}
		return nil
	})
	group.Go(func() error { return s.iam.Run(ctx, s.log) })
	group.Go(func() error { return s.resealLoop(ctx) })
	group.Go(func() error { return s.ecs.Run(ctx) })
	group.Go(func() error { return s.logs.Run(ctx) })
	group.Go(func() error { return s.elb.Run(ctx) })
	group.Go(func() error {
		select {
		case <-s.kv.Stopped():
			return fmt.Errorf("the store stopped: %w", s.kv.Err())
		case <-s.db.Stopped():
			return fmt.Errorf("the store's view stopped: %w", s.db.Err())
		case <-ctx.Done():
			return nil
		}
	})
	return errors.Join(group.Wait(), s.Close())
}

// Close releases what Open took, in reverse. It may be called twice.
func (s *Server) Close() error {
	var errs []error
	for _, l := range []net.Listener{s.listener, s.also} {
		if l == nil {
			continue
		}
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.bulk != nil {
		errs = append(errs, s.bulk.Close())
	}
	if s.kv != nil {
		errs = append(errs, s.kv.Close())
	}
	if s.audit != nil {
		errs = append(errs, s.audit.Close())
	}
	s.listener, s.also, s.db, s.bulk, s.kv, s.audit = nil, nil, nil, nil, nil, nil
	return errors.Join(errs...)
}
