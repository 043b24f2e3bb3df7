// Command program is what the containers of the runtime's tests run: a static
// executable that does the one thing its name says, such as exit, echo or sleep.
// It is built into a root file system by package runtimetest.
package main
