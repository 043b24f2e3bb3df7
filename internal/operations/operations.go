package operations

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Status tells how far an operation is served.
type Status string

// The statuses.
const (
	Full    Status = "full"
	Partial Status = "partial"
	Absent  Status = "absent"
)

// Operation is one operation of an API.
type Operation struct {
	Name   string
	Status Status
	// Missing says what a Partial operation lacks.
	Missing string
}

// Room is one AWS service with its operations, sorted by name.
type Room struct {
	Name       string
	Operations []Operation
}

// Served returns the operations that are not Absent.
func (r Room) Served() []Operation {
	return slices.DeleteFunc(slices.Clone(r.Operations), func(o Operation) bool { return o.Status == Absent })
}

// Parse reads an operations.txt: every operation once, in alphabetical order.
// Empty lines and lines that begin with # do not count.
func Parse(text []byte) ([]Operation, error) {
	var list []Operation
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		op, err := parseLine(line)
		if err == nil && len(list) > 0 && op.Name <= list[len(list)-1].Name {
			err = fmt.Errorf("%s stands after %s; keep the names sorted, each once", op.Name, list[len(list)-1].Name)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		list = append(list, op)
	}
	return list, lines.Err()
}

func parseLine(line string) (Operation, error) {
	name, status, _ := strings.Cut(line, " ")
	switch Status(status) {
	case Full, Absent:
		return Operation{Name: name, Status: Status(status)}, nil
	}
	missing, ok := strings.CutPrefix(status, "partial: ")
	if missing = strings.TrimSpace(missing); !ok || missing == "" {
		return Operation{}, fmt.Errorf("%q is none of: Name full, Name partial: what is missing, Name absent", line)
	}
	return Operation{Name: name, Status: Partial, Missing: missing}, nil
}

// Read reads the operations.txt of every room below root, the repository's
// folder, sorted by the rooms' names.
func Read(root string) ([]Room, error) {
	files, err := filepath.Glob(filepath.Join(root, "internal", "service", "*", "operations.txt"))
	if err != nil {
		return nil, err
	}
	var rooms []Room
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		list, err := Parse(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		rooms = append(rooms, Room{Name: filepath.Base(filepath.Dir(file)), Operations: list})
	}
	return rooms, nil
}
