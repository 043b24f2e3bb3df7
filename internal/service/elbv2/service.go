package elbv2

import (
	"context"
	_ "embed" // operations.txt
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

//go:embed operations.txt
var operations string

// Subnet is what load balancers need of a subnet.
type Subnet struct{ ID, VPC, Zone string }

// Network is what the room needs of the VPC.
type Network interface {
	// Subnets returns an account's subnets in a region.
	Subnets(account, region string) []Subnet
	// DefaultSecurityGroup is what a load balancer has that names none.
	DefaultSecurityGroup(account, region string) string
	// Instance returns the address at which an instance's host ports are reached; ok is
	// false if there is no such instance.
	Instance(account, region, id string) (address netip.Addr, ok bool)
}

// Certificates has the certificates that listeners present.
type Certificates interface {
	// ServerCertificate returns the chain and the private key of an ARN, in PEM.
	ServerCertificate(arn string) (chain, key string, err error)
}

// Deps is what the room needs; all but Certificates, Log and Addresses is required.
type Deps struct {
	DB      *store.DB
	Network Network
	// Certificates is nil where there are none.
	Certificates Certificates
	Now          func() time.Time
	// NewID returns 32 random lower-case hex digits.
	NewID func() string
	Log   *slog.Logger
	// Addresses is where load balancers get their addresses from; by default
	// 198.18.0.0/16, which no network uses: each machine that serves has them for itself.
	Addresses netip.Prefix
}

// Service is the room.
type Service struct {
	tables
	deps Deps
	db   *store.DB
	log  *slog.Logger

	// started: what data planes said before that is forgotten.
	started time.Time

	mu     sync.Mutex        // guards what follows
	health map[string]*plane // by account, node and process
	notify []func()
	groups []func(account, region, group string)
}

// New builds the room and declares its tables on deps.DB, which must not have been started.
func New(deps Deps) (*Service, error) {
	if deps.DB == nil || deps.Network == nil || deps.Now == nil || deps.NewID == nil {
		return nil, errors.New("elbv2: Deps.DB, Network, Now and NewID are required")
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if !deps.Addresses.IsValid() {
		deps.Addresses = netip.MustParsePrefix("198.18.0.0/16")
	}
	s := &Service{tables: declareTables(deps.DB), deps: deps, db: deps.DB, log: deps.Log, started: deps.Now(), health: map[string]*plane{}}
	s.watch()
	return s, nil
}

func scopeOf(ctx context.Context) store.Scope {
	c := wire.CallFrom(ctx)
	return store.Scope{Account: c.Account, Region: c.Region}
}

// Register registers the room's operations.
func (s *Service) Register(r *wire.Registry) {
	w := r.Add(wire.ServiceInfo{
		Name: "elbv2", SigningName: "elasticloadbalancing", Protocols: []wire.Protocol{wire.AWSQuery},
		APIVersion: "2015-12-01", XMLNamespace: "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/",
		ResourceConditions: s.resourceConditions,
		Knows:              func(operation string) bool { return strings.Contains("\n"+operations, "\n"+operation+" ") },
	})
	s.registerBalancers(w)
	s.registerGroups(w)
	s.registerListeners(w)
}

// fail is an error with AWS's code.
func fail(code, format string, args ...any) error { return wire.Errorf(code, format, args...) }

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

func pointer[T any](v T) *T { return &v }
