// Package membulk keeps bulk data in memory, for simulations and fast tests.
//
// It holds the contracts of package bulk in their simplest form and doubles as
// the model that other implementations are compared with. It starts no
// goroutine, reads no clock, and forgets everything with the process.
//
// Read membulk.go.
package membulk
