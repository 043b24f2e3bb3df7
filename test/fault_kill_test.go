package test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// victims of a kill. A stage at which the task has no shim or no init yet kills
// those of another task instead.
var victims = []string{"server", "agent", "both", "shim", "init", "spare", "several"}

// TestKillsAtEveryStage is the campaign: a task is taken through its life, and at
// an aimed moment of it one process, or several at once, are killed, while other
// tasks come and go and one serves requests all the while. After each kill
// everything has to be as it should: what can go on has, in the same process; what
// was lost is reported so; nothing else is left on the machine.
func TestKillsAtEveryStage(t *testing.T) {
	kills := 50
	if soaking() {
		kills = 2000
	}
	t.Run("server and agent", func(t *testing.T) { newOnslaught(t, true).run(kills * 4 / 5) })
	t.Run("up", func(t *testing.T) { newOnslaught(t, false).run(kills / 5) })
}

func soaking() bool { return os.Getenv("LONGSHORE_SOAK") != "" }

// onslaught is one such campaign on a site of its own.
type onslaught struct {
	*site
	sight  *sight
	random *rand.Rand
	round  int
	kills  int
	struck map[string]int // kills by "stage: victim"

	subnet *types.NetworkConfiguration
	known  map[string]bool // ids of all tasks that the API has told of
	others []string        // quick tasks that are to end by themselves, by ARN

	web       string // serves requests, is never hit
	webPID    string
	spareTask string // what is hit when the target has nothing to hit yet
	spareHit  string // its "shim" or "init", when that was killed
	requests  *requests
}

func newOnslaught(t *testing.T, apart bool) *onslaught {
	s := newSite(t, apart)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	o := &onslaught{
		site: s, random: rand.New(rand.NewPCG(seed, 0)), struck: map[string]int{},
		known: map[string]bool{}, subnet: s.anySubnet(),
	}
	o.sight = newSight(t, s)
	definition := o.longshore.web("web", types.NetworkModeBridge, func(in *ecs.RegisterTaskDefinitionInput) {
		in.ContainerDefinitions[0].LogConfiguration = logged("web")
	})
	task := o.longshore.run(&ecs.RunTaskInput{TaskDefinition: &definition})
	o.web = idOf(aws.ToString(task.TaskArn))
	o.known[o.web] = true
	o.webPID = o.taskProcess(o.web)
	url := fmt.Sprintf("http://127.0.0.1:%d/", aws.ToInt32(task.Containers[0].NetworkBindings[0].HostPort))
	o.get(url)
	o.requests = request(url)
	t.Cleanup(o.requests.stop)
	o.sampleTask("quick", types.NetworkModeBridge, "exit", "3")
	o.sampleTask("vpc", types.NetworkModeAwsvpc, "exit", "3")
	o.sampleTask("spare", types.NetworkModeNone, "sleep", "3600")
	return o
}

// run kills so many processes. Stages and victims take turns, so that each meets
// each; their order is drawn.
func (o *onslaught) run(kills int) {
	o.t.Helper()
	turns, hits := o.random.Perm(len(stages)), o.random.Perm(len(victims))
	// A moment that is aimed at may be over when the kill comes: go on, within limits,
	// until each was hit.
	for ; o.kills < kills || o.missed() != "" && o.kills < 2*kills; o.round++ {
		stage := stages[turns[o.round%len(stages)]]
		victim := victims[hits[(o.round+o.round/len(stages))%len(victims)]]
		o.strike(stage, victim)
		if o.t.Failed() {
			o.t.Fatalf("round %d: %s while at %s", o.round, victim, stage)
		}
	}
	o.finish()
	answered, _ := o.requests.state()
	o.t.Logf("%d rounds, %d kills, %d requests answered", o.round, o.kills, answered)
	for _, at := range slices.Sorted(maps.Keys(o.struck)) {
		o.t.Logf("%4d %s", o.struck[at], at)
	}
	if missed := o.missed(); missed != "" && o.round > 2*len(stages) { // fewer rounds may miss one
		o.t.Errorf("no kill came at %s", missed)
	}
}

// missed names a stage or a victim that no kill has hit yet.
func (o *onslaught) missed() string {
	hit := map[string]bool{}
	for at := range o.struck {
		stage, victim, _ := strings.Cut(at, ": ")
		hit[stage], hit[victim] = true, true
	}
	for _, name := range append(slices.Clone(stages), victims...) {
		if !hit[name] {
			return name
		}
	}
	return ""
}

// strike is one round.
func (o *onslaught) strike(stage, victim string) {
	o.t.Helper()
	o.prepare()
	target := o.launch(stage)
	o.sight.open()
	defer o.sight.close()
	arn := target.begin(o)
	if target.stops {
		o.longshore.stop(arn)
		o.untilStopping(stage, idOf(arn))
	} else {
		o.sight.await("the stage "+stage, func() bool { return o.sight.reached(stage, "", o.known) })
	}
	before, _ := o.onRecord(idOf(arn))
	pids, hitTarget := o.choose(victim, arn)
	o.killAll(pids...)
	o.kills += len(pids)
	hit := o.sight.where(idOf(arn), target.stops)
	o.struck[hit+": "+victim]++
	o.sight.release()
	o.known[idOf(arn)] = true
	o.again()
	o.restart(o.random.IntN(2) == 0)
	o.connected()
	o.settle(target, arn, hit, hitTarget, before)
	o.settleOthers(victim)
}

