package operations

import (
	"errors"
	"fmt"
	"strings"
)

// The lines of the README between which the status table stands.
const (
	Begin = "<!-- operations:begin -->"
	End   = "<!-- operations:end -->"
)

// Markdown draws the status of the rooms: a table, and below it what is served
// of each.
func Markdown(rooms []Room) string {
	var b strings.Builder
	b.WriteString("| service | operations served | of | fully | partly |\n|---|---:|---:|---:|---:|\n")
	for _, r := range rooms {
		counts := map[Status]int{}
		for _, o := range r.Operations {
			counts[o.Status]++
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d |\n", r.Name, counts[Full]+counts[Partial], len(r.Operations), counts[Full], counts[Partial])
	}
	for _, r := range rooms {
		served := r.Served()
		if len(served) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n<details><summary>%s</summary>\n\n", r.Name)
		for _, o := range served {
			fmt.Fprintf(&b, "- %s", o.Name)
			if o.Status == Partial {
				fmt.Fprintf(&b, " (partly: %s)", o.Missing)
			}
			b.WriteByte('\n')
		}
		b.WriteString("\n</details>\n")
	}
	return b.String()
}

// Update returns readme with the table between its markers replaced.
func Update(readme string, rooms []Room) (string, error) {
	before, rest, ok := strings.Cut(readme, Begin+"\n")
	if !ok {
		return "", errors.New("there is no line " + Begin)
	}
	_, after, ok := strings.Cut(rest, End)
	if !ok {
		return "", errors.New("there is no line " + End + " after " + Begin)
	}
	return before + Begin + "\n" + Markdown(rooms) + End + after, nil
}
