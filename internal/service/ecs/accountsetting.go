package ecs

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

// maxSettingsPage is the largest page of ListAccountSettings.
const maxSettingsPage = 10

// accountSetting describes one of ECS's account settings.
type accountSetting struct {
	// missing is the value where none was set. values are those that can be set:
	// more than one only where something here acts on it.
	missing string
	values  []string
	// why tells what other values would need.
	why string
}

var accountSettings = map[types.SettingName]accountSetting{
	types.SettingNameServiceLongArnFormat:            {"enabled", []string{"enabled"}, "all ARNs are in the long format"},
	types.SettingNameTaskLongArnFormat:               {"enabled", []string{"enabled"}, "all ARNs are in the long format"},
	types.SettingNameContainerInstanceLongArnFormat:  {"enabled", []string{"enabled"}, "all ARNs are in the long format"},
	types.SettingNameAwsvpcTrunking:                  {"disabled", []string{"disabled"}, "instances have no limit of network interfaces"},
	types.SettingNameContainerInsights:               {"disabled", insightsValues, "it is enabled, enhanced or disabled"},
	types.SettingNameFargateFipsMode:                 {"disabled", []string{"disabled"}, "there is no FIPS mode"},
	types.SettingNameTagResourceAuthorization:        {"on", []string{"on"}, "giving tags is always authorised"},
	types.SettingNameFargateTaskRetirementWaitPeriod: {"7", []string{"7"}, "Fargate tasks are never retired"},
	types.SettingNameGuardDutyActivate:               {"off", nil, "it is read-only"},
	types.SettingNameDefaultLogDriverMode:            {"non-blocking", []string{"blocking", "non-blocking"}, "it is blocking or non-blocking"},
	types.SettingNameFargateEventWindows:             {"disabled", []string{"disabled"}, "Fargate tasks are never retired"},
}

// PutAccountSetting sets a setting for a principal: the caller, or the one that
// the root user names. For the root user it is the account's default.
func (s *Service) PutAccountSetting(ctx context.Context, in *ecs.PutAccountSettingInput) (*ecs.PutAccountSettingOutput, error) {
	principal, err := namedPrincipal(ctx, in.PrincipalArn)
	if err != nil {
		return nil, err
	}
	set, err := s.putSetting(ctx, in.Name, deref(in.Value), principal)
	if err != nil {
		return nil, err
	}
	return &ecs.PutAccountSettingOutput{Setting: set}, nil
}

// PutAccountSettingDefault sets a setting for all principals without their own.
func (s *Service) PutAccountSettingDefault(ctx context.Context, in *ecs.PutAccountSettingDefaultInput) (*ecs.PutAccountSettingDefaultOutput, error) {
	set, err := s.putSetting(ctx, in.Name, deref(in.Value), rootARN(scopeOf(ctx)))
	if err != nil {
		return nil, err
	}
	return &ecs.PutAccountSettingDefaultOutput{Setting: set}, nil
}

func (s *Service) putSetting(ctx context.Context, name types.SettingName, value, principal string) (*types.Setting, error) {
	known, ok := accountSettings[name]
	if !ok {
		return nil, errInvalidParameter("Invalid setting name: %s", clip(string(name)))
	}
	if !slices.Contains(known.values, value) {
		return nil, errInvalidParameter("The setting %s can't be '%s': %s.", name, clip(value), known.why)
	}
	sc := scopeOf(ctx)
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		s.settings.Put(tx, sc, settingKey(sc, name, principal), &AccountSetting{Name: string(name), Principal: principal, Value: value})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return settingView(name, value, principal), nil
}

