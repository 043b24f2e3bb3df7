package agent

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// parseSignal reads an image's stop signal: "SIGQUIT", "QUIT" or "3".
func parseSignal(text string) (int, bool) {
	if text == "" {
		return 0, false
	}
	if n, err := strconv.Atoi(text); err == nil {
		return n, n > 0 && n < 65
	}
	name := strings.ToUpper(text)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	n := unix.SignalNum(name)
	return int(n), n != 0
}
