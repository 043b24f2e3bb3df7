// Package removetree removes directory trees that a container has made, and so may
// have made to resist: nested deeper than a process has descriptors for, with files
// that are immutable, with links that lead out. os.RemoveAll holds one descriptor
// for each level, and gives up at the first immutable file.
//
// Invariants: a bounded number of descriptors is open at a time; no link is followed,
// whoever exchanges names meanwhile; what is not below the path is not touched.
package removetree