// again kills, now and then, what was just started once more.
func (o *onslaught) again() {
	if o.random.IntN(4) > 0 || !o.server.ended() && !o.agent.ended() {
		return
	}
	server, agent := o.server.ended(), o.agent.ended()
	o.restart(o.random.IntN(2) == 0)
	time.Sleep(time.Duration(o.random.IntN(400)) * time.Millisecond)
	var pids []int
	if server && !o.server.ended() {
		pids = append(pids, o.server.cmd.Process.Pid)
	}
	if agent && o.apart && !o.agent.ended() {
		pids = append(pids, o.agent.cmd.Process.Pid)
	}
	o.killAll(pids...)
	o.kills += len(pids)
	o.struck["start-up: server, agent or both"] += len(pids)
}

// prepare starts what runs beside the target.
func (o *onslaught) prepare() {
	o.t.Helper()
	if o.spareTask == "" {
		o.spareTask = o.place("spare", nil)
		o.await("", o.spareTask, "RUNNING")
	}
	o.others = append(o.others, o.place("quick", nil), o.place("vpc", o.subnet))
	o.shims() // remembers them
}

func (o *onslaught) place(family string, network *types.NetworkConfiguration) string {
	o.t.Helper()
	var arn string
	o.eventually("a task is placed", func() error {
		out, err := o.ecs().RunTask(context.Background(), &ecs.RunTaskInput{TaskDefinition: &family, NetworkConfiguration: network})
		if err == nil && len(out.Tasks) != 1 {
			err = fmt.Errorf("%+v", out.Failures)
		}
		if err == nil {
			arn = aws.ToString(out.Tasks[0].TaskArn)
			o.known[idOf(arn)] = true
		}
		return err
	})
	return arn
}

// target is the task that is aimed at.
type target struct {
	definition string
	stops      bool // it is told to stop before the kill
	ignores    bool // and ignores that
}

// launch registers the task of a round.
func (o *onslaught) launch(stage string) target {
	o.t.Helper()
	t := target{stops: stage == "stop" || stage == "clean-up", ignores: stage == "stop"}
	command := []string{"sleep", "3600"}
	if t.ignores {
		command = []string{"ignore-term"}
	}
	c := container("target", "app", command...)
	c.StopTimeout = aws.Int32(1)
	if stage == "pull" || stage == "unpack" {
		c.Image = o.sight.image(fmt.Sprint("v", o.round), stage == "pull")
	}
	t.definition = o.define(&ecs.RegisterTaskDefinitionInput{
		Family: aws.String("target"), NetworkMode: types.NetworkModeBridge, ContainerDefinitions: []types.ContainerDefinition{c},
	})
	return t
}

// begin starts the task; one that is to be stopped runs first.
func (t target) begin(o *onslaught) string {
	o.t.Helper()
	out, err := o.ecs().RunTask(context.Background(), &ecs.RunTaskInput{TaskDefinition: &t.definition})
	if err != nil || len(out.Tasks) != 1 {
		o.t.Fatalf("the target was not placed: %v, %+v", err, out)
	}
	arn := aws.ToString(out.Tasks[0].TaskArn)
	if t.stops {
		o.await("", arn, "RUNNING")
		o.listens(arn, t)
	}
	return arn
}

// listens waits until the task's process is its program, and one that is to ignore
// its stop has said so: who is told to stop before that does not hear it.
func (o *onslaught) listens(arn string, t target) {
	o.t.Helper()
	id := idOf(arn)
	o.eventually("the target runs its program", func() error {
		process := "/proc/" + o.taskProcess(id)
		program, err := os.ReadFile(process + "/cmdline")
		if err != nil || !strings.HasPrefix(string(program), "/sample") {
			return fmt.Errorf("it is %q (%v)", program, err)
		}
		status, err := os.ReadFile(process + "/status")
		if _, caught, _ := strings.Cut(string(status), "SigCgt:\t"); len(caught) < 16 || caught[12] < '4' {
			return fmt.Errorf("it catches the signals %.16s (%v)", caught, err)
		}
		segment, err := os.ReadFile(filepath.Join(o.data, "node/runtime/spool", id+"-0", "0000000000000000.seg"))
		if t.ignores && !strings.Contains(string(segment), "ignoring") {
			return fmt.Errorf("it has written %q (%v)", segment, err)
		}
		return nil
	})
}

// untilStopping waits for a moment of the task's end.
func (o *onslaught) untilStopping(stage, task string) {
	o.t.Helper()
	if stage == "stop" { // the second that it is given
		time.Sleep(time.Duration(o.random.IntN(900)) * time.Millisecond)
		return
	}
	network := "/run/longshore/" + o.name + "/network/sandboxes/" + task + "-0.json"
	moment := o.random.IntN(3)
	o.sight.await("the task's clean-up", func() bool {
		r, there := o.onRecord(task)
		_, err := os.Stat(network)
		return moment == 0 && r.Phase == "exited" || moment < 2 && !there || err != nil
	})
}

// requests are made of a task all the time: it has to answer, whatever is killed.
type requests struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu       sync.Mutex
	answered int   // those for /1, /2, … up to here
	failed   error // the first failure
}

// request begins to ask for url/1, url/2, … every few milliseconds.
func request(url string) *requests {
	ctx, cancel := context.WithCancel(context.Background())
	r := &requests{cancel: cancel, done: make(chan struct{})}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	go func() {
		defer close(r.done)
		for n := 1; ctx.Err() == nil; n++ {
			response, err := client.Get(fmt.Sprint(url, n))
			r.mu.Lock()
			if err != nil {
				r.failed = errors.Join(r.failed, err)
				r.mu.Unlock()
				return
			}
			r.answered = n
			r.mu.Unlock()
			response.Body.Close()
			time.Sleep(20 * time.Millisecond)
		}
	}()
	return r
}

func (r *requests) stop() { r.cancel(); <-r.done }

func (r *requests) state() (answered int, failed error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.answered, r.failed
}