// DeleteAccountSetting makes the account's default, or AWS's, apply to a
// principal again.
func (s *Service) DeleteAccountSetting(ctx context.Context, in *ecs.DeleteAccountSettingInput) (*ecs.DeleteAccountSettingOutput, error) {
	if known, ok := accountSettings[in.Name]; !ok || known.values == nil {
		return nil, errInvalidParameter("Invalid setting name: %s", clip(string(in.Name)))
	}
	principal, err := namedPrincipal(ctx, in.PrincipalArn)
	if err != nil {
		return nil, err
	}
	sc, value := scopeOf(ctx), ""
	err = s.db.Update(ctx, func(tx *store.Tx) error {
		key := settingKey(sc, in.Name, principal)
		if _, ok := s.settings.Get(tx, sc, key); ok {
			s.settings.Delete(tx, sc, key)
		}
		value = s.effectiveSetting(tx, sc, in.Name, principal)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &ecs.DeleteAccountSettingOutput{Setting: settingView(in.Name, value, principal)}, nil
}

// ListAccountSettings lists what is set for a principal, or what holds for it.
func (s *Service) ListAccountSettings(ctx context.Context, in *ecs.ListAccountSettingsInput) (*ecs.ListAccountSettingsOutput, error) {
	principal, err := namedPrincipal(ctx, in.PrincipalArn)
	if err != nil {
		return nil, err
	}
	if _, ok := accountSettings[in.Name]; !ok && in.Name != "" {
		return nil, errInvalidParameter("Invalid setting name: %s", clip(string(in.Name)))
	}
	if deref(in.Value) != "" && in.Name == "" {
		return nil, errInvalidParameter("You must specify an account setting name to filter by value.")
	}
	size := int32(maxSettingsPage)
	if in.MaxResults != 0 {
		if size = in.MaxResults; size < 1 || size > maxSettingsPage {
			return nil, errInvalidParameter("maxResults must be between 1 and %d.", maxSettingsPage)
		}
	}
	sc, snap := scopeOf(ctx), s.db.Snapshot()
	shown := map[string]types.Setting{}
	names := []string{}
	for name := range accountSettings {
		if in.Name != "" && in.Name != name {
			continue
		}
		x, ok := s.settings.Get(snap, sc, settingKey(sc, name, principal))
		value := ""
		switch {
		case ok:
			value = x.Value
		case in.EffectiveSettings:
			value = s.effectiveSetting(snap, sc, name, principal)
		default:
			continue
		}
		if deref(in.Value) == "" || *in.Value == value {
			shown[string(name)] = *settingView(name, value, principal)
			names = append(names, string(name))
		}
	}
	slices.Sort(names)
	found, token, err := page(slices.Values(names), &size, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &ecs.ListAccountSettingsOutput{Settings: []types.Setting{}, NextToken: token}
	for _, name := range found {
		out.Settings = append(out.Settings, shown[name])
	}
	return out, nil
}

func settingView(name types.SettingName, value, principal string) *types.Setting {
	kind := types.SettingTypeUser
	if accountSettings[name].values == nil {
		kind = types.SettingTypeAwsManaged
	}
	return &types.Setting{Name: name, Value: &value, PrincipalArn: &principal, Type: kind}
}

// effectiveSetting is a setting's value for a principal: its own, else the
// account's default, else AWS's.
func (s *Service) effectiveSetting(r store.Reader, sc store.Scope, name types.SettingName, principal string) string {
	for _, p := range []string{principal, rootARN(sc)} {
		if x, ok := s.settings.Get(r, sc, settingKey(sc, name, p)); ok {
			return x.Value
		}
	}
	return accountSettings[name].missing
}

// settingKey: the root user's settings are the account's defaults.
func settingKey(sc store.Scope, name types.SettingName, principal string) string {
	if principal == rootARN(sc) {
		principal = "default"
	}
	return string(name) + "/" + principal
}

func rootARN(sc store.Scope) string {
	return "arn:" + partition(sc.Region) + ":iam::" + sc.Account + ":root"
}

// settingPrincipal is the ARN that the caller's own settings are kept under: of a
// session, its role's.
func settingPrincipal(ctx context.Context) string {
	p := wire.CallFrom(ctx).Principal
	if p.Kind == wire.PrincipalRole {
		return p.Session.RoleARN
	}
	if p.Kind != wire.PrincipalRoot && p.ARN != "" {
		return p.ARN
	}
	return rootARN(scopeOf(ctx))
}

var principalRE = regexp.MustCompile(`^arn:[a-z-]+:iam::[0-9]{12}:(root|(user|role)/[\w+=,.@/-]{1,576})$`)

// namedPrincipal is the principal that a call is about: the caller, or another
// of the account when the root user asks.
func namedPrincipal(ctx context.Context, ref *string) (string, error) {
	caller, root := settingPrincipal(ctx), rootARN(scopeOf(ctx))
	named := deref(ref)
	switch {
	case named == "" || named == caller:
		return caller, nil
	case !principalRE.MatchString(named) || !strings.Contains(named, "::"+scopeOf(ctx).Account+":"):
		return "", errInvalidParameter("Invalid principal ARN: %s. Specify the ARN of a user, role or root user of this account.", clip(named))
	case wire.CallFrom(ctx).Principal.Kind != wire.PrincipalRoot:
		return "", errAccessDenied("Only the root user can name another principal than itself: %s", clip(named))
	case strings.HasSuffix(named, ":root"):
		return root, nil
	}
	return named, nil
}

// withLogMode returns the definition with the account's default log mode where a
// container's own configuration does not say. AWS's default is also the drivers'.
func (s *Service) withLogMode(r store.Reader, sc store.Scope, d *types.TaskDefinition) *types.TaskDefinition {
	mode := s.effectiveSetting(r, sc, types.SettingNameDefaultLogDriverMode, rootARN(sc))
	if mode == accountSettings[types.SettingNameDefaultLogDriverMode].missing {
		return d
	}
	changed := *d
	changed.ContainerDefinitions = slices.Clone(d.ContainerDefinitions)
	for i := range changed.ContainerDefinitions {
		c := &changed.ContainerDefinitions[i]
		if c.LogConfiguration == nil || c.LogConfiguration.Options["mode"] != "" || c.LogConfiguration.Options["max-buffer-size"] != "" {
			continue
		}
		l := *c.LogConfiguration
		l.Options = map[string]string{"mode": mode}
		for k, v := range c.LogConfiguration.Options {
			l.Options[k] = v
		}
		c.LogConfiguration = &l
	}
	return &changed
}
