package constraint

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/batch"
	batchtypes "github.com/aws/aws-sdk-go-v2/service/batch/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cloudwatchtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	logstypes "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
)

func TestCheck(t *testing.T) {
	tests := []struct {
		name               string
		service, operation string
		in                 any
		code, message      string // "" when the input is fine
	}{
		{name: "nothing required, nothing given", service: "ecs", operation: "ListClusters", in: &ecs.ListClustersInput{}},
		{name: "a real task", service: "ecs", operation: "RunTask", in: &ecs.RunTaskInput{
			TaskDefinition: aws.String("web:1"), LaunchType: ecstypes.LaunchTypeEc2, Count: aws.Int32(2),
			Tags: []ecstypes.Tag{{Key: aws.String("team/été"), Value: aws.String("")}},
		}},
		{name: "required", service: "ecs", operation: "RunTask", in: &ecs.RunTaskInput{},
			code:    "InvalidParameterException",
			message: "1 validation error detected: Value null at 'taskDefinition' failed to satisfy constraint: Member must not be null"},
		{name: "another code for task definitions", service: "ecs", operation: "RegisterTaskDefinition",
			in:      &ecs.RegisterTaskDefinitionInput{ContainerDefinitions: []ecstypes.ContainerDefinition{}},
			code:    "ClientException",
			message: "1 validation error detected: Value null at 'family' failed to satisfy constraint: Member must not be null"},
		{name: "enum", service: "ecs", operation: "RunTask",
			in:   &ecs.RunTaskInput{TaskDefinition: aws.String("web"), LaunchType: "LAMBDA"},
			code: "InvalidParameterException",
			message: "1 validation error detected: Value 'LAMBDA' at 'launchType' failed to satisfy constraint: " +
				"Member must satisfy enum value set: [EC2, FARGATE, EXTERNAL, MANAGED_INSTANCES]"},
		{name: "enum inside lists of structures", service: "ecs", operation: "RunTask",
			in: &ecs.RunTaskInput{TaskDefinition: aws.String("web"),
				PlacementConstraints: []ecstypes.PlacementConstraint{{Type: "memberOf"}, {Type: "same"}}},
			code: "InvalidParameterException",
			message: "1 validation error detected: Value 'same' at 'placementConstraints.2.member.type' failed to satisfy constraint: " +
				"Member must satisfy enum value set: [distinctInstance, memberOf]"},
		{name: "enum as a list's element", service: "ecs", operation: "DescribeClusters",
			in:   &ecs.DescribeClustersInput{Include: []ecstypes.ClusterField{"TAGS", "ALL"}},
			code: "InvalidParameterException",
			message: "1 validation error detected: Value '[TAGS, ALL]' at 'include' failed to satisfy constraint: " +
				"Member must satisfy constraint: [Member must satisfy enum value set: [ATTACHMENTS, CONFIGURATIONS, SETTINGS, STATISTICS, TAGS]]"},
		{name: "number", service: "ecs", operation: "CreateService",
			in: &ecs.CreateServiceInput{ServiceName: aws.String("web"),
				CapacityProviderStrategy: []ecstypes.CapacityProviderStrategyItem{{CapacityProvider: aws.String("spot"), Weight: 1001, Base: -1}}},
			code: "InvalidParameterException",
			message: "2 validation errors detected: Value '1001' at 'capacityProviderStrategy.1.member.weight' failed to satisfy constraint: " +
				"Member must have value less than or equal to 1000; Value '-1' at 'capacityProviderStrategy.1.member.base' failed to satisfy constraint: " +
				"Member must have value greater than or equal to 0"},
		{name: "required below a structure that is given", service: "ecs", operation: "RunTask",
			in: &ecs.RunTaskInput{TaskDefinition: aws.String("web"),
				NetworkConfiguration: &ecstypes.NetworkConfiguration{AwsvpcConfiguration: &ecstypes.AwsVpcConfiguration{}}},
			code: "InvalidParameterException",
			message: "1 validation error detected: Value null at 'networkConfiguration.awsvpcConfiguration.subnets' " +
				"failed to satisfy constraint: Member must not be null"},
		{name: "sensitive values are not repeated", service: "ecs", operation: "RegisterTaskDefinition",
			in: &ecs.RegisterTaskDefinitionInput{Family: aws.String("web"), ContainerDefinitions: []ecstypes.ContainerDefinition{{
				RepositoryCredentials: &ecstypes.RepositoryCredentials{}}}},
			code: "ClientException",
			message: "1 validation error detected: Value null at 'containerDefinitions.1.member.repositoryCredentials.credentialsParameter' " +
				"failed to satisfy constraint: Member must not be null"},
		{name: "pattern and length", service: "logs", operation: "CreateLogGroup",
			in:   &cloudwatchlogs.CreateLogGroupInput{LogGroupName: aws.String("")},
			code: "InvalidParameterException",
			message: "2 validation errors detected: Value '' at 'logGroupName' failed to satisfy constraint: " +
				`Member must have length greater than or equal to 1; Value '' at 'logGroupName' failed to satisfy constraint: ` +
				`Member must satisfy regular expression pattern: [\.\-_/#A-Za-z0-9]+`},
		{name: "pattern holds for all of the value", service: "logs", operation: "CreateLogGroup",
			in:   &cloudwatchlogs.CreateLogGroupInput{LogGroupName: aws.String("my group")},
			code: "InvalidParameterException",
			message: "1 validation error detected: Value 'my group' at 'logGroupName' failed to satisfy constraint: " +
				`Member must satisfy regular expression pattern: [\.\-_/#A-Za-z0-9]+`},
		{name: "map keys and values", service: "logs", operation: "CreateLogGroup",
			in:   &cloudwatchlogs.CreateLogGroupInput{LogGroupName: aws.String("g"), Tags: map[string]string{"a!": "1", "b": "2?"}},
			code: "InvalidParameterException",
			message: "2 validation errors detected: Value '{a!=1, b=2?}' at 'tags' failed to satisfy constraint: Map keys must satisfy constraint: " +
				`[Member must have length less than or equal to 128, Member must have length greater than or equal to 1, ` +
				`Member must satisfy regular expression pattern: ^([\p{L}\p{Z}\p{N}_.:/=+\-@]+)$]; ` +
				`Value '{a!=1, b=2?}' at 'tags' failed to satisfy constraint: Map value must satisfy constraint: ` +
				`[Member must have length less than or equal to 256, Member must satisfy regular expression pattern: ^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$]`},
		{name: "map size", service: "logs", operation: "CreateLogGroup",
			in:   &cloudwatchlogs.CreateLogGroupInput{LogGroupName: aws.String("g"), Tags: map[string]string{}},
			code: "InvalidParameterException",
			message: "1 validation error detected: Value '{}' at 'tags' failed to satisfy constraint: " +
				"Member must have length greater than or equal to 1"},
		{name: "lists of structures are not spelled out", service: "logs", operation: "PutLogEvents",
			in: &cloudwatchlogs.PutLogEventsInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("s"),
				LogEvents: []logstypes.InputLogEvent{}},
			code:    "InvalidParameterException",
			message: "1 validation error detected: Value at 'logEvents' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{name: "length in characters, not bytes", service: "sts", operation: "AssumeRole", in: &sts.AssumeRoleInput{
			RoleArn: aws.String("arn:aws:iam::123456789012:role/" + strings.Repeat("é", 1500)), RoleSessionName: aws.String("me")}},
		{name: "members are named as in Java", service: "sts", operation: "AssumeRole",
			in:      &sts.AssumeRoleInput{RoleArn: aws.String("short"), RoleSessionName: aws.String("me"), DurationSeconds: aws.Int32(60)},
			code:    "ValidationError",
			message: "2 validation errors detected: Value 'short' at 'roleArn' failed to satisfy constraint: Member must have length greater than or equal to 20; Value '60' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900"},
		{name: "a sensitive string", service: "iam", operation: "CreateLoginProfile",
			in:      &iam.CreateLoginProfileInput{UserName: aws.String("u"), Password: aws.String(strings.Repeat("x", 129))},
			code:    "ValidationError",
			message: "1 validation error detected: Value at 'password' failed to satisfy constraint: Member must have length less than or equal to 128"},
		{name: "a pattern that needed a rewrite", service: "iam", operation: "CreateAccountAlias",
			in: &iam.CreateAccountAliasInput{AccountAlias: aws.String("my--alias")}, code: "ValidationError",
			message: "1 validation error detected: Value 'my--alias' at 'accountAlias' failed to satisfy constraint: " +
				"Member must satisfy regular expression pattern: ^[a-z0-9]([a-z0-9]|-(?!-)){1,61}[a-z0-9]$"},
		{name: "its good side", service: "iam", operation: "CreateAccountAlias", in: &iam.CreateAccountAliasInput{AccountAlias: aws.String("my-other-alias1")}},
		{name: "batch", service: "batch", operation: "CreateJobQueue",
			in:   &batch.CreateJobQueueInput{JobQueueName: aws.String("q"), Priority: aws.Int32(1), State: "ON"},
			code: "ClientException",
			message: "1 validation error detected: Value 'ON' at 'state' failed to satisfy constraint: " +
				"Member must satisfy enum value set: [ENABLED, DISABLED]"},
		{name: "batch tag map", service: "batch", operation: "SubmitJob",
			in: &batch.SubmitJobInput{JobName: aws.String("j"), JobQueue: aws.String("q"), JobDefinition: aws.String("d"),
				DependsOn: []batchtypes.JobDependency{{Type: "N_TO_N"}}, Tags: map[string]string{"": "x"}},
			code: "ClientException",
			message: "1 validation error detected: Value '{=x}' at 'tags' failed to satisfy constraint: Map keys must satisfy constraint: " +
				"[Member must have length less than or equal to 128, Member must have length greater than or equal to 1]"},
		{name: "a number that is none", service: "cloudwatch", operation: "PutMetricData",
			in: &cloudwatch.PutMetricDataInput{Namespace: aws.String(":n"), MetricData: []cloudwatchtypes.MetricDatum{
				{MetricName: aws.String("m"), Unit: "Inches", Value: aws.Float64(math.NaN())}}},
			code: "ValidationError"},
		{name: "no constraint in the whole input", service: "sts", operation: "GetCallerIdentity", in: &sts.GetCallerIdentityInput{}},
		{name: "an operation newer than the model", service: "ecs", operation: "Teleport", in: &ecs.ListClustersInput{}},
	}
	checker := New()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := checker.Check(tt.service, tt.operation, tt.in, nil)
			if tt.code == "" {
				if err != nil {
					t.Fatalf("got %v", err)
				}
				return
			}
			var api smithy.APIError
			if !errors.As(err, &api) {
				t.Fatalf("got %v, want an API error", err)
			}
			if api.ErrorCode() != tt.code || tt.message != "" && api.ErrorMessage() != tt.message || api.ErrorFault() != smithy.FaultClient {
				t.Errorf("got  %s: %s\nwant %s: %s", api.ErrorCode(), api.ErrorMessage(), tt.code, tt.message)
			}
		})
	}
}

