package ecs

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/wire"
)

func (s *Service) registerSettings(w *wire.Service) {
	wire.Handle(w, wire.Operation[ecs.PutAccountSettingInput]{
		Name: "PutAccountSetting",
		Conditions: func(_ context.Context, in *ecs.PutAccountSettingInput) map[string][]string {
			return settingCondition(in.Name)
		},
	}, s.PutAccountSetting)
	wire.Handle(w, wire.Operation[ecs.PutAccountSettingDefaultInput]{
		Name: "PutAccountSettingDefault",
		Conditions: func(_ context.Context, in *ecs.PutAccountSettingDefaultInput) map[string][]string {
			return settingCondition(in.Name)
		},
	}, s.PutAccountSettingDefault)
	wire.Handle(w, wire.Operation[ecs.DeleteAccountSettingInput]{
		Name: "DeleteAccountSetting",
		Conditions: func(_ context.Context, in *ecs.DeleteAccountSettingInput) map[string][]string {
			return settingCondition(in.Name)
		},
	}, s.DeleteAccountSetting)
	wire.Handle(w, wire.Operation[ecs.ListAccountSettingsInput]{
		Name: "ListAccountSettings", ReadOnly: true,
	}, s.ListAccountSettings)
}

func settingCondition(name types.SettingName) map[string][]string {
	return map[string][]string{"ecs:account-setting": {string(name)}}
}
