// Package test runs the built binary as a user would, with AWS's own clients:
// Debian's awscli and aws-sdk-go-v2. Each test starts a Longshore of its own in a
// temporary directory and on a free port, and ends with nothing left behind.
//
// `make test` builds bin/longshore first. The tests need root, for containers;
// without it, or without the binary or the CLI, they skip and say so.
//
// Read harness_test.go first.
package test