// Zero is a value of a required number without a pointer, if the client gave it.
func TestPresenceOfZero(t *testing.T) {
	in := &cloudwatchlogs.PutLogEventsInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("s"),
		LogEvents: []logstypes.InputLogEvent{{Message: aws.String("m"), Timestamp: aws.Int64(0)}}}
	if err := New().Check("logs", "PutLogEvents", in, nil); err != nil {
		t.Errorf("a pointer to zero is a value: %v", err)
	}
	volume := &ecs.RunTaskInput{TaskDefinition: aws.String("web"),
		Overrides: &ecstypes.TaskOverride{EphemeralStorage: &ecstypes.EphemeralStorage{}}}
	var asked []string
	present := func(answer bool) func(string) bool {
		return func(path string) bool { asked = append(asked, path); return answer }
	}
	err := New().Check("ecs", "RunTask", volume, present(false))
	if err == nil || !strings.Contains(err.Error(), "Value null at 'overrides.ephemeralStorage.sizeInGiB'") {
		t.Errorf("absent: got %v", err)
	}
	if err := New().Check("ecs", "RunTask", volume, present(true)); err != nil {
		t.Errorf("given as zero: got %v", err)
	}
	if err := New().Check("ecs", "RunTask", volume, nil); err != nil {
		t.Errorf("from another room: got %v", err)
	}
	if want := []string{"overrides.ephemeralStorage.sizeInGiB", "overrides.ephemeralStorage.sizeInGiB"}; !reflect.DeepEqual(asked, want) {
		t.Errorf("asked for %v, want only the zero: %v", asked, want)
	}
}

