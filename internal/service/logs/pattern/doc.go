// Package pattern parses and evaluates CloudWatch Logs' filter patterns.
//
// A pattern has one of three forms: terms (ERROR -"not found" ?WARN %re%), a
// JSON condition ({ $.status = 5* && $.user.id = "a" }) or the fields of a
// space-delimited message ([ip, ..., status >= 400, size]). Matching is
// case-sensitive; a term matches anywhere in the message.
//
// Pure: no I/O and no state; a Pattern may be used from several goroutines.
//
// Read pattern.go first; lex.go and expr.go serve the second and third form.
package pattern
