package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/control"
)

const (
	sampleFamily  = "longshore-sample"
	sampleCluster = "default"
	// sampleLimit bounds the wait for the sample to run.
	sampleLimit = time.Minute
)

// program is how the user called this program.
func program() string {
	if len(os.Args) > 0 && os.Args[0] != "" {
		return os.Args[0]
	}
	return filepath.Base(os.Args[0])
}

// runSample runs the sample web service through the public API, like any client,
// unless it runs already, and returns its URL.
func runSample(ctx context.Context, a control.Access, c *console) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, sampleLimit)
	defer cancel()
	trusting, err := a.HTTPClient()
	if err != nil {
		return "", err
	}
	client := ecs.New(ecs.Options{
		Region: a.Region, HTTPClient: trusting, BaseEndpoint: aws.String(a.Endpoint),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: a.AccessKeyID, SecretAccessKey: a.SecretAccessKey}, nil
		}),
	})
	found, err := client.ListTasks(ctx, &ecs.ListTasksInput{Cluster: aws.String(sampleCluster), Family: aws.String(sampleFamily)})
	if err != nil {
		return "", err
	}
	if len(found.TaskArns) > 0 {
		c.say("sample    already running")
		return awaitSample(ctx, client, found.TaskArns[0], c)
	}
	definition, err := client.RegisterTaskDefinition(ctx, sampleDefinition(a.Region))
	if err != nil {
		return "", err
	}
	c.say("sample    registered %s:%d", sampleFamily, definition.TaskDefinition.Revision)
	for {
		out, err := client.RunTask(ctx, &ecs.RunTaskInput{
			Cluster: aws.String(sampleCluster), TaskDefinition: definition.TaskDefinition.TaskDefinitionArn, StartedBy: aws.String("longshore-up"),
		})
		if err != nil {
			return "", err
		}
		if len(out.Tasks) > 0 {
			return awaitSample(ctx, client, aws.ToString(out.Tasks[0].TaskArn), c)
		}
		// The node may not have registered yet.
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return "", fmt.Errorf("no container instance takes the task: %s", failureText(out.Failures))
		}
	}
}

// sampleDefinition is a web service with a dynamic host port, its output in
// CloudWatch Logs.
func sampleDefinition(region string) *ecs.RegisterTaskDefinitionInput {
	return &ecs.RegisterTaskDefinitionInput{
		Family: aws.String(sampleFamily), NetworkMode: types.NetworkModeBridge,
		ContainerDefinitions: []types.ContainerDefinition{{
			Name: aws.String("web"), Image: aws.String("longshore/sample"), Memory: aws.Int32(64), Essential: aws.Bool(true),
			PortMappings: []types.PortMapping{{ContainerPort: aws.Int32(80), HostPort: aws.Int32(0), Protocol: types.TransportProtocolTcp}},
			LogConfiguration: &types.LogConfiguration{
				LogDriver: types.LogDriverAwslogs,
				Options: map[string]string{
					"awslogs-group": "/longshore/sample", "awslogs-region": region,
					"awslogs-stream-prefix": "sample", "awslogs-create-group": "true",
				},
			},
		}},
	}
}

func failureText(failures []types.Failure) string {
	if len(failures) == 0 {
		return "no container instance has registered yet"
	}
	return aws.ToString(failures[0].Reason)
}

// awaitSample waits until the task runs, and returns where it answers.
func awaitSample(ctx context.Context, client *ecs.Client, task string, c *console) (string, error) {
	last := ""
	for {
		out, err := client.DescribeTasks(ctx, &ecs.DescribeTasksInput{Cluster: aws.String(sampleCluster), Tasks: []string{task}})
		if err != nil {
			return "", err
		}
		if len(out.Tasks) == 0 {
			return "", errors.New("the task is gone")
		}
		t := &out.Tasks[0]
		if status := aws.ToString(t.LastStatus); status != last {
			last = status
			c.say("sample    %s", status)
		}
		switch last {
		case "RUNNING":
			for _, k := range t.Containers {
				for _, b := range k.NetworkBindings {
					return fmt.Sprintf("http://127.0.0.1:%d", aws.ToInt32(b.HostPort)), nil
				}
			}
			return "", errors.New("the task runs without a host port")
		case "STOPPED":
			return "", fmt.Errorf("the task stopped: %s", aws.ToString(t.StoppedReason))
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return "", fmt.Errorf("the task is still %s after %s: `longshore env` and `aws ecs describe-tasks --tasks %s` tell more", last, sampleLimit, task)
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
