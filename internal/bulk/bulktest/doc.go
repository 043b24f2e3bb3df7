// Package bulktest is the suite that every implementation of package bulk's
// contracts passes: Logs and History take a function that opens an empty one.
//
// Besides examples it compares an implementation with a plain sorted slice under
// random operations, and reads pages while several writers append.
//
// Read logs.go first.
package bulktest
