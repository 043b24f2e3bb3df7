package netdump

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// attempts bounds the listings that are made for a whole one.
const attempts = 50

// Whole lists until nothing has changed meanwhile. Its error is list's own; it is
// netlink.ErrDumpInterrupted when the objects never kept still.
func Whole[T any](list func() ([]T, error)) (all []T, err error) {
	for range attempts {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}
