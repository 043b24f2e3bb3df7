package ecs

import (
	"fmt"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/wire"
)

const testUser = "arn:aws:iam::123456789012:user/ann"

func asUser() wire.Principal {
	return wire.Principal{Kind: wire.PrincipalService, ARN: testUser}
}

func (r *room) listSettings(p wire.Principal, in ecs.ListAccountSettingsInput) (list []string) {
	r.t.Helper()
	for {
		out, err := r.ListAccountSettings(as(p), &in)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, x := range out.Settings {
			list = append(list, fmt.Sprintf("%s=%s", x.Name, *x.Value))
		}
		if in.NextToken = out.NextToken; in.NextToken == nil {
			return list
		}
	}
}

func (r *room) setDefault(name types.SettingName, value string) {
	r.t.Helper()
	out, err := r.PutAccountSettingDefault(asRoot(), &ecs.PutAccountSettingDefaultInput{Name: name, Value: &value})
	if err != nil {
		r.t.Fatal(err)
	}
	if *out.Setting.Value != value || *out.Setting.PrincipalArn != "arn:aws:iam::123456789012:root" {
		r.t.Errorf("set %s for %s", *out.Setting.Value, *out.Setting.PrincipalArn)
	}
}

func TestAccountSettings(t *testing.T) {
	r := newRoom(t)
	root := wire.Principal{Kind: wire.PrincipalRoot}
	effective := []string{
		"awsvpcTrunking=disabled", "containerInsights=disabled", "containerInstanceLongArnFormat=enabled", "defaultLogDriverMode=non-blocking",
		"fargateEventWindows=disabled", "fargateFIPSMode=disabled", "fargateTaskRetirementWaitPeriod=7", "guardDutyActivate=off",
		"serviceLongArnFormat=enabled", "tagResourceAuthorization=on", "taskLongArnFormat=enabled",
	}
	if got := r.listSettings(root, ecs.ListAccountSettingsInput{EffectiveSettings: true, MaxResults: 4}); !slices.Equal(got, effective) {
		t.Errorf("effective %v, want %v", got, effective)
	}
	if got := r.listSettings(root, ecs.ListAccountSettingsInput{}); len(got) != 0 {
		t.Errorf("set before anything was: %v", got)
	}
	r.setDefault(types.SettingNameContainerInsights, "enhanced")
	insights := ecs.ListAccountSettingsInput{Name: types.SettingNameContainerInsights, EffectiveSettings: true}
	if got := r.listSettings(asUser(), insights); !slices.Equal(got, []string{"containerInsights=enhanced"}) {
		t.Errorf("a user without its own setting has %v", got)
	}
	if _, err := r.PutAccountSetting(as(asUser()), &ecs.PutAccountSettingInput{Name: types.SettingNameContainerInsights, Value: aws.String("enabled")}); err != nil {
		t.Fatal(err)
	}
	if got := r.listSettings(asUser(), ecs.ListAccountSettingsInput{}); !slices.Equal(got, []string{"containerInsights=enabled"}) {
		t.Errorf("a user's own settings are %v", got)
	}
	if got := r.listSettings(root, insights); !slices.Equal(got, []string{"containerInsights=enhanced"}) {
		t.Errorf("the user's setting changed the root user's: %v", got)
	}
	insights.Value = aws.String("disabled")
	if got := r.listSettings(asUser(), insights); len(got) != 0 {
		t.Errorf("with the value disabled: %v", got)
	}
	// The root user takes it away.
	out, err := r.DeleteAccountSetting(asRoot(), &ecs.DeleteAccountSettingInput{Name: types.SettingNameContainerInsights, PrincipalArn: aws.String(testUser)})
	if err != nil || *out.Setting.Value != "enhanced" || *out.Setting.PrincipalArn != testUser {
		t.Errorf("deleted: %+v, %v", out, err)
	}
	if got := r.listSettings(asUser(), ecs.ListAccountSettingsInput{}); len(got) != 0 {
		t.Errorf("after the deletion: %v", got)
	}
}

