package logs_test

import (
	"bufio"
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	api "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"

	"longshore.dev/longshore/internal/bulk/membulk"
	"longshore.dev/longshore/internal/service/logs"
	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/store/memkv"
	"longshore.dev/longshore/internal/wire"
)

// operations.txt says of each operation whether it is there; the code must agree.
func TestOperationsFileAgreesWithTheCode(t *testing.T) {
	f, err := os.Open("operations.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var listed []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, state, _ := strings.Cut(lines.Text(), " ")
		switch {
		case state == "full", strings.HasPrefix(state, "partial: "):
			listed = append(listed, name)
		case state != "absent":
			t.Errorf("line %q", lines.Text())
		}
	}
	s, err := logs.New(logs.Deps{DB: store.New(memkv.New(), store.Options{}), Events: membulk.NewLogs(), Now: time.Now, NewID: func() string { return "x" }})
	if err != nil {
		t.Fatal(err)
	}
	reg := wire.NewRegistry(wire.Chain{Credentials: nobody{}, Authorizer: nobody{}, Now: time.Now, NewID: func() string { return "x" }, Log: discard()})
	s.Register(reg)
	slices.Sort(listed)
	if have := reg.Operations("logs"); !slices.Equal(have, listed) {
		t.Errorf("registered: %v\nlisted:     %v", have, listed)
	}
}

func TestResourcesAndConditions(t *testing.T) {
	r := newRoom(t)
	ctx, c := t.Context(), r.Client
	_, err := c.CreateLogGroup(ctx, &api.CreateLogGroupInput{LogGroupName: aws.String("g"), Tags: map[string]string{"team": "a"}})
	if err != nil {
		t.Fatal(err)
	}
	const group = "arn:aws:logs:eu-west-1:123456789012:log-group:g"
	check := func(action, resource, key, value string) {
		t.Helper()
		req := r.Authorized.Load()
		equal(t, "action", req.Action, action)
		equal(t, action+" on", strings.Join(req.Resources, " "), resource)
		if key != "" {
			equal(t, action+" under "+key, strings.Join(req.Conditions[key], " "), value)
		}
	}
	check("logs:CreateLogGroup", group+":log-stream:", "aws:RequestTag/team", "a")
	r.stream("g", "s")
	check("logs:CreateLogStream", group+":log-stream:s", "aws:ResourceTag/team", "a")
	r.put("g", "s", at(0, "x"))
	check("logs:PutLogEvents", group+":log-stream:s", "aws:ResourceTag/team", "a")
	r.filter(&api.FilterLogEventsInput{LogGroupIdentifier: aws.String(group)})
	check("logs:FilterLogEvents", group+":log-stream:", "aws:ResourceTag/team", "a")
	_, _ = c.DescribeLogGroups(ctx, &api.DescribeLogGroupsInput{})
	check("logs:DescribeLogGroups", "arn:aws:logs:eu-west-1:123456789012:log-group::log-stream:", "", "")
	_, _ = c.ListTagsForResource(ctx, &api.ListTagsForResourceInput{ResourceArn: aws.String(group)})
	check("logs:ListTagsForResource", group, "aws:ResourceTag/team", "a")
	_, _ = c.UntagResource(ctx, &api.UntagResourceInput{ResourceArn: aws.String(group), TagKeys: []string{"a", "b"}})
	check("logs:UntagResource", group, "aws:TagKeys", "a b")

	r.Deny("logs:GetLogEvents")
	_, err = c.GetLogEvents(ctx, gs(api.GetLogEventsInput{}))
	refused(t, "a denied action", err, "AccessDeniedException", "logs:GetLogEvents on resource: "+group+":log-stream:s")
}

// nobody is let in.
type nobody struct{}

func (nobody) Credential(context.Context, string, string) (wire.Credential, error) {
	return wire.Credential{}, wire.ErrNoCredential
}

func (nobody) Authorize(context.Context, *wire.AuthorizationRequest) error { return context.Canceled }
