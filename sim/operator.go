package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsecs "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/service/ecs"
)

// operator is who calls the API: one call after the other, each until it is answered.
type operator struct {
	w        *World
	services []*wanted
	alone    []string // ARNs of tasks of no service
	asked    map[string]int
	resting  bool
	drawn    int
}

// wanted is a service as the operator wants it.
type wanted struct {
	name   string
	port   int // a fixed host port, 0: none
	shape  string
	daemon bool
	family string
	count  int32
	gone   bool
}

// shapes are what task definitions ask for, beside how their tasks behave.
var shapes = []string{"plain", "vpc", "port"}

// Behaviours of good versions, and of bad ones.
var (
	goodOnes = []string{"good", "checked", "slow", "flaky", "sickly"}
	badOnes  = []string{"crash", "unpullable", "ill"}
)

// define registers all task definitions.
func (o *operator) define() {
	w := o.w
	behaviours := append(slices.Concat(goodOnes, badOnes), "oneshot")
	needed := map[string]bool{"ecs.capability.task-eni": true, ecs.AttributeAgent: true}
	for _, how := range behaviours {
		for _, shape := range shapes {
			for i := range max(w.Services, 1) {
				if i > 0 && shape != "port" {
					break
				}
				out, err := w.main.room.RegisterTaskDefinition(asOperator(), definition(shape, how, i))
				if err != nil {
					w.fail("the task definition %s-%s was refused: %v", shape, how, err)
					return
				}
				for _, a := range out.TaskDefinition.RequiresAttributes {
					needed[*a.Name] = true
				}
			}
		}
	}
	for name := range needed {
		w.capability = append(w.capability, name)
	}
	slices.Sort(w.capability)
	for _, s := range w.main.room.Subnets(account, region) {
		w.subnets = append(w.subnets, s.ID)
	}
	if w.SmallVPC {
		w.subnets = w.subnets[:2]
	}
	o.asked = map[string]int{}
}

func familyOf(shape, how string, port int) string {
	if shape == "port" {
		return fmt.Sprintf("port%d-%s", port, how)
	}
	return shape + "-" + how
}

func definition(shape, how string, port int) *awsecs.RegisterTaskDefinitionInput {
	c := types.ContainerDefinition{
		Name: aws.String("main"), Image: aws.String(how), Cpu: 128, Memory: aws.Int32(128), Essential: aws.Bool(true),
	}
	if how == "checked" || how == "sickly" || how == "ill" {
		c.HealthCheck = &types.HealthCheck{Command: []string{"CMD", "check"}}
	}
	in := &awsecs.RegisterTaskDefinitionInput{Family: aws.String(familyOf(shape, how, port)), NetworkMode: types.NetworkModeBridge}
	switch shape {
	case "vpc":
		in.NetworkMode = types.NetworkModeAwsvpc
	case "port":
		c.PortMappings = []types.PortMapping{{ContainerPort: aws.Int32(80), HostPort: aws.Int32(int32(8000 + port))}}
	}
	in.ContainerDefinitions = []types.ContainerDefinition{c, {
		Name: aws.String("side"), Image: aws.String(how), Cpu: 16, Memory: aws.Int32(16), Essential: aws.Bool(false),
	}}
	return in
}

// call asks the server for something until it answers.
func (o *operator) call(what string, do func(s *server) error, then func(err error)) {
	o.w.request("operator: "+what, nil, false, do, func(err error) {
		if err != nil && !final(err) {
			o.w.after(o.w.between(time.Second, 10*time.Second), "operator: again", func() { o.call(what, do, then) })
			return
		}
		then(err)
	})
}

// act does one thing, and goes on after a while.
func (o *operator) act() {
	w := o.w
	if o.resting {
		return
	}
	next := func() { w.after(w.exponential(w.OpEvery), "operator: next", o.act) }
	actions := []func(then func()){o.update, o.update, o.scale, o.runTask, o.stopTask, o.drain, o.protect, o.recreate, o.deregister}
	if len(o.services) < w.Services {
		o.create(next)
		return
	}
	actions[w.rnd.IntN(len(actions))](next)
}

