//go:build linux && cgo

package main

// The minimal init is C that runs before the Go runtime starts: one thread and a
// few pages inside the container, instead of Go's several threads.

// #cgo CFLAGS: -Wall -Werror
import "C"
