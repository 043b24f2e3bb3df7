package ecs

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/wire"
)

// trusting are roles that may be assumed, by ARN; fault is what fails otherwise.
type trusting struct {
	roles    map[string]bool
	fault    error
	sessions []string
}

func (r *trusting) AssumeForTask(_ context.Context, account, region, taskARN, roleARN, session string) (*ststypes.Credentials, error) {
	if r.fault != nil {
		return nil, r.fault
	}
	if !r.roles[roleARN] || account != testAccount || region != testRegion {
		return nil, wire.Errorf("AccessDeniedException", "not trusted")
	}
	r.sessions = append(r.sessions, session)
	return &ststypes.Credentials{
		AccessKeyId: aws.String("ASIA-" + roleARN), SecretAccessKey: aws.String("secret"), SessionToken: aws.String("token"),
		Expiration: aws.Time(time.Date(2026, 3, 1, 13, 0, 0, 0, time.UTC)),
	}, nil
}

func (r *trusting) CredentialsID(_ context.Context, taskARN, roleType string) (string, error) {
	return "id of " + roleType + " of " + taskARN, nil
}

func roleNamed(name string) string { return "arn:aws:iam::" + testAccount + ":role/" + name }

// roled is a room in which the roles app, exec and other may be assumed.
func roled(t *testing.T) (*room, *trusting) {
	roles := &trusting{roles: map[string]bool{roleNamed("app"): true, roleNamed("exec"): true, roleNamed("other"): true}}
	r := newRoom(t, func(d *Deps) { d.Roles = roles })
	r.join("n1", "default", 8192, 8192, attribute(AttributeAgent, ""), attribute("com.amazonaws.ecs.capability.task-iam-role", ""))
	return r, roles
}

func TestRolesOfTasks(t *testing.T) {
	type want struct{ task, execution string }
	for name, c := range map[string]struct {
		task, execution string
		overrides       *types.TaskOverride
		want            want
	}{
		"none":                      {},
		"the definition's":          {task: "app", execution: "exec", want: want{"app", "exec"}},
		"only a task role":          {task: "app", want: want{"app", ""}},
		"overridden":                {task: "app", execution: "exec", overrides: &types.TaskOverride{TaskRoleArn: aws.String("other"), ExecutionRoleArn: aws.String("app")}, want: want{"other", "app"}},
		"one overridden by its ARN": {task: "app", execution: "exec", overrides: &types.TaskOverride{TaskRoleArn: aws.String(roleNamed("other"))}, want: want{"other", "exec"}},
		"given by the override":     {overrides: &types.TaskOverride{TaskRoleArn: aws.String("other")}, want: want{"other", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			r, roles := roled(t)
			d := simple("web", 1, 64)
			d.TaskRoleArn, d.ExecutionRoleArn = roleARN(testScope, optional(c.task)), roleARN(testScope, optional(c.execution))
			d.RequiresAttributes = requiredAttributes(&d)
			r.define(d)
			arn := r.runOne(&ecs.RunTaskInput{TaskDefinition: aws.String("web"), Overrides: c.overrides})
			as := r.assignments("n1")[0]
			grants, err := r.Credentials(t.Context(), r.nodeSession("n1"), arn)
			if err != nil {
				t.Fatal(err)
			}
			var got want
			var kinds []string
			for _, g := range grants {
				kinds = append(kinds, g.RoleType)
				name := g.Credentials.RoleARN[len(roleNamed("")):]
				if g.RoleType == acs.RoleTask {
					got.task = name
				} else {
					got.execution = name
				}
				if c := g.Credentials; c.AccessKeyID != "ASIA-"+c.RoleARN || c.CredentialsID != "id of "+g.RoleType+" of "+arn ||
					c.SecretAccessKey != "secret" || c.SessionToken != "token" || c.Expiration != "2026-03-01T13:00:00Z" {
					t.Errorf("granted %s %s until %s", c.CredentialsID, c.AccessKeyID, c.Expiration)
				}
			}
			if got != c.want || !slices.Equal(kinds, as.Roles) {
				t.Errorf("granted %+v of kinds %v, assigned %v; want %+v", got, kinds, as.Roles, c.want)
			}
			for _, session := range roles.sessions {
				if session != arn[len(arn)-32:] {
					t.Errorf("a session is called %s, want the task's id", session)
				}
			}
		})
	}
}

