// Package logstest serves the CloudWatch Logs room on loopback for tests, behind
// the same server and checks as in production.
//
// The room's clock is the test's (SetTime), one user is let in, any one action can
// be refused (Deny), and the server can go away and come back at the same address
// (Down, Up). The caller makes its own client: see Credentials.
//
// Only tests import it. Read logstest.go.
package logstest
