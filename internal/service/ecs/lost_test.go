package ecs

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
)

func TestLostAt(t *testing.T) {
	began := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	minutes := func(m int) time.Time { return began.Add(time.Duration(m) * time.Minute) }
	for name, c := range map[string]struct {
		node Node
		want time.Time // zero: never
	}{
		"connected":                     {Node{HomeInstance: "x", Connected: true, ConnectivityAt: minutes(1)}, time.Time{}},
		"joined, never registered":      {Node{RegisteredAt: time.Time{}}, time.Time{}},
		"registered, never connected":   {Node{HomeInstance: "x", RegisteredAt: minutes(1)}, minutes(6)},
		"disconnected":                  {Node{HomeInstance: "x", RegisteredAt: minutes(1), ConnectivityAt: minutes(3)}, minutes(8)},
		"registered again, not yet on":  {Node{HomeInstance: "x", RegisteredAt: minutes(7), ConnectivityAt: minutes(3)}, minutes(12)},
		"away since before the process": {Node{HomeInstance: "x", RegisteredAt: minutes(-99), ConnectivityAt: minutes(-60)}, minutes(5)},
	} {
		at, ok := lostAt(&c.node, began, 5*time.Minute)
		if ok == c.want.IsZero() || ok && !at.Equal(c.want) {
			t.Errorf("%s: lost at %s, %v; want %s", name, at, ok, c.want)
		}
	}
}

// step lets the loop do all that is due.
func (r *room) step() {
	for r.nodeLoop.Step(context.Background()) {
	}
}

// away is a room with a node whose agent has just gone, with running tasks.
func away(t *testing.T, tasks int) (r *room, instance string, arns []string) {
	r = newRoom(t)
	ci := r.join("n1", "default", 1_000_000, 1_000_000)
	r.define(simple("web", 1, 6))
	for len(arns) < tasks {
		for _, task := range r.run(&ecs.RunTaskInput{TaskDefinition: aws.String("web"), Count: aws.Int32(int32(min(10, tasks-len(arns))))}).Tasks {
			arns = append(arns, *task.TaskArn)
		}
	}
	r.report("n1", arns[0], "RUNNING", running("main"))
	r.Closed(context.Background(), r.session("n1", *ci.ContainerInstanceArn))
	r.step()
	return r, *ci.ContainerInstanceArn, arns
}

func (r *room) live() int { return r.liveByNode.Count(r.db.Snapshot(), testScope, "n1") }

func (r *room) instanceShown(arn string) types.ContainerInstance {
	r.t.Helper()
	out, err := r.DescribeContainerInstances(asRoot(), &ecs.DescribeContainerInstancesInput{ContainerInstances: []string{arn}})
	if err != nil || len(out.ContainerInstances) != 1 {
		r.t.Fatal(err, out)
	}
	return out.ContainerInstances[0]
}

func TestALostNodesTasksAreStopped(t *testing.T) {
	const tasks = 3*giveUpBatch + 7
	r, instance, arns := away(t, tasks)
	gone := r.now()
	r.advanceClock(DefaultLostAfter - time.Second)
	if r.step(); r.live() != tasks {
		t.Fatalf("%d of %d tasks are left before the time is over", r.live(), tasks)
	}
	r.advanceClock(time.Second)
	if r.step(); r.live() != 0 {
		t.Fatalf("%d tasks are left on a lost node", r.live())
	}
	want := fmt.Sprintf("Host (instance n1) lost at %s: its agent has been disconnected since %s, and a host counts as lost after 5m0s",
		r.now().Format(time.RFC3339), gone.Format(time.RFC3339))
	for _, arn := range []string{arns[0], arns[tasks-1]} {
		if task := r.describe("default", arn); *task.LastStatus != "STOPPED" || *task.StoppedReason != want || task.StopCode != types.TaskStopCodeTerminationNotice || *task.Containers[0].LastStatus != "STOPPED" {
			t.Errorf("%s %s %q; want %q", *task.LastStatus, task.StopCode, aws.ToString(task.StoppedReason), want)
		}
	}
	shown := r.instanceShown(instance)
	if shown.AgentConnected || *shown.Status != "ACTIVE" || aws.ToString(shown.StatusReason) != want || shown.RemainingResources[1].IntegerValue != 1_000_000 {
		t.Errorf("the instance is %s (%s), connected %v, with %d MiB left", *shown.Status, aws.ToString(shown.StatusReason), shown.AgentConnected, shown.RemainingResources[1].IntegerValue)
	}
	if nodes := r.Nodes(testAccount, testRegion); len(nodes) != 1 || nodes[0].State != "lost" || nodes[0].Tasks != 0 {
		t.Errorf("nodes %+v", nodes)
	}
	r.report("n1", arns[0], "RUNNING", running("main")) // it was only cut off
	if task := r.describe("default", arns[0]); *task.LastStatus != "STOPPED" {
		t.Errorf("a late report made the task %s", *task.LastStatus)
	}

	// Its return: it is the same instance, is told to run none of these, and takes tasks.
	if again := r.join("n1", "default", 1_000_000, 1_000_000); *again.ContainerInstanceArn != instance {
		t.Errorf("it came back as %s", *again.ContainerInstanceArn)
	}
	if shown := r.instanceShown(instance); !shown.AgentConnected || shown.StatusReason != nil {
		t.Errorf("after its return: connected %v, %s", shown.AgentConnected, aws.ToString(shown.StatusReason))
	}
	if told := r.assignments("n1"); len(told) != 0 {
		t.Errorf("it is told %d tasks", len(told))
	}
	r.runOne(&ecs.RunTaskInput{TaskDefinition: aws.String("web")})
}

