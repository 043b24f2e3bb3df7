// Package table is the form in which the constraints of a service's inputs are
// kept: a text file with a line per shape and per member, small and easy to
// compare, holding only what is needed to check inputs.
//
//	service logs 2014-03-28
//	operation CreateLogGroup CreateLogGroupRequest
//	structure CreateLogGroupRequest
//	  *logGroupName LogGroupName
//	  tags Tags
//	map Tags 1..50 TagKey TagValue
//	string LogGroupName 1..512 /[\.\-_/#A-Za-z0-9]+
//	string StandardUnit enum Seconds|Bytes
//
// FromModel derives a table from a published API model, Format writes it and
// Parse reads it back. A star marks a required member; a shape "-" has no
// constraint of its own; "sensitive" after a shape's name keeps its values out
// of messages. A pattern is the rest of its line, as the model has it: Compile
// translates it from Java's dialect to RE2.
//
// It does not check anything; that is package constraint.
//
// Read table.go first.
package table
