package store

import "errors"

// noSpace is an error that says what the API's clients are told.
type noSpace struct{}

func (noSpace) Error() string { return "store: no space left" }

// ClientMessage is the answer to a request that fails with the error.
func (noSpace) ClientMessage() string {
	return "The request was refused and has changed nothing: the server has no space left on its disk, or its store has reached its quota. It serves reads meanwhile. Free some space on the server and try again."
}

var (
	// ErrNotFound: the key does not exist.
	ErrNotFound = errors.New("store: not found")
	// ErrConflict: other writers changed what the update had read, again and again.
	ErrConflict = errors.New("store: too many conflicting writes")
	// ErrCompacted: the revision is no longer in the store's history.
	ErrCompacted = errors.New("store: revision has been compacted")
	// ErrTooLarge: a key, value or transaction exceeds a bound; nothing was written.
	ErrTooLarge = errors.New("store: too large")
	// ErrClosed: the store was closed (or not yet started).
	ErrClosed = errors.New("store: closed")
	// ErrNoSpace: the store's quota or its disk is full; it serves reads only.
	ErrNoSpace error = noSpace{}
	// ErrUnavailable: the store did not answer in time; a write may or may not
	// have been applied.
	ErrUnavailable = errors.New("store: unavailable")
	// ErrLocked: another process uses the data directory.
	ErrLocked = errors.New("store: data directory in use")
	// ErrDamaged: the stored data cannot be read.
	ErrDamaged = errors.New("store: damaged")
	// ErrNewerFormat: the data was written by a newer version of this program.
	ErrNewerFormat = errors.New("store: written by a newer version")
)
