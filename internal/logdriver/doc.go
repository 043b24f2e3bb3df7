// Package logdriver carries a container's output from the shim's spool to where
// its log configuration says: CloudWatch Logs (awslogs), or nowhere (none,
// json-file keeps the spool).
//
// A driver reads the spool from the cursor that it last acknowledged, sends, and
// acknowledges what the receiver has confirmed: lines arrive in order, none is
// lost when the agent or the server restarts, and a container in blocking mode
// is slowed down instead of losing lines.
//
// Read logdriver.go first, then awslogs.go.
package logdriver
