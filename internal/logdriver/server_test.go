package logdriver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"

	"longshore.dev/longshore/internal/runtime"
	"longshore.dev/longshore/internal/service/logs/logstest"
)

var _ LogsClient = (*cloudwatchlogs.Client)(nil)

// served is the real room and the SDK's client of it.
type served struct {
	*logstest.Server
	Client *cloudwatchlogs.Client
}

func serve(t *testing.T) *served {
	t.Helper()
	s := logstest.Start(t, nil)
	return &served{s, cloudwatchlogs.New(cloudwatchlogs.Options{
		Region: logstest.Region, BaseEndpoint: &s.URL, Credentials: logstest.Credentials(),
	})}
}

// sent returns what the room has of the container's stream, in order.
func sent(t *testing.T, s *served) []string {
	t.Helper()
	in := &cloudwatchlogs.GetLogEventsInput{LogGroupName: aws.String("/ecs/web"), LogStreamName: aws.String("web/app/0123abcd"), StartFromHead: aws.Bool(true)}
	var lines []string
	for {
		page, err := s.Client.GetLogEvents(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Events) == 0 {
			return lines
		}
		for _, e := range page.Events {
			lines = append(lines, *e.Message)
		}
		in.NextToken = page.NextForwardToken
	}
}

func createGroup(t *testing.T, s *served) {
	t.Helper()
	if _, err := s.Client.CreateLogGroup(t.Context(), &cloudwatchlogs.CreateLogGroupInput{LogGroupName: aws.String("/ecs/web")}); err != nil {
		t.Fatal(err)
	}
}

// Through the SDK's client into the real room, which goes away for a while.
func TestServerRestartLosesNothing(t *testing.T) {
	s := serve(t)
	d := driver(t, s.Client, map[string]string{"awslogs-create-group": "true"})
	if err := d.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	spool := newSpool()
	done := make(chan error, 1)
	go func() { done <- d.Run(t.Context(), spool) }()
	var want []string
	for i := range 300 {
		line := fmt.Sprintf("line %d größe \U0001F433", i)
		want = append(want, line)
		spool.write(runtime.Stdout, line+"\n")
		switch i {
		case 100:
			for len(sent(t, s)) == 0 { // it has begun to send
				time.Sleep(time.Millisecond)
			}
			s.Down()
		case 200:
			s.Up()
		}
	}
	spool.end()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	got := sent(t, s)
	// At least once: a call whose answer was cut off is sent again.
	seen := map[string]bool{}
	var order []string
	for _, line := range got {
		if !seen[line] {
			order = append(order, line)
		}
		seen[line] = true
	}
	expect(t, "lines", order, want)
}

func TestPrepareFailsAsAWSDoes(t *testing.T) {
	s := serve(t)
	err := driver(t, s.Client, nil).Prepare(t.Context())
	var init *InitializationError
	if !errors.As(err, &init) {
		t.Fatalf("Prepare without a group: %v", err)
	}
	expect(t, "on Fargate", StoppedReason(err, true), "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: "+
		"failed to create Cloudwatch log stream: ResourceNotFoundException: The specified log group does not exist.")
	expect(t, "on EC2", StoppedReason(err, false), "CannotStartContainerError: Error response from daemon: failed to initialize logging driver: "+
		"failed to create Cloudwatch log stream: ResourceNotFoundException: The specified log group does not exist.")

	s.Deny("logs:CreateLogGroup")
	err = driver(t, s.Client, map[string]string{"awslogs-create-group": "true"}).Prepare(t.Context())
	if err == nil || !strings.Contains(err.Error(), "failed to create Cloudwatch log group: AccessDeniedException") {
		t.Errorf("Prepare without permission: %v", err)
	}
	s.Deny("")
	createGroup(t, s)
	for range 2 { // again for an agent that was restarted
		if err := driver(t, s.Client, nil).Prepare(t.Context()); err != nil {
			t.Errorf("Prepare with a group: %v", err)
		}
	}
}

func TestLargeOutputGoesThrough(t *testing.T) {
	s := serve(t)
	createGroup(t, s)
	d := driver(t, s.Client, nil)
	if err := d.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	spool := newSpool()
	const lines = 40_000
	chunk := strings.Repeat(strings.Repeat("z", 99)+"\n", 400)
	for range lines / 400 {
		spool.write(runtime.Stdout, chunk)
	}
	spool.write(runtime.Stderr, "\x00\x01 \xff "+strings.Repeat("é", 300_000)+"\n")
	spool.end()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := d.Run(ctx, spool); err != nil {
		t.Fatal(err)
	}
	got := sent(t, s)
	expect(t, "events", len(got), lines+3)
	expect(t, "the odd line", strings.Join(got[lines:], ""), "\x00\x01 \uFFFD "+strings.Repeat("é", 300_000))
}
