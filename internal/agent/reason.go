package agent

import "strings"

// startError is why the runtime did not make a container. What Docker finds out only
// when it starts one, such as a command that is not there, we find out before.
type startError struct{ err error }

func (e *startError) Error() string { return e.err.Error() }
func (e *startError) Unwrap() error { return e.err }

// reason is the error as Docker and runc word it, for the people and programs that
// know those texts.
func (e *startError) reason(fargate bool) string {
	text := e.err.Error()
	if _, user, ok := strings.Cut(text, "unable to find "); ok { // a user or a group
		return "CannotStartContainerError: Error response from daemon: unable to find " + user
	}
	_, process, ok := strings.Cut(text, "unable to start container process: ")
	if !ok {
		return "CannotStartContainerError: Error response from daemon: " + text
	}
	by := "Error response from daemon: failed to create task for container"
	if fargate {
		by = "ResourceInitializationError: failed to create new container runtime task"
	}
	return "CannotStartContainerError: " + by + ": failed to create shim task: OCI runtime create failed: " +
		"runc create failed: unable to start container process: " + process + ": unknown"
}