func TestMessagesAreBounded(t *testing.T) {
	in := &ecs.RunTaskInput{TaskDefinition: aws.String("web")}
	for range 1_000 {
		in.Tags = append(in.Tags, ecstypes.Tag{Key: aws.String(strings.Repeat("!", 2000))})
	}
	err := New().Check("ecs", "RunTask", in, nil)
	if err == nil || len(err.Error()) > 30_000 || !strings.Contains(err.Error(), "2001 validation errors detected") {
		t.Errorf("a message of %d bytes", len(err.Error()))
	}
	const huge = 3 << 20
	err = New().Check("logs", "CreateLogGroup", &cloudwatchlogs.CreateLogGroupInput{
		LogGroupName: aws.String("g"), Tags: map[string]string{strings.Repeat("k", huge): strings.Repeat("v", huge)}}, nil)
	if err == nil || len(err.Error()) > 5_000 {
		t.Errorf("a message of %d bytes for a huge map", len(err.Error()))
	}
}

func TestUnknownServiceIsAnError(t *testing.T) {
	err := New().Check("nosuch", "Anything", &ecs.ListClustersInput{}, nil)
	var api smithy.APIError
	if err == nil || errors.As(err, &api) || !strings.Contains(err.Error(), "nosuch has no table") {
		t.Errorf("got %v, want an internal error", err)
	}
}

