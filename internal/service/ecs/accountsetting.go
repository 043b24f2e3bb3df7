package ecs

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

// settingPrincipal is the ARN that the caller's own account settings are kept under.
func settingPrincipal(ctx context.Context) string { return wire.CallFrom(ctx).Principal.ARN }

// effectiveSetting is a setting's value for a principal: its own, else the
// account's default, else AWS's.
func (s *Service) effectiveSetting(r store.Reader, sc store.Scope, name types.SettingName, principal string) (value, setFor string) {
	for _, p := range []string{principal, settingDefault} {
		if x, ok := s.settings.Get(r, sc, string(name)+"/"+p); ok {
			return x.Value, x.Principal
		}
	}
	return settingDefaults[name], ""
}

const settingDefault = "default"

var settingDefaults = map[types.SettingName]string{types.SettingNameContainerInsights: "disabled"}