func TestAccountSettingsAreRefused(t *testing.T) {
	r := newRoom(t)
	for _, c := range []struct {
		name    types.SettingName
		value   string
		message string
	}{
		{types.SettingNameTaskLongArnFormat, "disabled", "The setting taskLongArnFormat can't be 'disabled': all ARNs are in the long format."},
		{types.SettingNameAwsvpcTrunking, "enabled", "The setting awsvpcTrunking can't be 'enabled': instances have no limit of network interfaces."},
		{types.SettingNameGuardDutyActivate, "on", "The setting guardDutyActivate can't be 'on': it is read-only."},
		{types.SettingNameDefaultLogDriverMode, "lazy", "The setting defaultLogDriverMode can't be 'lazy': it is blocking or non-blocking."},
		{"mine", "on", "Invalid setting name: mine"},
	} {
		_, err := r.PutAccountSetting(asRoot(), &ecs.PutAccountSettingInput{Name: c.name, Value: &c.value})
		wantError(t, err, "InvalidParameterException", c.message)
	}
	enabled := &ecs.PutAccountSettingInput{Name: types.SettingNameTaskLongArnFormat, Value: aws.String("enabled")}
	for _, c := range []struct {
		as        wire.Principal
		principal string
		code      string
	}{
		{asUser(), "arn:aws:iam::123456789012:root", "AccessDeniedException"},
		{asUser(), "arn:aws:iam::123456789012:user/bob", "AccessDeniedException"},
		{wire.Principal{Kind: wire.PrincipalRoot}, "bob", "InvalidParameterException"},
		{wire.Principal{Kind: wire.PrincipalRoot}, "arn:aws:iam::999999999999:user/bob", "InvalidParameterException"},
	} {
		enabled.PrincipalArn = &c.principal
		_, err := r.PutAccountSetting(as(c.as), enabled)
		wantError(t, err, c.code, "")
	}
	_, err := r.ListAccountSettings(asRoot(), &ecs.ListAccountSettingsInput{MaxResults: 11})
	wantError(t, err, "InvalidParameterException", "maxResults must be between 1 and 10.")
	_, err = r.ListAccountSettings(asRoot(), &ecs.ListAccountSettingsInput{Value: aws.String("on")})
	wantError(t, err, "InvalidParameterException", "You must specify an account setting name to filter by value.")
}

func TestContainerInsightsOfNewClusters(t *testing.T) {
	r := newRoom(t)
	value := func(in *ecs.CreateClusterInput) string {
		return *r.createCluster(in).Settings[0].Value
	}
	if got := value(&ecs.CreateClusterInput{ClusterName: aws.String("a")}); got != "disabled" {
		t.Errorf("without a default: %s", got)
	}
	r.setDefault(types.SettingNameContainerInsights, "enhanced")
	if got := value(&ecs.CreateClusterInput{ClusterName: aws.String("b")}); got != "enhanced" {
		t.Errorf("by the account's default: %s", got)
	}
	own := []types.ClusterSetting{{Name: types.ClusterSettingNameContainerInsights, Value: aws.String("enabled")}}
	if got := value(&ecs.CreateClusterInput{ClusterName: aws.String("c"), Settings: own}); got != "enabled" {
		t.Errorf("by its own setting: %s", got)
	}
}

func TestDefaultLogDriverModeReachesTheNode(t *testing.T) {
	r := newRoom(t)
	r.join("n1", "default", 4096, 4096, attribute("com.amazonaws.ecs.capability.docker-remote-api.1.19", ""),
		attribute("com.amazonaws.ecs.capability.docker-remote-api.1.28", ""), attribute("com.amazonaws.ecs.capability.logging-driver.awslogs", ""))
	logs := func(l *types.LogConfiguration) func(c *types.ContainerDefinition) {
		return func(c *types.ContainerDefinition) { c.LogConfiguration = l }
	}
	r.register(plain(container(logs(awslogs())), beside("own", logs(awslogs("mode", "non-blocking"))), beside("none", nothing)))
	r.runOne(&ecs.RunTaskInput{TaskDefinition: aws.String("web")})
	modes := func() (list []string) {
		payload, err := r.assignments("n1")[0].Render()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range payload.Containers {
			_, host, err := c.DockerConfig.Parse()
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, host.LogConfig.Config["mode"])
		}
		return list
	}
	if got := modes(); !slices.Equal(got, []string{"", "non-blocking", ""}) {
		t.Errorf("modes %q, want only the container's own", got)
	}
	r.setDefault(types.SettingNameDefaultLogDriverMode, "blocking")
	if got := modes(); !slices.Equal(got, []string{"blocking", "non-blocking", ""}) {
		t.Errorf("modes %q, want the account's default where a container has none", got)
	}
	d, err := r.describeDefinition("web")
	if err != nil || d.TaskDefinition.ContainerDefinitions[0].LogConfiguration.Options["mode"] != "" {
		t.Errorf("the definition itself was changed: %+v, %v", d, err)
	}
}
