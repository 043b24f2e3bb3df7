// Package control is the composition root of the server: it opens the store,
// builds every room, wires what one needs of another, and serves the API.
//
// It holds no behaviour of its own beyond start order and shutdown: components
// run in one group in which the death of one stops the server.
//
// Read control.go.
package control
