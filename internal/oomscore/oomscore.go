package oomscore

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// The scores (proc(5), oom_score_adj): -1000 is never, 0 by use alone. A machine on
// which only Longshore is left to end must still be able to end it.
const (
	// Main is the server's and the agent's.
	Main = -999
	// Shim is a shim's, of which there is one per task.
	Shim = -998
)

// Set sets the score of this process and of those that it starts from now on. Less
// than what it has needs CAP_SYS_RESOURCE.
func Set(score int) error {
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(score)), 0); err != nil {
		return fmt.Errorf("set how this process counts when the machine runs out of memory: %w", err)
	}
	return nil
}

// Lowered tells whether this process counts for less than its use, which what it
// starts would inherit.
func Lowered() bool {
	raw, err := os.ReadFile("/proc/self/oom_score_adj")
	return err == nil && strings.HasPrefix(string(raw), "-")
}
