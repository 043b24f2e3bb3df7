package netdump

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestWhole(t *testing.T) {
	other := errors.New("no permission")
	for name, c := range map[string]struct {
		interruptions int
		then          error
		want          error
		calls         int
	}{
		"at once":               {0, nil, nil, 1},
		"interrupted":           {3, nil, nil, 4},
		"another error":         {1, other, other, 2},
		"interrupted for ever":  {attempts, nil, netlink.ErrDumpInterrupted, attempts},
		"another error at once": {0, other, other, 1},
	} {
		calls := 0
		all, err := Whole(func() ([]int, error) {
			if calls++; calls <= c.interruptions {
				return []int{1}, netlink.ErrDumpInterrupted
			}
			return []int{1, 2}, c.then
		})
		if !errors.Is(err, c.want) || calls != c.calls || err == nil && len(all) != 2 {
			t.Errorf("%s: %v, %v after %d calls", name, all, err, calls)
		}
	}
}
