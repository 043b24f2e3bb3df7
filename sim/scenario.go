package main

import (
	"fmt"
	"slices"
	"time"

	awsecs "github.com/aws/aws-sdk-go-v2/service/ecs"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// Scenario is what a run is made of, but for its seed.
type Scenario struct {
	Name     string
	Nodes    int
	Services int
	MaxCount int // tasks of a service
	NodeCPU  int32
	// NodeMemory in MiB.
	NodeMemory int32
	// Tight: there may be less room than is wanted.
	Tight, SmallVPC, NoHealth, NoDaemons bool
	// Brief ends without the hours after which all is forgotten.
	Brief       bool
	BadVersions float64
	Faults      Faults
	// For is how long there are faults, Settle how long it may take after them.
	For, Settle time.Duration
	OpEvery     time.Duration
	CheckEvery  time.Duration
	LoopLatency time.Duration
	// Downtime is how long the server stays away at most.
	Downtime time.Duration
}

var usual = Faults{
	Lose: 0.02, Duplicate: 0.03, Slow: 0.02, Disk: 0.02, Crash: 0.001, Store: 0.004, Overtake: 0.05, Conflict: 0.03,
	CutEvery: 20 * time.Minute, ChaosEvery: 90 * time.Second, Skew: 6 * time.Hour,
}

// scenarios are run in turn.
func scenarios() []Scenario {
	mixed := Scenario{
		Name: "mixed", Nodes: 9, Services: 5, MaxCount: 8, NodeCPU: 8192, NodeMemory: 16384, BadVersions: 0.2, Faults: usual,
		For: 40 * time.Minute, Settle: 25 * time.Minute, OpEvery: 20 * time.Second, CheckEvery: time.Minute,
		LoopLatency: 50 * time.Millisecond, Downtime: time.Minute,
	}
	quiet := mixed
	quiet.Name, quiet.Faults = "faultless", Faults{}
	storm := mixed
	storm.Name, storm.Faults = "storm", Faults{
		Lose: 0.15, Duplicate: 0.15, Slow: 0.1, Disk: 0.1, Crash: 0.01, Store: 0.05, Overtake: 0.3, Conflict: 0.2,
		CutEvery: 2 * time.Minute, ChaosEvery: 20 * time.Second, Skew: 48 * time.Hour,
	}
	tight := mixed
	tight.Name, tight.Tight, tight.Nodes, tight.NodeCPU, tight.NodeMemory = "tight", true, 4, 1024, 1024
	tight.Faults.Overtake, tight.OpEvery = 0.3, 8*time.Second
	address := mixed
	address.Name, address.Tight, address.SmallVPC, address.Services = "addresses", true, true, 4
	address.MaxCount = 12
	return []Scenario{mixed, quiet, storm, tight, address}
}

// fleet is thousands of agents.
func fleet() Scenario {
	return Scenario{
		Name: "fleet", Nodes: 2000, Services: 12, MaxCount: 150, NodeCPU: 1024, NodeMemory: 2048, BadVersions: 0.1, NoHealth: true,
		// A daemon on so many nodes takes most of the time: its every step looks at all of them.
		NoDaemons: true,
		Faults: Faults{
			Lose: 0.01, Duplicate: 0.01, Slow: 0.01, Disk: 0.01, Crash: 0.0002, Store: 0.001, Conflict: 0.01, Overtake: 0.01,
			CutEvery: 3 * time.Hour, ChaosEvery: 5 * time.Second, Skew: time.Hour,
		},
		For: 10 * time.Minute, Settle: 25 * time.Minute, OpEvery: 5 * time.Second, CheckEvery: 5 * time.Minute,
		LoopLatency: 500 * time.Millisecond, Downtime: 30 * time.Second,
	}
}

func named(name string) (Scenario, bool) {
	all := append(scenarios(), fleet())
	i := slices.IndexFunc(all, func(s Scenario) bool { return s.Name == name })
	if i < 0 {
		return Scenario{}, false
	}
	return all[i], true
}

// Run runs a scenario from a seed, to its end or the first thing that is wrong.
func (w *World) Run() error {
	w.start()
	w.operator.define()
	for i := range w.Nodes {
		a := w.addAgent(i)
		w.after(w.between(0, 20*time.Second), a.name+": the machine starts", a.power)
	}
	w.faulty = true
	w.chaos()
	w.watch()
	w.after(30*time.Second, "operator: first", w.operator.act)
	if !w.run(w.For) {
		return w.report()
	}
	w.calm()
	// What is under way comes to its end, however late.
	if !w.run(2*time.Minute) || !w.repair() || !w.run(w.Settle) {
		return w.report()
	}
	w.checkConverged()
	if w.failure == nil {
		w.stopAll()
	}
	if w.run(12 * time.Minute) {
		w.checkNothingLeft()
	}
	if !w.Brief && w.run(2*time.Hour) {
		w.checkForgotten()
	}
	return w.report()
}

// repair has every instance take tasks, and every service a version that works.
func (w *World) repair() bool {
	for _, a := range w.agents {
		w.operator.setState(a, types.ContainerInstanceStatusActive, func() {})
	}
	for _, s := range w.operator.services {
		if x := w.oracle.services[cluster+"/"+s.name]; x == nil || x.Status != "ACTIVE" {
			s.gone = true
			continue
		}
		s.gone = false
		s.family = familyOf(s.shape, "good", s.port)
		in := &awsecs.UpdateServiceInput{TaskDefinition: &s.family, ForceNewDeployment: true}
		if !s.daemon {
			in.DesiredCount = &s.count
			if s.shape != "port" { // other percents may leave no room, now that the count is another
				in.DeploymentConfiguration = &types.DeploymentConfiguration{MinimumHealthyPercent: aws.Int32(100), MaximumPercent: aws.Int32(200)}
			}
		}
		w.operator.change(s, "to what works", in, func() {})
	}
	return w.failure == nil
}

// stopAll deletes all services and stops all other tasks.
func (w *World) stopAll() {
	for _, s := range w.operator.services {
		if !s.gone {
			w.operator.call("delete "+s.name, func(v *server) error {
				_, err := v.room.DeleteService(asOperator(), &awsecs.DeleteServiceInput{Service: &s.name, Force: aws.Bool(true)})
				return err
			}, func(error) {})
		}
	}
	for _, key := range sortedKeys(w.oracle.tasks) {
		if t := w.oracle.tasks[key]; live(t) && t.Service == "" {
			w.operator.stop(t.ID, func() {})
		}
	}
}

// report ends the servers, and says what went wrong and how to see it again.
func (w *World) report() error {
	for _, s := range []*server{w.main, w.other} {
		if s != nil {
			s.dead = true
			_ = s.db.Close()
		}
	}
	_ = w.mem.Close()
	if w.failure == nil {
		return nil
	}
	return fmt.Errorf("scenario %s, seed %d, after %s: %w\nagain: go run ./sim -scenario %s -seed %d -trace", w.Name, w.Seed, w.now.Sub(w.began), w.failure, w.Name, w.Seed)
}
