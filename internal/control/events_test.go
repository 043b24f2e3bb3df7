package control

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/node"
)

// The owner follows what happens; nobody else does.
func TestOwnerFollowsEvents(t *testing.T) {
	r := serve(t, "off")
	root := r.as(node.Credentials{AccessKeyID: r.Access().AccessKeyID, SecretAccessKey: r.Access().SecretAccessKey})
	enough := errors.New("enough")
	got, followed := make(chan string, 1), make(chan error, 1)
	go func() {
		followed <- r.owner().Events(t.Context(), func(event json.RawMessage) error {
			got <- string(event)
			return enough
		})
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !r.events.Wanted(r.Access().Account, testRegion) {
		if ctx.Err() != nil {
			t.Fatal("nobody follows")
		}
		time.Sleep(time.Millisecond)
	}
	if _, err := root.RegisterTaskDefinition(ctx, &ecs.RegisterTaskDefinitionInput{
		Family: aws.String("web"), ContainerDefinitions: []types.ContainerDefinition{{Name: aws.String("main"), Image: aws.String("x"), Memory: aws.Int32(64)}},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := root.CreateService(ctx, &ecs.CreateServiceInput{ServiceName: aws.String("web"), TaskDefinition: aws.String("web"), DesiredCount: aws.Int32(1)}); err != nil {
		t.Fatal(err)
	}
	select {
	case event := <-got:
		if !strings.Contains(event, `"detail-type":"ECS Deployment State Change"`) || !strings.Contains(event, "SERVICE_DEPLOYMENT_IN_PROGRESS") {
			t.Errorf("the event is %s", event)
		}
	case <-ctx.Done():
		t.Fatal("there was no event")
	}
	if err := <-followed; !errors.Is(err, enough) {
		t.Error(err)
	}
	other := r.Access()
	other.SecretAccessKey = "wrong"
	client, err := NewClient(other)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Events(t.Context(), func(json.RawMessage) error { return nil }); err == nil || errors.Is(err, enough) {
		t.Errorf("somebody else follows: %v", err)
	}
}
