package agent

import (
	"context"
	"log/slog"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// forgetful knows no instance of before.
type forgetful struct {
	controlPlane
	refuseAll bool
	asked     int
}

func (f *forgetful) RegisterContainerInstance(_ context.Context, in *ecs.RegisterContainerInstanceInput, _ ...func(*ecs.Options)) (*ecs.RegisterContainerInstanceOutput, error) {
	f.asked++
	if in.ContainerInstanceArn != nil || f.refuseAll {
		return nil, &ecstypes.InvalidParameterException{Message: aws.String("no such instance")}
	}
	return &ecs.RegisterContainerInstanceOutput{ContainerInstance: &ecstypes.ContainerInstance{ContainerInstanceArn: aws.String("arn:new"), Attributes: in.Attributes}}, nil
}

func TestNodeThatWasDeregisteredStartsAsANewInstance(t *testing.T) {
	for _, refuseAll := range []bool{false, true} {
		db, err := openDB(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		plane := &forgetful{refuseAll: refuseAll}
		a := &Agent{
			parts:      parts{control: plane, db: db, log: slog.New(slog.DiscardHandler)},
			options:    Options{Resources: Resources{CPU: 1024, Memory: 1024}},
			registered: identity{Cluster: "default", ContainerInstanceARN: "arn:old", Timeline: 7},
		}
		err = a.registerUntilDone(t.Context())
		if (err != nil) != refuseAll || plane.asked != 2 {
			t.Fatalf("refusing all %v: asked %d times, then %v", refuseAll, plane.asked, err)
		}
		if kept, err := db.identity(); !refuseAll && (err != nil || kept.ContainerInstanceARN != "arn:new" || kept.Timeline != 7) {
			t.Fatalf("the node keeps %+v, %v", kept, err)
		}
		if err := db.close(); err != nil {
			t.Fatal(err)
		}
	}
}
