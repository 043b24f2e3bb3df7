package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"longshore.dev/longshore/internal/wire/constraint/table"
)

func main() {
	models := flag.String("models", "", "folder of the published models")
	out := flag.String("out", "tables", "folder to write to")
	flag.Parse()
	for _, service := range flag.Args() {
		if err := generate(*models, *out, service); err != nil {
			fmt.Fprintln(os.Stderr, "gen:", err)
			os.Exit(1)
		}
	}
}

func generate(models, out, service string) error {
	text, err := os.ReadFile(filepath.Join(models, service, "service-2.json"))
	if err != nil {
		return err
	}
	t, err := table.FromModel(service, text)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, service+".txt"), t.Format(), 0o644)
}
