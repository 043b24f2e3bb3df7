package main

import (
	"os"
	"strings"
	"testing"
)

func TestOnlyUnwritablePagesOfTheProgramAreGivenBack(t *testing.T) {
	const program = "/usr/bin/longshore"
	for line, want := range map[string]bool{
		"00400000-01f4a000 r-xp 00000000 fd:00 123    " + program:                true,
		"01f4a000-04000000 r--p 01b4a000 fd:00 123    " + program:                true,
		"04000000-04100000 rw-p 03c00000 fd:00 123    " + program:                false,
		"00400000-01f4a000 r-xp 00000000 fd:00 123    " + program + " (deleted)": false,
		"00400000-01f4a000 r-xp 00000000 fd:00 123    /lib/other":                false,
		"7f0000000000-7f0000100000 r--s 00000000 fd:00 9 " + program:             false,
		"c000000000-c000400000 rw-p 00000000 00:00 0":                            false,
		"": false,
	} {
		from, to, ok := ownPages(line, program)
		if ok != want || ok && (from == 0 || to <= from) {
			t.Errorf("%q: %x-%x, %v", line, from, to, ok)
		}
	}
}

// The process goes on after its pages were given back.
func TestSettle(t *testing.T) {
	settle()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil || !strings.Contains(string(maps), "[stack]") {
		t.Errorf("%.200s, %v", maps, err)
	}
}
