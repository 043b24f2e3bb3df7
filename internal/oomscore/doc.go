// Package oomscore says how a process counts when the machine runs out of memory
// and the kernel has to end one: Longshore's own processes are the last it takes,
// and a container's count by what they use.
//
// It does not decide what a container is: the runtime's specification resets the
// score of every process that runs in one.
//
// Read oomscore.go.
package oomscore
