package logs

import (
	"context"
	"strings"

	"longshore.dev/longshore/internal/store"
)

// groupARN is a log group's ARN without the trailing ":*".
func groupARN(sc store.Scope, name string) string {
	return "arn:aws:logs:" + sc.Region + ":" + sc.Account + ":log-group:" + name
}

func streamARN(sc store.Scope, group, name string) string {
	return groupARN(sc, group) + ":log-stream:" + name
}

// nameOf takes a log group's name from a name or an ARN, with or without the
// trailing ":*".
func nameOf(ctx context.Context, identifier string) (string, error) {
	if !strings.HasPrefix(identifier, "arn:") {
		return identifier, nil
	}
	sc := scopeOf(ctx)
	parts := strings.SplitN(identifier, ":", 7)
	if len(parts) < 7 || parts[2] != "logs" || parts[5] != "log-group" {
		return "", invalid("The specified ARN %q is not that of a log group.", identifier)
	}
	name := strings.TrimSuffix(parts[6], ":*")
	if name == "" || strings.ContainsAny(name, ":*") {
		return "", invalid("The specified ARN %q is not that of a log group.", identifier)
	}
	if parts[3] != sc.Region || parts[4] != sc.Account {
		return "", errNoGroup() // other accounts' and regions' groups are not to be seen
	}
	return name, nil
}

// nameOrIdentifier reads the two ways in which an operation names its log group.
func nameOrIdentifier(ctx context.Context, name, identifier *string) (string, error) {
	switch {
	case name != nil && identifier != nil:
		return "", invalid("LogGroupName and LogGroupIdentifier cannot both be specified.")
	case name != nil:
		return *name, nil
	case identifier != nil:
		return nameOf(ctx, *identifier)
	}
	return "", invalid("Either logGroupName or logGroupIdentifier must be specified.")
}