func (o *operator) pick() *wanted {
	var all []*wanted
	for _, s := range o.services {
		if !s.gone {
			all = append(all, s)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all[o.w.rnd.IntN(len(all))]
}

// create makes a service.
func (o *operator) create(then func()) {
	w := o.w
	o.drawn++
	s := &wanted{name: fmt.Sprintf("svc%d", o.drawn), shape: shapes[w.rnd.IntN(len(shapes))], port: len(o.services), count: 1 + int32(w.rnd.IntN(w.MaxCount))}
	if w.SmallVPC {
		s.shape = "vpc"
	}
	s.daemon = !w.NoDaemons && s.shape == "plain" && w.rnd.IntN(6) == 0
	s.gone = true // until it is there
	o.services = append(o.services, s)
	o.make(s, then)
}

// percents are pairs that let tasks be replaced.
var percents = [][2]int32{{100, 200}, {50, 100}, {50, 150}, {0, 100}, {100, 150}, {67, 134}, {33, 133}, {90, 190}}

func (o *operator) make(s *wanted, then func()) {
	w := o.w
	s.family = o.version(s)
	in := &awsecs.CreateServiceInput{ServiceName: &s.name, TaskDefinition: &s.family, ClientToken: aws.String(w.id()), NetworkConfiguration: w.network(s.shape)}
	in.DeploymentConfiguration = &types.DeploymentConfiguration{}
	if w.rnd.IntN(2) == 0 {
		in.DeploymentConfiguration.DeploymentCircuitBreaker = &types.DeploymentCircuitBreaker{Enable: true, Rollback: w.rnd.IntN(2) == 0}
	}
	if s.daemon {
		in.SchedulingStrategy = types.SchedulingStrategyDaemon
	} else {
		p := percents[w.rnd.IntN(len(percents))]
		if s.shape == "port" {
			// One to a node: there must be nodes left to replace them on.
			s.count = min(s.count, int32(max(w.Nodes/2, 1)))
			p = [2]int32{0, 100}
		}
		if s.count*p[1]/100 == s.count && s.count*p[0] > (s.count-1)*100 {
			p = [2]int32{100, 200} // else rounding lets none be replaced
		}
		in.DesiredCount = &s.count
		in.DeploymentConfiguration.MinimumHealthyPercent, in.DeploymentConfiguration.MaximumPercent = &p[0], &p[1]
		switch w.rnd.IntN(4) {
		case 0:
			in.PlacementStrategy = []types.PlacementStrategy{{Type: types.PlacementStrategyTypeSpread, Field: aws.String("attribute:ecs.availability-zone")}, {Type: types.PlacementStrategyTypeSpread, Field: aws.String("instanceId")}}
		case 1:
			in.PlacementStrategy = []types.PlacementStrategy{{Type: types.PlacementStrategyTypeBinpack, Field: aws.String("memory")}}
		}
	}
	o.call("create "+s.name+" of "+fmt.Sprint(s.count), func(v *server) error { _, err := v.room.CreateService(asOperator(), in); return err }, func(err error) {
		if err != nil && !o.w.draining(s.name) {
			w.fail("the service %s was refused: %v", s.name, err)
		}
		s.gone = err != nil
		then()
	})
}

// draining tells whether a service of the name is on its way out.
func (w *World) draining(name string) bool {
	s := w.oracle.services[cluster+"/"+name]
	return s != nil && s.Status == "DRAINING"
}

func (w *World) network(shape string) *types.NetworkConfiguration {
	if shape != "vpc" {
		return nil
	}
	return &types.NetworkConfiguration{AwsvpcConfiguration: &types.AwsVpcConfiguration{Subnets: w.subnets}}
}

// version draws a version of a service, seldom a bad one.
func (o *operator) version(s *wanted) string {
	how := goodOnes[o.w.rnd.IntN(len(goodOnes))]
	if o.w.rnd.Float64() < o.w.BadVersions {
		how = badOnes[o.w.rnd.IntN(len(badOnes))]
	}
	return familyOf(s.shape, how, s.port)
}

func (o *operator) change(s *wanted, what string, in *awsecs.UpdateServiceInput, then func()) {
	in.Service = &s.name
	o.call("update "+s.name+" "+what, func(v *server) error { _, err := v.room.UpdateService(asOperator(), in); return err }, func(err error) {
		if err != nil {
			o.w.fail("the update of %s (%s) was refused: %v", s.name, what, err)
		}
		then()
	})
}

func (o *operator) update(then func()) {
	s := o.pick()
	if s == nil {
		then()
		return
	}
	s.family = o.version(s)
	o.change(s, "to "+s.family, &awsecs.UpdateServiceInput{TaskDefinition: &s.family, ForceNewDeployment: o.w.rnd.IntN(3) == 0}, then)
}

func (o *operator) scale(then func()) {
	s := o.pick()
	if s == nil || s.daemon || s.shape == "port" {
		then()
		return
	}
	s.count = int32(o.w.rnd.IntN(o.w.MaxCount + 1))
	o.change(s, fmt.Sprint("to ", s.count, " tasks"), &awsecs.UpdateServiceInput{DesiredCount: &s.count}, then)
}

func (o *operator) recreate(then func()) {
	s := o.pick()
	if s == nil || o.w.rnd.IntN(2) == 0 {
		then()
		return
	}
	s.gone = true
	o.call("delete "+s.name, func(v *server) error {
		_, err := v.room.DeleteService(asOperator(), &awsecs.DeleteServiceInput{Service: &s.name, Force: aws.Bool(true)})
		return err
	}, func(error) {
		o.w.after(o.w.between(time.Minute, 3*time.Minute), "operator: makes it again", func() {
			if o.resting {
				return
			}
			o.make(s, func() {})
		})
		then()
	})
}

func (o *operator) runTask(then func()) {
	w := o.w
	n := int32(1 + w.rnd.IntN(3))
	shape, token := []string{"plain", "vpc"}[w.rnd.IntN(2)], w.id()
	how := []string{"good", "oneshot", "crash", "slow"}[w.rnd.IntN(4)]
	in := &awsecs.RunTaskInput{TaskDefinition: aws.String(familyOf(shape, how, 0)), Count: &n, ClientToken: &token, ReferenceId: &token, NetworkConfiguration: w.network(shape)}
	var made []string
	o.call("run "+*in.TaskDefinition, func(v *server) error {
		out, err := v.room.RunTask(asOperator(), in)
		if err == nil {
			made = made[:0]
			for _, t := range out.Tasks {
				made = append(made, *t.TaskArn)
			}
		}
		return err
	}, func(err error) {
		if err == nil {
			if ever := w.oracle.byRef[token]; ever != len(made) {
				w.fail("RunTask with the token %s said that it made %d tasks, and made %d", token, len(made), ever)
			}
			o.alone = append(o.alone, made...)
		}
		then()
	})
}

// rush runs a task at once, as a second operator.
func (o *operator) rush(s *server) {
	if o.resting || o.w.now.Sub(o.w.began) < time.Minute {
		return
	}
	in := &awsecs.RunTaskInput{TaskDefinition: aws.String(familyOf("plain", "oneshot", 0))}
	o.w.trace.note(o.w.now, "meanwhile another operator runs a task")
	if _, err := s.room.RunTask(asOperator(), in); err != nil && !passing(err) && !final(err) {
		o.w.fail("RunTask of another operator failed: %v", err)
	}
}

// stopTask stops any task.
func (o *operator) stopTask(then func()) {
	var keys []string
	for k, t := range o.w.oracle.tasks {
		if live(t) {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		then()
		return
	}
	slices.Sort(keys)
	id := o.w.oracle.tasks[keys[o.w.rnd.IntN(len(keys))]].ID
	o.stop(id, then)
}

func (o *operator) stop(id string, then func()) {
	o.call("stop "+id, func(v *server) error {
		_, err := v.room.StopTask(asOperator(), &awsecs.StopTaskInput{Task: &id})
		return err
	}, func(error) { then() })
}

// drain drains an instance, or has it take tasks again.
func (o *operator) drain(then func()) {
	a := o.w.agents[o.w.rnd.IntN(len(o.w.agents))]
	status := types.ContainerInstanceStatusActive
	if o.w.rnd.IntN(2) == 0 {
		status = types.ContainerInstanceStatusDraining
	}
	o.setState(a, status, then)
}

func (o *operator) setState(a *agent, status types.ContainerInstanceStatus, then func()) {
	if a.instance == "" || a.retired {
		then()
		return
	}
	o.call(fmt.Sprintf("%s is to be %s", a.name, status), func(v *server) error {
		_, err := v.room.UpdateContainerInstancesState(asOperator(), &awsecs.UpdateContainerInstancesStateInput{ContainerInstances: []string{a.instance}, Status: status})
		return err
	}, func(error) { then() })
}

func (o *operator) protect(then func()) {
	var arns []string
	for _, t := range o.w.oracle.tasks {
		if live(t) && t.Service != "" {
			arns = append(arns, "arn:aws:ecs:"+region+":"+account+":task/"+t.Cluster+"/"+t.ID)
		}
	}
	if len(arns) == 0 {
		then()
		return
	}
	slices.Sort(arns)
	in := &awsecs.UpdateTaskProtectionInput{Cluster: aws.String(cluster), Tasks: []string{arns[o.w.rnd.IntN(len(arns))]}, ProtectionEnabled: o.w.rnd.IntN(3) > 0, ExpiresInMinutes: aws.Int32(int32(1 + o.w.rnd.IntN(8)))}
	o.call("protect", func(v *server) error { _, err := v.room.UpdateTaskProtection(asOperator(), in); return err }, func(error) { then() })
}

// deregister takes an instance away by force; its machine comes back anew later.
func (o *operator) deregister(then func()) {
	a := o.w.agents[o.w.rnd.IntN(len(o.w.agents))]
	if a.instance == "" || a.retired || o.w.rnd.IntN(3) > 0 {
		then()
		return
	}
	a.retired = true
	instance := a.instance
	o.call("deregister "+a.name, func(v *server) error {
		_, err := v.room.DeregisterContainerInstance(asOperator(), &awsecs.DeregisterContainerInstanceInput{ContainerInstance: &instance, Force: aws.Bool(true)})
		return err
	}, func(error) {
		o.w.after(o.w.between(time.Minute, 5*time.Minute), a.name+": comes back anew", a.renew)
		then()
	})
}
