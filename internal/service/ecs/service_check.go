package ecs

import (
	"errors"
	"reflect"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/smithy-go"
)

// refusalOf returns the message of an error that is the asker's own.
func refusalOf(err error) (string, bool) {
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorFault() == smithy.FaultClient {
		return api.ErrorMessage(), true
	}
	return "", false
}

// same tells whether two versions are the same.
func (v version) same(o version) bool { return reflect.DeepEqual(v, o) }

// lots divides tasks by launch type or capacity provider.
func (v *version) lots(c *Cluster, n int) ([]lot, error) {
	return capacityLots(&ecs.RunTaskInput{LaunchType: v.LaunchType, CapacityProviderStrategy: v.Providers}, c, n)
}

// strategy is how a service's tasks are placed: over the zones, if it does not say.
func (v *version) strategy(l lot, asked []types.PlacementStrategy) []types.PlacementStrategy {
	switch {
	case l.launchType == types.LaunchTypeFargate:
		return nil
	case len(asked) > 0:
		return asked
	}
	return []types.PlacementStrategy{{Type: types.PlacementStrategyTypeSpread, Field: optional("attribute:ecs.availability-zone")}}
}

// servicePart is what CreateService and UpdateService have in common, as far as it can
// be refused without looking at records.
type servicePart struct {
	controller    *types.DeploymentController
	configuration *types.DeploymentConfiguration
	registries    []types.ServiceRegistry
	connect       *types.ServiceConnectConfiguration
	volumes       []types.ServiceVolumeConfiguration
	lattice       []types.VpcLatticeConfiguration
	gateways      []types.GatewayConnector
	monitoring    *types.MonitoringConfiguration
	rebalancing   types.AvailabilityZoneRebalancing
	execute       bool
	grace         *int32
	desired       *int32
}

// maxServiceTasks is AWS's limit.
const maxServiceTasks = 5000

func (p *servicePart) check() error {
	switch {
	case p.controller != nil && p.controller.Type != types.DeploymentControllerTypeEcs:
		return errUnsupported("deploymentController %s is not supported yet: use ECS.", clip(string(p.controller.Type)))
	case len(p.registries) > 0:
		return errUnsupported("serviceRegistries are not supported yet: there is no Cloud Map.")
	case p.connect != nil && p.connect.Enabled:
		return errUnsupported("serviceConnectConfiguration is not supported yet.")
	case len(p.volumes) > 0:
		return errUnsupported("volumeConfigurations are not supported yet: there are no EBS volumes.")
	case len(p.lattice) > 0:
		return errUnsupported("vpcLatticeConfigurations are not supported: there is no VPC Lattice.")
	case len(p.gateways) > 0:
		return errUnsupported("gatewayConnectors are not supported.")
	case p.monitoring != nil:
		return errUnsupported("monitoring is not supported yet: there is no CloudWatch.")
	case p.rebalancing != "" && !slices.Contains(p.rebalancing.Values(), p.rebalancing):
		return errInvalidParameter("availabilityZoneRebalancing must be ENABLED or DISABLED.")
	case p.execute:
		return errUnsupported("enableExecuteCommand is not supported yet: execute-command is not served.")
	case p.grace != nil && *p.grace < 0:
		return errInvalidParameter("healthCheckGracePeriodSeconds must be at least 0.")
	case p.desired != nil && (*p.desired < 0 || *p.desired > maxServiceTasks):
		return errInvalidParameter("desiredCount must be between 0 and %d.", maxServiceTasks)
	}
	return checkServed(p.configuration)
}

// checkServed refuses what of a deployment's configuration is not served.
func checkServed(c *types.DeploymentConfiguration) error {
	switch {
	case c == nil:
	case c.Alarms != nil && c.Alarms.Enable:
		return errUnsupported("Deployment alarms are not supported yet: there is no CloudWatch.")
	case c.EarlySuccessCriteria != nil:
		return errUnsupported("earlySuccessCriteria is not supported yet.")
	}
	return nil
}

// checkDeployment checks a whole configuration, defaults included.
func checkDeployment(c *types.DeploymentConfiguration, daemon bool) error {
	least, most := *c.MinimumHealthyPercent, *c.MaximumPercent
	switch {
	case least < 0 || most < 0 || most > 10000 || least > 100:
		return errInvalidParameter("minimumHealthyPercent must be between 0 and 100, and maximumPercent at least 0.")
	case most < 100 || most == 100 && least == 100:
		return errInvalidParameter("maximumPercent must be greater than 100, or minimumHealthyPercent less than 100: otherwise no task could be replaced.")
	case daemon && most != daemonMaximumPercent:
		return errInvalidParameter("maximumPercent must be 100 with the DAEMON scheduling strategy.")
	}
	if b := c.DeploymentCircuitBreaker; b != nil && b.ThresholdConfiguration != nil {
		t := b.ThresholdConfiguration
		if !slices.Contains(t.Type.Values(), t.Type) || t.Value < 1 || t.Value > 10000 {
			return errInvalidParameter("thresholdConfiguration must have a type and a value of at least 1.")
		}
	}
	return checkShifting(c, daemon)
}

// configured fills AWS's defaults in.
func configured(c *types.DeploymentConfiguration, scheduling types.SchedulingStrategy) types.DeploymentConfiguration {
	out := types.DeploymentConfiguration{}
	if c != nil {
		out = *c
	}
	if out.Strategy == "" {
		out.Strategy = types.DeploymentStrategyRolling
	}
	least, most := int32(defaultMinimumPercent), int32(defaultMaximumPercent)
	if scheduling == types.SchedulingStrategyDaemon {
		least, most = daemonMinimumPercent, daemonMaximumPercent
	}
	if out.MinimumHealthyPercent == nil {
		out.MinimumHealthyPercent = &least
	}
	if out.MaximumPercent == nil {
		out.MaximumPercent = &most
	}
	if out.DeploymentCircuitBreaker == nil {
		out.DeploymentCircuitBreaker = &types.DeploymentCircuitBreaker{}
	}
	return out
}

func pointer[T any](v T) *T { return &v }
