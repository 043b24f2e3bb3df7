//go:build !linux || !cgo

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "longshore-runner was built without cgo: build it with \"make build\"")
	os.Exit(2)
}
