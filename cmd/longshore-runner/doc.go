// Command longshore-runner is the small static executable that runs containers:
//
//	longshore-runner shim CONFIG   the shim of one group of containers
//	longshore-runner init          libcontainer's second stage, inside a container
//	/dev/init tini -- COMMAND      a minimal init as a container's first process
//
// It is started by longshore, into whose executable it is built, and not by hand.
//
// It needs cgo and libseccomp; "make build" builds it with
//
//	CGO_ENABLED=1 go build -trimpath -tags 'seccomp netgo osusergo' \
//	  -ldflags '-extldflags "-static" -s -w' \
//	  -o internal/runtime/native/embedded/longshore-runner ./cmd/longshore-runner
//
// Without cgo it is a stub that says so.
package main
