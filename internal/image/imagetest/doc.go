// Package imagetest helps tests that need images: it builds small ones in memory,
// serves them from a registry on loopback that can misbehave, and builds the
// sample program.
//
// Build makes an Image from layers of files; Archive turns images into an OCI or
// docker-save archive; Registry serves them, counts what it is asked, checks
// credentials and fails on demand. Nothing here touches the network beyond
// loopback, and everything is closed by the test's cleanup.
//
// It is not used outside tests, and does not know the image store.
//
// Read build.go first, then registry.go.
package imagetest
