package edge

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
)

// hostsFile is where the machine looks names up.
const hostsFile = "/etc/hosts"

// maxHosts bounds the file that is rewritten, in bytes.
const maxHosts = 4 << 20

// setHosts puts names into the block of a hosts file that has the mark, and leaves the rest
// as it is. Without names the block goes. The file is written in place: it may be mounted.
func setHosts(path, mark string, names map[string]string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("the names of load balancers are not put into %s: %w", path, err)
	}
	if info.Size() > maxHosts {
		return fmt.Errorf("the names of load balancers are not put into %s, which has %d bytes", path, info.Size())
	}
	before, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("the names of load balancers are not put into %s: %w", path, err)
	}
	after := withBlock(before, mark, names)
	if bytes.Equal(before, after) {
		return nil
	}
	if err := os.WriteFile(path, after, info.Mode().Perm()); err != nil {
		return fmt.Errorf("the names of load balancers are not put into %s: %w", path, err)
	}
	return nil
}

func withBlock(text []byte, mark string, names map[string]string) []byte {
	begin, end := "# longshore "+mark+" begin", "# longshore "+mark+" end"
	var kept []string
	inside := false
	for line := range strings.Lines(string(text)) {
		switch strings.TrimRight(line, "\r\n") {
		case begin:
			inside = true
		case end:
			inside = false
		default:
			if !inside {
				kept = append(kept, line)
			}
		}
	}
	out := strings.Join(kept, "")
	if len(names) == 0 {
		return []byte(out)
	}
	if out != "" && !strings.HasSuffix(out, "\n") {
		out += "\n"
	}
	var lines []string
	for name, address := range names {
		lines = append(lines, address+" "+name+"\n")
	}
	slices.Sort(lines)
	return []byte(out + begin + "\n" + strings.Join(lines, "") + end + "\n")
}