// Every shape of every table can be laid over the SDK's types: no constraint is
// lost to a name, and every value that the SDK knows of an enum is accepted.
func TestTablesFitTheSDK(t *testing.T) {
	for name, client := range map[string]any{
		"ecs": (*ecs.Client)(nil), "logs": (*cloudwatchlogs.Client)(nil), "sts": (*sts.Client)(nil),
		"iam": (*iam.Client)(nil), "batch": (*batch.Client)(nil), "cloudwatch": (*cloudwatch.Client)(nil),
	} {
		s, err := New().service(name)
		if err != nil {
			t.Fatal(err)
		}
		methods := reflect.TypeOf(client)
		for operation, input := range s.table.Operations {
			method, ok := methods.MethodByName(operation)
			if !ok {
				t.Errorf("%s: the SDK has no %s", name, operation)
				continue
			}
			if _, err := s.plan(input, method.Type.In(2).Elem()); err != nil {
				t.Errorf("%s: %v", operation, err)
			}
		}
		checked := 0
		s.plans.Range(func(_, made any) bool {
			p := made.(*plan)
			for _, v := range sdkValues(p.typ) {
				checked++
				if p.enum != nil && len(p.brokenString(v)) > 0 {
					t.Errorf("%s: the SDK's %s %q is refused", name, p.typ, v)
				}
			}
			return true
		})
		if checked == 0 && name != "sts" {
			t.Errorf("%s: no enum value was checked", name)
		}
	}
}

func BenchmarkRunTask(b *testing.B) {
	in := &ecs.RunTaskInput{
		TaskDefinition: aws.String("web:1"), LaunchType: ecstypes.LaunchTypeEc2, Count: aws.Int32(2),
		Tags: []ecstypes.Tag{{Key: aws.String("team"), Value: aws.String("a")}, {Key: aws.String("stage"), Value: aws.String("prod")}},
		Overrides: &ecstypes.TaskOverride{ContainerOverrides: []ecstypes.ContainerOverride{{Name: aws.String("app"),
			Environment: []ecstypes.KeyValuePair{{Name: aws.String("A"), Value: aws.String("B")}}}}},
	}
	c := New()
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Check("ecs", "RunTask", in, nil); err != nil {
			b.Fatal(err)
		}
	}
}
