package ecs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"longshore.dev/longshore/internal/bulk"
	"longshore.dev/longshore/internal/reconcile"
	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

// Deps is what the room needs. Fields without a default are required.
type Deps struct {
	DB *store.DB
	// History takes stopped tasks over; nil drops them.
	History bulk.History
	Now     func() time.Time
	// NewID returns 32 random lower-case hex digits.
	NewID func() string
	Log   *slog.Logger
	// Endpoint is the base URL at which agents reach this server,
	// "http://127.0.0.1:4566".
	Endpoint string
	VPC      VPC
	// StoppedFor is how long a stopped task stays visible; 0 means an hour.
	StoppedFor time.Duration
	// LostAfter is how long a node's agent may be away before the node counts as
	// lost and its tasks are stopped; 0 means DefaultLostAfter.
	LostAfter time.Duration
	// HealthyAfter is how long a service's task without a health check runs before it
	// counts as healthy; 0 means DefaultHealthyAfter.
	HealthyAfter time.Duration
	// Balancer has the target groups of services; nil: services can't have any.
	Balancer Balancer
	// Events takes what happens to tasks, instances and services; nil: nobody does.
	Events Bus
	// Infrastructure acts for services under their roles; nil: deployments can't shift
	// traffic.
	Infrastructure Infrastructure
	// Roles makes the credentials of tasks' roles; nil: a task with a role can't start.
	Roles Roles
}

// VPC describes the built-in VPC that task ENIs get their addresses from.
type VPC struct {
	// CIDR is divided into one /20 (or the largest that fits) for each zone;
	// the zero value means 172.31.0.0/16. It must not overlap the bridge's network.
	CIDR netip.Prefix
	// Zones are the letters of the availability zones; none means "a", "b", "c".
	Zones []string
}

// Service is the ECS room.
type Service struct {
	tables
	deps Deps
	db   *store.DB
	log  *slog.Logger
	now  func() time.Time
	id   func() string

	wakers wakers
	fixed  fixedCandidates
	// sessions holds the ids of the agents' sessions that this process serves.
	sessions sync.Map
	// nodeLoop gives up the tasks of nodes that are lost or deregistered (lost.go).
	nodeLoop *reconcile.Loop
	// serviceLoop keeps services as they should be (service_loop.go).
	serviceLoop *reconcile.Loop
	// targetLoop registers tasks with load balancers, and deregisters them (target.go).
	targetLoop *reconcile.Loop
	// trafficLoop has load balancers shift traffic, and runs lifecycle hooks (traffic.go).
	trafficLoop *reconcile.Loop
}

// New builds the room and declares its tables on deps.DB, which must not have
// been started yet.
func New(deps Deps) (*Service, error) {
	if deps.DB == nil || deps.Now == nil || deps.NewID == nil {
		return nil, errors.New("ecs: Deps.DB, Now and NewID are required")
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.StoppedFor == 0 {
		deps.StoppedFor = time.Hour
	}
	if deps.LostAfter == 0 {
		deps.LostAfter = DefaultLostAfter
	}
	if deps.HealthyAfter == 0 {
		deps.HealthyAfter = DefaultHealthyAfter
	}
	if err := deps.VPC.complete(); err != nil {
		return nil, fmt.Errorf("ecs: %w", err)
	}
	s := &Service{
		tables: declareTables(deps.DB), deps: deps, db: deps.DB,
		log: deps.Log, now: deps.Now, id: deps.NewID,
	}
	s.watchAssignments()
	s.watchNodes()
	s.watchServices()
	s.watchTargets()
	s.watchTraffic()
	s.watchEvents()
	return s, nil
}

// scopeOf returns the account and region that a call acts in.
func scopeOf(ctx context.Context) store.Scope {
	c := wire.CallFrom(ctx)
	return store.Scope{Account: c.Account, Region: c.Region}
}