func TestANodeThatComesBackInTimeIsNotLost(t *testing.T) {
	r, instance, _ := away(t, 2)
	r.advanceClock(DefaultLostAfter - time.Second)
	if _, err := r.Opened(context.Background(), r.session("n1", instance)); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		r.advanceClock(DefaultLostAfter)
		r.step()
	}
	if r.live() != 2 {
		t.Errorf("%d of 2 tasks are left", r.live())
	}
	r.Closed(context.Background(), r.session("n1", instance))
	r.step()
	r.advanceClock(DefaultLostAfter - time.Second)
	if r.step(); r.live() != 2 {
		t.Error("the time it was away before was counted again")
	}
}

// TestASessionThatOpensMeanwhileStopsIt: between the decision and its commit.
func TestASessionThatOpensMeanwhileStopsIt(t *testing.T) {
	r, instance, _ := away(t, 2)
	began := r.now().Add(-time.Hour)
	r.advanceClock(time.Hour)
	if _, err := r.Opened(context.Background(), r.session("n1", instance)); err != nil {
		t.Fatal(err)
	}
	if err := r.lose(context.Background(), store.Ref{Scope: testScope, ID: "n1"}, began); err != nil || r.live() != 2 {
		t.Errorf("%v: %d of 2 tasks are left", err, r.live())
	}
}

// TestAServerThatStartsGivesEveryNodeTheTime: whatever the store says.
func TestAServerThatStartsGivesEveryNodeTheTime(t *testing.T) {
	r, _, _ := away(t, 2)
	r.advanceClock(time.Hour) // the server was down; nothing was stepped
	restarted := r.now()
	for _, c := range []struct {
		after time.Duration
		live  int
	}{{0, 2}, {DefaultLostAfter - time.Second, 2}, {DefaultLostAfter, 0}} {
		r.clock.Store(restarted.Add(c.after).UnixNano())
		if _, err := r.reconcileNode(context.Background(), nodeKey(store.Ref{Scope: testScope, ID: "n1"}), restarted); err != nil || r.live() != c.live {
			t.Errorf("%v: %s after the start %d tasks are left; want %d", err, c.after, r.live(), c.live)
		}
	}
}

// TestAForcedDeregistrationOfManyTasks needs several transactions, and goes on
// when the process died between them.
func TestAForcedDeregistrationOfManyTasks(t *testing.T) {
	const tasks = 4*giveUpBatch + 1
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprintf("crash %v", crash), func(t *testing.T) {
			r, instance, arns := away(t, tasks)
			if _, err := r.DeregisterContainerInstance(asRoot(), &ecs.DeregisterContainerInstanceInput{ContainerInstance: &instance}); err == nil {
				t.Fatal("it was not refused without force")
			}
			if crash {
				r.update(func(tx *store.Tx) { // the first transaction, and no more
					ci, err := r.instance(tx, testScope, "default", instance)
					if err != nil {
						t.Error(err)
						return
					}
					r.retire(tx, testScope, ci, r.now())
				})
				r.advanceClock(time.Minute + time.Second)
				r.step()
			} else {
				out, err := r.DeregisterContainerInstance(asRoot(), &ecs.DeregisterContainerInstanceInput{ContainerInstance: &instance, Force: aws.Bool(true)})
				if err != nil || *out.ContainerInstance.Status != "INACTIVE" || out.ContainerInstance.RunningTasksCount+out.ContainerInstance.PendingTasksCount != 0 {
					t.Fatalf("%v %+v", err, out)
				}
			}
			if r.live() != 0 {
				t.Errorf("%d of %d tasks are left", r.live(), tasks)
			}
			if task := r.describe("default", arns[tasks-1]); *task.StoppedReason != "Container instance deregistration forced by user" || task.StopCode != types.TaskStopCodeUserInitiated {
				t.Errorf("%s %q", task.StopCode, *task.StoppedReason)
			}
		})
	}
}

