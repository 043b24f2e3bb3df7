package ecs

import (
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// BenchmarkRunTask places one task on a fleet of nodes that run 20 tasks each (4
// of the largest fleet's).
func BenchmarkRunTask(b *testing.B) {
	for _, nodes := range []int{1, 100, 5000} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			r := newRoom(b)
			var attributes []types.Attribute
			for i := range 40 {
				attributes = append(attributes, attribute(fmt.Sprintf("ecs.capability.c%d", i), ""))
			}
			for i := range nodes {
				r.join(fmt.Sprintf("n%d", i), "default", 1<<30, 1<<30, attributes...)
			}
			r.define(simple("web", 1, 6))
			for range min(2*nodes, 2000) {
				r.run(&ecs.RunTaskInput{TaskDefinition: aws.String("web"), Count: aws.Int32(10)})
			}
			b.ResetTimer()
			for b.Loop() {
				arn := r.runOne(&ecs.RunTaskInput{TaskDefinition: aws.String("web")})
				task, _ := r.tasks.Get(r.db.Snapshot(), testScope, "default/"+lastPart(arn))
				r.report(task.NodeID, arn, "STOPPED", stopped("main", 0))
			}
		})
	}
}
