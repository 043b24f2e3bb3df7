package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

const (
	outputGroup = "/output"
	outputLast  = "the last line"
)

// measureOutput times the way of containers' output to PutLogEvents' answer: the
// shim's spool, the log driver, the server.
func measureOutput(ctx context.Context, b *bench) (err error) {
	if os.Geteuid() != 0 {
		b.add(row{Name: "container output", Note: "needs root"})
		return nil
	}
	s, err := b.open(ctx, "output", "up", "--no-sample", "--stop-tasks")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	client := s.ecs()
	if err := awaitNode(ctx, client); err != nil {
		return err
	}
	lines := b.samples(200_000, 10_000)
	file := filepath.Join(b.dir, "output.txt")
	text := strings.Repeat(logLine(time.Now(), 7)+"\n", lines-1) + outputLast + "\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return err
	}
	out, err := client.RegisterTaskDefinition(ctx, &ecs.RegisterTaskDefinitionInput{
		Family: aws.String("output"), NetworkMode: types.NetworkModeNone,
		Volumes: []types.Volume{{Name: aws.String("text"), Host: &types.HostVolumeProperties{SourcePath: &file}}},
		ContainerDefinitions: []types.ContainerDefinition{{
			Name: aws.String("main"), Image: aws.String("longshore/sample"), Memory: aws.Int32(taskMemory), Cpu: 64, Essential: aws.Bool(true),
			Command: []string{"cat", "/text"}, MountPoints: []types.MountPoint{{SourceVolume: aws.String("text"), ContainerPath: aws.String("/text")}},
			LogConfiguration: &types.LogConfiguration{LogDriver: types.LogDriverAwslogs, Options: map[string]string{
				"awslogs-group": outputGroup, "awslogs-region": region, "awslogs-stream-prefix": "x", "awslogs-create-group": "true",
			}},
		}},
	})
	if err != nil {
		return err
	}
	for _, containers := range []int{1, 8} {
		if err := b.output(ctx, s, aws.ToString(out.TaskDefinition.TaskDefinitionArn), containers, lines, len(text)); err != nil {
			return err
		}
	}
	return nil
}

// output runs so many tasks at once and waits until the last line of each is stored.
func (b *bench) output(ctx context.Context, s *server, definition string, containers, lines, size int) error {
	before, err := s.cpu()
	if err != nil {
		return err
	}
	out, err := s.ecs().RunTask(ctx, &ecs.RunTaskInput{TaskDefinition: &definition, Count: aws.Int32(int32(containers))})
	if err != nil {
		return err
	}
	if len(out.Tasks) != containers {
		return fmt.Errorf("RunTask placed %d of %d tasks: %s", len(out.Tasks), containers, failures(out.Failures))
	}
	var began, ended time.Time
	for _, t := range out.Tasks {
		arn := aws.ToString(t.TaskArn)
		if err := awaitLastLine(ctx, s.logs(), "x/main/"+arn[strings.LastIndexByte(arn, '/')+1:]); err != nil {
			return err
		}
		seen, err := s.ecs().DescribeTasks(ctx, &ecs.DescribeTasksInput{Tasks: []string{arn}})
		if err != nil {
			return err
		}
		if len(seen.Tasks) == 1 && seen.Tasks[0].StartedAt != nil && (began.IsZero() || seen.Tasks[0].StartedAt.Before(began)) {
			began = *seen.Tasks[0].StartedAt
		}
	}
	ended = time.Now()
	after, err := s.cpu()
	if err != nil {
		return err
	}
	if began.IsZero() {
		return errors.New("no task has a time of start")
	}
	megabytes := float64(size*containers) / 1e6
	b.add(row{
		Name: fmt.Sprintf("output of %d containers → stored", containers), Unit: "lines/s", Samples: containers, Median: float64(lines*containers) / ended.Sub(began).Seconds(),
		Note: fmt.Sprintf("awslogs, %d lines of %d bytes each, from the first start to the last line stored; %s MB/s; %s ms of CPU a MB in server and agent",
			lines, logLineSize, figure(megabytes/ended.Sub(began).Seconds()), figure(milliseconds(after-before)/megabytes)),
	})
	return nil
}

func awaitLastLine(ctx context.Context, client *cloudwatchlogs.Client, stream string) error {
	return pollFor(ctx, stormLimit, 20*time.Millisecond, "the last line is stored", func(ctx context.Context) (bool, error) {
		out, err := client.GetLogEvents(ctx, &cloudwatchlogs.GetLogEventsInput{
			LogGroupName: aws.String(outputGroup), LogStreamName: &stream, Limit: aws.Int32(1), StartFromHead: aws.Bool(false),
		})
		var missing interface{ ErrorCode() string }
		if errors.As(err, &missing) && missing.ErrorCode() == "ResourceNotFoundException" {
			return false, nil
		}
		return err == nil && len(out.Events) == 1 && aws.ToString(out.Events[0].Message) == outputLast, err
	})
}
