// Package cql parses and evaluates Amazon ECS's cluster query language: the
// expressions of memberOf placement constraints and of list filters.
//
//	attribute:ecs.instance-type =~ t3.* and not(task:group == service:db)
//
// Parse checks everything that can be checked without an instance (syntax,
// which operators a subject has, regular expressions, numbers, dates) and says
// at which character an expression is wrong. An Expression is immutable and may
// be used by many goroutines; evaluating it neither fails nor allocates much.
//
// Expressions come from clients: length and nesting are bounded, and patterns
// run on RE2, in linear time. What Java's patterns have beyond RE2 (lookaround,
// back references, possessive quantifiers) is refused by Parse.
//
// Read parse.go first, then eval.go.
package cql
