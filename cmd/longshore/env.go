package main

import (
	"strings"

	"longshore.dev/longshore/internal/control"
)

type envCommand struct{ ownerFlags }

// Run prints shell lines for eval. Older AWS CLIs ignore AWS_ENDPOINT_URL, so a
// function passes it as an option.
func (e *envCommand) Run(c *console) error {
	a, err := control.ReadAccess(e.Data, e.rootKey())
	if err != nil {
		return err
	}
	variables := []struct{ name, value string }{
		{"AWS_ACCESS_KEY_ID", a.AccessKeyID},
		{"AWS_SECRET_ACCESS_KEY", a.SecretAccessKey},
		{"AWS_REGION", a.Region},
		{"AWS_DEFAULT_REGION", a.Region},
		{"AWS_ENDPOINT_URL", a.Endpoint},
	}
	if a.CAFile != "" {
		variables = append(variables, struct{ name, value string }{"AWS_CA_BUNDLE", a.CAFile})
	}
	for _, v := range variables {
		c.say("export %s=%s", v.name, quote(v.value))
	}
	c.say("unset AWS_SESSION_TOKEN AWS_PROFILE")
	c.say(`aws() { command aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"; }`)
	return nil
}

// quote makes one shell word.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
