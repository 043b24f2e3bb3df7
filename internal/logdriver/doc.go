// Package logdriver carries a container's output from the shim's spool to where
// its log configuration says: CloudWatch Logs (awslogs), or nowhere (none;
// json-file keeps it in the spool).
//
// Parse reads a task definition's log configuration and says how the shim shall
// keep the output; Prepare makes sure, before the container starts, that there is
// a place to send it to; Run reads the spool from the cursor that was last
// acknowledged, sends, and acknowledges what the receiver has confirmed.
//
// Lines arrive in order, and none is lost when the agent or the server restarts.
// Delivery is at least once: what was confirmed but not yet acknowledged when the
// agent died, and lines that share a chunk with an unfinished one, are sent again.
// A container in blocking mode is slowed down instead of losing lines; in
// non-blocking mode, AWS's default, the oldest lines are dropped at the bound, and an
// event says where.
//
// Read logdriver.go first, then parse.go, line.go (pure) and awslogs.go.
package logdriver
