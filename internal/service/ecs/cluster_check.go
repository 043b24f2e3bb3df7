package ecs

import (
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// insightsValues are the values of the containerInsights setting.
var insightsValues = []string{"enabled", "disabled", "enhanced"}

func checkClusterSettings(settings []types.ClusterSetting) error {
	seen := map[types.ClusterSettingName]bool{}
	for _, x := range settings {
		if x.Name != types.ClusterSettingNameContainerInsights {
			return errInvalidParameter("Invalid cluster setting name: %s", clip(string(x.Name)))
		}
		if seen[x.Name] {
			return errInvalidParameter("Duplicate cluster setting: %s", x.Name)
		}
		seen[x.Name] = true
		if !slices.Contains(insightsValues, deref(x.Value)) {
			return errInvalidParameter("Setting value must be one of %s.", strings.Join(insightsValues, ", "))
		}
	}
	return nil
}

// mergeSettings adds more to settings; more wins.
func mergeSettings(settings, more []types.ClusterSetting) []types.ClusterSetting {
	merged := slices.Clone(settings)
	for _, m := range more {
		i := slices.IndexFunc(merged, func(x types.ClusterSetting) bool { return x.Name == m.Name })
		if i >= 0 {
			merged[i] = m
		} else {
			merged = append(merged, m)
		}
	}
	return merged
}

// checkClusterConfiguration accepts a configuration that says what holds anyway,
// and refuses by name what would not be acted on.
func checkClusterConfiguration(c *types.ClusterConfiguration) error {
	if c == nil {
		return nil
	}
	if e := c.ExecuteCommandConfiguration; e != nil {
		switch {
		case deref(e.KmsKeyId) != "":
			return errUnsupported("configuration.executeCommandConfiguration.kmsKeyId is not supported yet: execute-command is not served.")
		case e.LogConfiguration != nil && e.Logging != types.ExecuteCommandLoggingOverride:
			return errInvalidParameter("The execute command log configuration can be specified only if logging is OVERRIDE.")
		case e.Logging != "" && e.Logging != types.ExecuteCommandLoggingDefault:
			return errUnsupported("configuration.executeCommandConfiguration.logging %s is not supported yet: execute-command is not served.", clip(string(e.Logging)))
		}
	}
	if m := c.ManagedStorageConfiguration; m != nil && (deref(m.KmsKeyId) != "" || deref(m.FargateEphemeralStorageKmsKeyId) != "") {
		return errUnsupported("configuration.managedStorageConfiguration is not supported yet: storage is not encrypted with KMS keys.")
	}
	return nil
}

// checkServiceConnect accepts only that there are no defaults.
func checkServiceConnect(d *types.ClusterServiceConnectDefaultsRequest) error {
	if d != nil && deref(d.Namespace) != "" {
		return errUnsupported("serviceConnectDefaults is not supported yet: there are no Cloud Map namespaces.")
	}
	return nil
}

// checkProviders checks a cluster's capacity providers and default strategy.
func checkProviders(c *Cluster) error {
	seen := map[string]bool{}
	for _, name := range c.CapacityProviders {
		if name != "FARGATE" && name != "FARGATE_SPOT" {
			return errInvalidParameter("The specified capacity provider '%s' was not found.", clip(name))
		}
		if seen[name] {
			return errInvalidParameter("The capacity providers list cannot contain duplicates: %s", name)
		}
		seen[name] = true
	}
	if len(c.DefaultCapacityProviderStrategy) == 0 {
		return nil
	}
	for _, item := range c.DefaultCapacityProviderStrategy {
		if item.Weight < 0 || item.Weight > 1000 || item.Base < 0 || item.Base > 100000 {
			return errInvalidParameter("The capacity provider strategy's weights are between 0 and 1000, its bases between 0 and 100000.")
		}
	}
	return checkStrategy(c.DefaultCapacityProviderStrategy, c)
}
