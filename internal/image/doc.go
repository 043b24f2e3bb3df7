// Package image finds, fetches, imports and unpacks container images, and
// prepares writable root file systems from them. It is built from containerd's
// libraries without its daemon: content store, metadata database, overlay
// snapshotter, docker resolver.
//
// Pulls of the same image are de-duplicated; layers are fetched in parallel and
// kept by digest. The built-in sample image, longshore/sample, is made from a
// static program embedded in the binary, so that a first run needs no registry.
//
// It does not run anything. Read image.go first (the contract), then store.go.
package image