// nodeSession is the session of a node's agent.
func (r *room) nodeSession(node string) acs.Session {
	n, ok := r.node(r.db.Snapshot(), testScope, node)
	if !ok {
		r.t.Fatalf("node %s is unknown", node)
	}
	return r.session(node, instanceARN(testScope, n.HomeCluster, n.HomeInstance))
}

func TestRoleThatCannotBeAssumedStopsItsTask(t *testing.T) {
	r, roles := roled(t)
	d := simple("web", 1, 64)
	d.TaskRoleArn = aws.String(roleNamed("stranger"))
	r.define(d)
	arn := r.runOne(&ecs.RunTaskInput{TaskDefinition: aws.String("web")})
	_, err := r.Credentials(t.Context(), r.nodeSession("n1"), arn)
	var refused *acs.RefusedRoleError
	if !errors.As(err, &refused) {
		t.Fatalf("error %v, want a refusal", err)
	}
	if err := r.Unfit(t.Context(), r.nodeSession("n1"), arn, err); err != nil {
		t.Fatal(err)
	}
	want := "ECS was unable to assume the role '" + roleNamed("stranger") + "' that was provided for this task. Please verify that the role being passed has the proper trust relationship and permissions and that your IAM user has permissions to pass this role."
	if got := r.describe("default", arn); deref(got.StoppedReason) != want || got.StopCode != types.TaskStopCodeTaskFailedToStart || deref(got.DesiredStatus) != "STOPPED" {
		t.Errorf("%s: %s %q", deref(got.DesiredStatus), got.StopCode, deref(got.StoppedReason))
	}
	// What is not the role's fault is no refusal.
	roles.fault = errors.New("the store is away")
	if _, err := r.Credentials(t.Context(), r.nodeSession("n1"), arn); err == nil || errors.As(err, &refused) {
		t.Errorf("error %v, want one that is no refusal", err)
	}
}

// A node's agent gets credentials of its own tasks only, and only while they are there.
func TestCredentialsGoToTheNodeOfTheTask(t *testing.T) {
	r, _ := roled(t)
	d := simple("web", 1, 64)
	d.TaskRoleArn = aws.String(roleNamed("app"))
	r.define(d)
	arn := r.runOne(&ecs.RunTaskInput{TaskDefinition: aws.String("web")})
	r.join("n2", "default", 8192, 8192, attribute(AttributeAgent, ""))
	if grants, err := r.Credentials(t.Context(), r.nodeSession("n2"), arn); err != nil || len(grants) != 0 {
		t.Errorf("another node is granted %d credentials, %v", len(grants), err)
	}
	stolen := r.nodeSession("n1")
	stolen.Principal.NodeID = "n2"
	if grants, err := r.Credentials(t.Context(), stolen, arn); err == nil || len(grants) != 0 {
		t.Errorf("another node's session on this node's instance is granted %d credentials", len(grants))
	}
	if grants, err := r.Credentials(t.Context(), r.nodeSession("n1"), arn); err != nil || len(grants) != 1 {
		t.Errorf("the task's node is granted %d credentials, %v", len(grants), err)
	}
	r.report("n1", arn, "STOPPED", stopped("main", 0))
	if grants, err := r.Credentials(t.Context(), r.nodeSession("n1"), arn); err != nil || len(grants) != 0 {
		t.Errorf("a stopped task's node is granted %d credentials, %v", len(grants), err)
	}
}

// A node that can't give a task its role gets no task whose override names one.
func TestOverriddenRoleIsRequiredOfTheNode(t *testing.T) {
	r := newRoom(t)
	r.join("n1", "default", 8192, 8192, attribute(AttributeAgent, ""))
	r.define(simple("web", 1, 64))
	out := r.run(&ecs.RunTaskInput{TaskDefinition: aws.String("web"), Overrides: &types.TaskOverride{TaskRoleArn: aws.String("app")}})
	if len(out.Tasks) != 0 || len(out.Failures) != 1 || deref(out.Failures[0].Reason) != "ATTRIBUTE" {
		t.Errorf("%d tasks, failures %v; want one for the attribute", len(out.Tasks), failures(out.Failures))
	}
}
