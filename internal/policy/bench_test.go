package policy

import (
	"fmt"
	"strings"
	"testing"
)

// realistic are the policies of a role as teams have them: one that reads everything,
// service by service; one that may do all but IAM; five of its own; a boundary; and a
// session policy.
func realistic(t testing.TB) *Policies {
	services := []string{"acm", "apigateway", "application-autoscaling", "athena", "autoscaling", "backup", "batch", "cloudformation", "cloudfront",
		"cloudtrail", "cloudwatch", "codebuild", "codecommit", "codepipeline", "cognito-idp", "config", "dynamodb", "ec2", "ecr", "ecs", "efs", "eks",
		"elasticache", "elasticloadbalancing", "es", "events", "firehose", "glue", "guardduty", "iam", "kafka", "kinesis", "kms", "lambda", "logs",
		"rds", "redshift", "route53", "s3", "sagemaker", "secretsmanager", "servicediscovery", "sns", "sqs", "ssm", "states", "sts", "tag", "waf", "xray"}
	var reads []string
	for _, s := range services {
		for _, verb := range []string{"Get*", "List*", "Describe*", "BatchGet*", "Search*", "Lookup*", "View*", "DetectStackDrift", "TestMetricFilter", "FilterLogEvents"} {
			reads = append(reads, fmt.Sprintf("%q", s+":"+verb))
		}
	}
	p := &Policies{Identity: []Attached{
		identity(t, `"Effect":"Allow","Resource":"*","Action":[`+strings.Join(reads, ",")+`]`),
		identity(t, `"Effect":"Allow","NotAction":["iam:*","organizations:*","account:*"],"Resource":"*"`,
			`"Effect":"Allow","Action":["account:GetAccountInformation","iam:CreateServiceLinkedRole","iam:DeleteServiceLinkedRole","iam:ListRoles"],"Resource":"*"`),
	}}
	for i := range 5 {
		p.Identity = append(p.Identity, identity(t,
			fmt.Sprintf(`"Effect":"Allow","Action":["s3:GetObject","s3:PutObject"],"Resource":["arn:aws:s3:::data-%d/${aws:PrincipalTag/team}/*","arn:aws:s3:::data-%d"]`, i, i),
			`"Effect":"Allow","Action":"ecs:*","Resource":"arn:aws:ecs:*:123456789012:*","Condition":{"ArnEquals":{"ecs:cluster":"arn:aws:ecs:us-east-1:123456789012:cluster/prod"}}`,
			`"Effect":"Deny","Action":["ecs:Delete*","ecs:RunTask"],"Resource":"*","Condition":{"StringNotEquals":{"aws:RequestedRegion":["us-east-1","eu-west-1"]}}`,
			`"Effect":"Deny","Action":"*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"},"NotIpAddress":{"aws:SourceIp":["10.0.0.0/8","127.0.0.0/8"]}}`))
	}
	boundary := identity(t, `"Effect":"Allow","Action":["ecs:*","s3:*","logs:*","cloudwatch:*","iam:PassRole"],"Resource":"*"`,
		`"Effect":"Deny","Action":"iam:*","Resource":"arn:aws:iam::123456789012:role/admin/*"`)
	p.Boundary = &boundary
	p.Session = []Attached{identity(t, `"Effect":"Allow","Action":["ecs:RunTask","ecs:Describe*","ecs:StopTask"],"Resource":"*"`)}
	return p
}

func BenchmarkEvaluate(b *testing.B) {
	p := realistic(b)
	c := contextOf("aws:PrincipalTag/team=red", "ecs:cluster=arn:aws:ecs:us-east-1:123456789012:cluster/prod", "aws:RequestedRegion=us-east-1",
		"aws:SecureTransport=true", "aws:SourceIp=127.0.0.1", "aws:CurrentTime=2026-11-26T00:00:00Z")
	for _, tt := range []struct {
		name, action, resource string
		allowed                bool
	}{
		{"allowed", "ecs:RunTask", "arn:aws:ecs:us-east-1:123456789012:task-definition/web:7", true},
		{"denied", "iam:CreateUser", "arn:aws:iam::123456789012:user/eve", false},
	} {
		b.Run(tt.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if Evaluate(NewRequest(worker, tt.action, tt.resource, c), p).Allowed != tt.allowed {
					b.Fatal("decided otherwise")
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
		})
	}
}
