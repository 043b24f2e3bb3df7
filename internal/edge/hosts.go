package edge

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// hostsFile is where the machine looks names up.
const hostsFile = "/etc/hosts"

// maxHosts bounds the file that is rewritten, in bytes.
const maxHosts = 4 << 20

// setHosts puts names into the block of a hosts file that has the mark, and leaves the rest
// as it is. Without names the block goes. The file is written in place: it may be mounted.
func setHosts(path, mark string, names map[string]string) error {
	if err := rewriteHosts(path, func(before []byte) []byte { return withBlock(before, mark, names) }); err != nil {
		return fmt.Errorf("the names of load balancers are not put into %s: %w", path, err)
	}
	return nil
}

// rewriteHosts changes the file under a lock, since other nodes of the machine do so too.
func rewriteHosts(path string, change func([]byte) []byte) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	before, err := io.ReadAll(io.LimitReader(f, maxHosts+1))
	if err != nil {
		return err
	}
	if len(before) > maxHosts {
		return fmt.Errorf("it has more than %d bytes", maxHosts)
	}
	after := change(before)
	if bytes.Equal(before, after) {
		return nil
	}
	if _, err := f.WriteAt(after, 0); err != nil {
		return err
	}
	return f.Truncate(int64(len(after)))
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
