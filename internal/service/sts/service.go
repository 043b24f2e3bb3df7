package sts

import (
	"context"
	_ "embed" // operations.txt
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/sts"

	"longshore.dev/longshore/internal/wire"
)

//go:embed operations.txt
var operations string

// Service is the STS room. It has no state.
type Service struct{}

// New builds the room.
func New() *Service { return &Service{} }

// Register registers the room's operations.
func (s *Service) Register(r *wire.Registry) {
	service := r.Add(wire.ServiceInfo{
		Name: "sts", SigningName: "sts", Protocols: []wire.Protocol{wire.AWSQuery},
		APIVersion: "2011-06-15", XMLNamespace: "https://sts.amazonaws.com/doc/2011-06-15/",
		Knows: func(operation string) bool { return strings.Contains("\n"+operations, "\n"+operation+" ") },
	})
	wire.Handle(service, wire.Operation[sts.GetCallerIdentityInput]{Name: "GetCallerIdentity", ReadOnly: true}, s.GetCallerIdentity)
}

// GetCallerIdentity returns who signed the call.
func (s *Service) GetCallerIdentity(ctx context.Context, _ *sts.GetCallerIdentityInput) (*sts.GetCallerIdentityOutput, error) {
	p := wire.CallFrom(ctx).Principal
	return &sts.GetCallerIdentityOutput{Account: &p.AccountID, Arn: &p.ARN, UserId: &p.UserID}, nil
}
