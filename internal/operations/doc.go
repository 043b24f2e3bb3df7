// Package operations reads the operations.txt of the rooms: what of each AWS
// API is served, and what is not. A line stands for one operation of the API:
//
//	RunTask full
//	UpdateService partial: service connect is refused
//	CreateTaskSet absent
//
// The README's status table is drawn from these files by the readme command,
// and the house rules hold them against the rooms' code.
//
// It does not know the rooms' code. Read operations.go.
package operations
