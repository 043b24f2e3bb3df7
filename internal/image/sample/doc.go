// Package sample makes the image longshore/sample out of a static program that
// is embedded in the binary, so that a first run needs no registry.
//
// The program is cmd/longshore-sample. `make build` puts it into embedded/ before
// it builds longshore; on a fresh clone the directory holds a placeholder only,
// everything compiles, and Program answers ErrNotBuilt.
//
// The image is deterministic: the same program gives the same digest, by which
// the image store tells whether it has to import it again. It does not import
// anything itself.
//
// Read sample.go.
package sample
