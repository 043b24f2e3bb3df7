package agent

import (
	"errors"
	"fmt"
	"testing"
)

// TestStartReasons: what people and programs know from Docker and ECS.
func TestStartReasons(t *testing.T) {
	for _, c := range []struct {
		err     string
		fargate bool
		want    string
	}{
		{`create container x: unable to start container process: error during container init: exec: "a": executable file not found in $PATH`, false,
			`CannotStartContainerError: Error response from daemon: failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: "a": executable file not found in $PATH: unknown`},
		{`create container x: unable to start container process: error during container init: exec: "a": executable file not found in $PATH`, true,
			`CannotStartContainerError: ResourceInitializationError: failed to create new container runtime task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: "a": executable file not found in $PATH: unknown`},
		{`create container x: find user "bob" in the image: unable to find user bob: no matching entries in passwd file`, false,
			`CannotStartContainerError: Error response from daemon: unable to find user bob: no matching entries in passwd file`},
		{`create container x: mount the root file system: no space left on device`, false,
			`CannotStartContainerError: Error response from daemon: create container x: mount the root file system: no space left on device`},
	} {
		err := fmt.Errorf("build: %w", &startError{errors.New(c.err)})
		if got := createReason(err, c.fargate); got != c.want {
			t.Errorf("%s\nwant %s", got, c.want)
		}
	}
}
