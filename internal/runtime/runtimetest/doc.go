// Package runtimetest is the suite that every implementation of runtime.Runtime
// passes, and what tests with real containers need: a tiny root file system with
// a static program in it, so that no image and no registry is involved.
//
// The suite speaks to containers through a few commands that the program and
// package fake both understand: see package program.
//
// Read suite.go first.
package runtimetest
