package bulk

import "errors"

// The errors of every implementation, wrapped with what happened and where.
var (
	// ErrNotFound: there is no such record.
	ErrNotFound = errors.New("not found")
	// ErrLocked: another process holds the data directory.
	ErrLocked = errors.New("data directory is in use by another process")
	// ErrDamaged: what is on disk cannot be read as it was written.
	ErrDamaged = errors.New("stored data is damaged")
	// ErrFull: the disk has too little room left; nothing was written.
	ErrFull = errors.New("disk is full")
	// ErrFailed: a write to disk failed earlier. What was acknowledged is safe, but
	// nothing more is accepted until the data is opened again.
	ErrFailed = errors.New("stopped after a failed write to disk")
	// ErrClosed: used after Close.
	ErrClosed = errors.New("closed")
	// ErrInvalid: an argument that no implementation can store.
	ErrInvalid = errors.New("invalid argument")
)
