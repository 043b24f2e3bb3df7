package wire

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"longshore.dev/longshore/internal/wire/codec"
)

// tenTasks is what DescribeTasks answers for ten running tasks.
func tenTasks() *ecs.DescribeTasksOutput {
	const arn = "arn:aws:ecs:eu-west-1:123456789012:task/demo/0123456789abcdef0123456789abcdef"
	at := time.UnixMilli(1700000000123)
	out := &ecs.DescribeTasksOutput{Failures: []ecstypes.Failure{}}
	for range 10 {
		out.Tasks = append(out.Tasks, ecstypes.Task{
			TaskArn: aws.String(arn), ClusterArn: aws.String(arn), TaskDefinitionArn: aws.String(arn), ContainerInstanceArn: aws.String(arn),
			AvailabilityZone: aws.String("eu-west-1a"), Connectivity: ecstypes.ConnectivityConnected, ConnectivityAt: &at,
			CreatedAt: &at, StartedAt: &at, PullStartedAt: &at, PullStoppedAt: &at, Cpu: aws.String("256"), Memory: aws.String("512"),
			DesiredStatus: aws.String("RUNNING"), LastStatus: aws.String("RUNNING"), Group: aws.String("family:web"),
			LaunchType: ecstypes.LaunchTypeEc2, HealthStatus: ecstypes.HealthStatusUnknown, Version: 3,
			Attributes: []ecstypes.Attribute{{Name: aws.String("ecs.cpu-architecture"), Value: aws.String("x86_64")}},
			Overrides:  &ecstypes.TaskOverride{ContainerOverrides: []ecstypes.ContainerOverride{{Name: aws.String("web")}}},
			Tags:       []ecstypes.Tag{},
			Containers: []ecstypes.Container{{
				ContainerArn: aws.String(arn), TaskArn: aws.String(arn), Name: aws.String("web"), Image: aws.String("longshore/sample"),
				ImageDigest: aws.String("sha256:0123456789abcdef"), RuntimeId: aws.String("0123456789abcdef"), LastStatus: aws.String("RUNNING"),
				NetworkBindings:   []ecstypes.NetworkBinding{{BindIP: aws.String("0.0.0.0"), ContainerPort: aws.Int32(80), HostPort: aws.Int32(32768), Protocol: "tcp"}},
				NetworkInterfaces: []ecstypes.NetworkInterface{}, HealthStatus: ecstypes.HealthStatusUnknown, Cpu: aws.String("256"),
			}},
		})
	}
	return out
}

func codecOf(i int) *codec.Codec {
	p := peers()[i].info
	return codec.New(codec.Options{Service: p.Name, LowerCamel: p.LowerCamel, Unions: p.Unions, NewDocument: p.NewDocument})
}

func BenchmarkEncodeJSONDescribeTasks(b *testing.B) {
	c, out := codecOf(0), tenTasks()
	var buf []byte
	for b.Loop() {
		buf, _ = c.AppendJSON(buf[:0], out)
	}
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
}

func BenchmarkDecodeJSONDescribeTasks(b *testing.B) {
	c := codecOf(0)
	buf, err := c.AppendJSON(nil, tenTasks())
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		var out ecs.DescribeTasksOutput
		if err := c.DecodeJSON(buf, &out, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeXML(b *testing.B) {
	c := codecOf(4)
	out := &iam.ListRolesOutput{}
	(&filler{rng: rand.New(rand.NewPCG(1, 1)), unions: peers()[4].info.Unions, full: true}).fill(reflect.ValueOf(out).Elem(), 0)
	var buf []byte
	for b.Loop() {
		buf, _ = c.AppendXML(buf[:0], out, "ListRoles", "", "id")
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkCBOR(b *testing.B) {
	c, out := codecOf(0), tenTasks()
	var buf []byte
	for b.Loop() {
		buf, _ = c.AppendCBOR(buf[:0], out)
		var back ecs.DescribeTasksOutput
		if err := c.DecodeCBOR(buf, &back, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(buf)))
}
