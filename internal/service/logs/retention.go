package logs

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
)

// retentions are the numbers of days that a retention policy may have.
var retentions = []int32{1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}

// PutRetentionPolicy sets how long a log group's events are kept.
func (s *Service) PutRetentionPolicy(ctx context.Context, in *cloudwatchlogs.PutRetentionPolicyInput) (*cloudwatchlogs.PutRetentionPolicyOutput, error) {
	days := aws.ToInt32(in.RetentionInDays)
	if !slices.Contains(retentions, days) {
		return nil, invalid("1 validation error detected: Value '%d' at 'retentionInDays' failed to satisfy constraint: Member must satisfy enum value set: [%s]",
			days, strings.Trim(strings.ReplaceAll(fmt.Sprint(retentions), " ", ", "), "[]"))
	}
	err := s.editGroup(ctx, aws.ToString(in.LogGroupName), func(g *group) error {
		g.RetentionDays = days
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.wake()
	return &cloudwatchlogs.PutRetentionPolicyOutput{}, nil
}

// DeleteRetentionPolicy lets a log group's events be kept forever.
func (s *Service) DeleteRetentionPolicy(ctx context.Context, in *cloudwatchlogs.DeleteRetentionPolicyInput) (*cloudwatchlogs.DeleteRetentionPolicyOutput, error) {
	err := s.editGroup(ctx, aws.ToString(in.LogGroupName), func(g *group) error {
		g.RetentionDays = 0
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &cloudwatchlogs.DeleteRetentionPolicyOutput{}, nil
}
