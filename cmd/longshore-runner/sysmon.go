//go:build linux && cgo

package main

// Threads are made by a function of ours, which tells Go's monitor thread to wake
// up less often.

// #cgo CFLAGS: -Wall -Werror
// #cgo LDFLAGS: -Wl,--wrap=pthread_create
import "C"
