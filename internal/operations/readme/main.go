// Command readme draws the status table of the README anew from the rooms'
// operations.txt. Run it in the repository's folder:
//
//	go run ./internal/operations/readme
package main

import (
	"fmt"
	"os"

	"longshore.dev/longshore/internal/operations"
)

func main() {
	if err := update("."); err != nil {
		fmt.Fprintln(os.Stderr, "readme:", err)
		os.Exit(1)
	}
}

func update(root string) error {
	rooms, err := operations.Read(root)
	if err != nil {
		return err
	}
	path := root + "/README.md"
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text, err := operations.Update(string(old), rooms)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(text), 0o644)
}
