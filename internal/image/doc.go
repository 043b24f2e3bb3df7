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
// A pull asks the registry by default, and what is here serves when that fails, as
// with Amazon's agent (ECS_IMAGE_PULL_BEHAVIOR): a tag may have moved, and a
// registry that is down must not keep a task from starting. An imported image is
// never asked for, one pinned by digest only when it is missing. Clean removes
// what nobody uses; imported images, the sample among them, stay.
//
// Invariants: an image's record is written last, so what has one is complete,
// unpacked and on disk (one sync for each image; what has none is not trusted after
// a reboot); work in progress is held by a lease that expires, so a crash leaves
// nothing for ever; layers under a root file system are never collected; no byte is
// used whose digest was not checked; what a registry, an image or an archive may
// cost is bounded by Limits, and a twentieth of the disk stays free for others.
//
// It does not mount or run anything.
//
// Read image.go first (the contract), then store.go, pull.go, registry.go,
// unpack.go, prepare.go and clean.go.
package image