func TestARevokedNode(t *testing.T) {
	r := newRoom(t)
	r.addClusterNamed("demo")
	r.joinUniversal("n1", 1024, 1024)
	r.define(simple("web", 1, 6))
	arn := r.runOne(&ecs.RunTaskInput{Cluster: aws.String("demo"), TaskDefinition: aws.String("web")})
	if known, err := r.RevokeNode(context.Background(), testAccount, testRegion, "n2"); err != nil || known {
		t.Fatalf("a node that never was: %v %v", known, err)
	}
	if known, err := r.RevokeNode(context.Background(), testAccount, testRegion, "n1"); err != nil || !known {
		t.Fatal(known, err)
	}
	if task := r.describe("demo", arn); *task.LastStatus != "STOPPED" {
		t.Errorf("the task is %s", *task.LastStatus)
	}
	if list, err := r.ListContainerInstances(asRoot(), &ecs.ListContainerInstancesInput{Cluster: aws.String("demo")}); err != nil || len(list.ContainerInstanceArns) != 0 {
		t.Errorf("%v: instances %v", err, list.ContainerInstanceArns)
	}
	_, err := r.RegisterContainerInstance(asNode("n1"), &ecs.RegisterContainerInstanceInput{TotalResources: resources(1024, 1024)})
	wantError(t, err, "AccessDeniedException", "")
	r.advanceClock(2 * time.Hour)
	for range 2 {
		if err := r.Sweep(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if left := r.Nodes(testAccount, testRegion); len(left) != 0 {
		t.Errorf("left are %+v", left)
	}
}

// TestAReportDuringADeregistrationIsKept: what is given up is read guarded.
func TestAReportDuringADeregistrationIsKept(t *testing.T) {
	r, instance, arns := away(t, 1)
	once := true
	err := r.db.Update(context.Background(), func(tx *store.Tx) error {
		n, _ := r.node(tx, testScope, "n1")
		ci, err := r.instance(tx, testScope, "default", instance)
		if err != nil {
			return err
		}
		r.retire(tx, testScope, ci, r.now())
		ci, _ = r.instances.Get(tx, testScope, ci.Key())
		r.giveUpInstance(tx, testScope, n, ci.Key(), giveUpBatch, r.now())
		if once {
			once = false
			r.report("n1", arns[0], "STOPPED", stopped("main", 7))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if task := r.describe("default", arns[0]); aws.ToInt32(task.Containers[0].ExitCode) != 7 || !strings.Contains(*task.StoppedReason, "Essential container") {
		t.Errorf("the exit code is %d, the reason %q", aws.ToInt32(task.Containers[0].ExitCode), *task.StoppedReason)
	}
}

// The store may not answer when a session ends: the node must not count as connected
// for ever, nor its tasks as running.
func TestADisconnectionThatWasNotRecordedIsRecordedLater(t *testing.T) {
	r := newRoom(t)
	ci := r.join("n1", "default", 1_000_000, 1_000_000)
	r.define(simple("web", 1, 6))
	task := r.runOne(&ecs.RunTaskInput{TaskDefinition: aws.String("web")})
	r.step()
	unanswered, cancel := context.WithCancel(context.Background())
	cancel()
	r.Closed(unanswered, r.session("n1", *ci.ContainerInstanceArn))
	if !r.instanceShown(*ci.ContainerInstanceArn).AgentConnected {
		t.Fatal("the disconnection was recorded; the test shows nothing")
	}
	r.step()
	if r.instanceShown(*ci.ContainerInstanceArn).AgentConnected {
		t.Error("the agent counts as connected, and has no session")
	}
	r.advanceClock(DefaultLostAfter)
	r.step()
	if got := *r.describe("default", task).LastStatus; got != "STOPPED" {
		t.Errorf("the lost node's task is %s", got)
	}
}
