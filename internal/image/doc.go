// Package image finds, fetches, imports and unpacks container images, and
// prepares writable root file systems from them. It is built from containerd's
// libraries without its daemon: content store, metadata database, overlay
// snapshotter, docker resolver.
//
// Pulls of the same image are de-duplicated; layers are fetched in parallel,
// resumed where they stopped, and kept by digest. The built-in sample image,
// longshore/sample, is made from a static program embedded in the binary (package
// sample), so that a first run needs no registry.
//
// Invariants: an image's record is written last, so what has one is complete,
// unpacked and on disk; work in progress is held by a lease that expires, so a
// crash leaves nothing for ever; layers under a root file system are never
// collected; no byte is used whose digest was not checked; what a registry, an
// image or an archive may cost is bounded by Limits.
//
// It does not mount or run anything.
//
// Read image.go first (the contract), then store.go, pull.go, unpack.go and
// prepare.go.
package image
