// Package repotest holds the house rules of this repository as ordinary tests:
// package docs, import direction, purity, sizes, the rooms' operations.txt
// against their code, and words that must not appear.
//
// A rule is a function over the parsed repository that returns what breaks it;
// each is also run over a small bad tree, so that a rule cannot rot into one
// that never fires. Files are parsed in-process: a test that shells out would be
// answered from Go's test cache and miss violations.
//
// oversized.txt lists the files and functions that are longer than allowed. It
// may only shrink: an entry whose subject got shorter, or is gone, fails too.
//
// It has no code outside of tests. Read repo_test.go first, then rules_test.go.
package repotest
