// Package constraint holds an operation's input against the constraints of the
// API's published model: required members, lengths, ranges, patterns and enums.
// A violation is answered with the code and the words that AWS uses:
//
//	1 validation error detected: Value 'a b' at 'logGroupName' failed to satisfy
//	constraint: Member must satisfy regular expression pattern: [\.\-_/#A-Za-z0-9]+
//
// The constraints come from a compact table per service (tables/*.txt), which
// gen derives from the models and the binary embeds. A Checker reads a service's
// table when its first call arrives, lays a shape over the SDK's Go type once,
// and from then on only walks.
//
// It does not check what the model does not say: semantic checks live with the
// operation. Members and enum values of an SDK newer than the model are accepted.
//
// Invariants: a sensitive value is never repeated in a message; messages are
// bounded, whatever the input; patterns run on RE2, in linear time.
//
// Read check.go first, then plan.go; table/table.go describes the files.
package constraint

//go:generate go run ./gen -models ../../../../shared/aws-models ecs logs sts iam batch cloudwatch elbv2
