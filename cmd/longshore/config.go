package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// configFile holds flags' values by the flags' names. Command line and
// variables win over it.
type configFile map[string]any

// readConfig reads a configuration file: one JSON object.
func readConfig(r io.Reader) (kong.Resolver, error) {
	var c configFile
	decoder := json.NewDecoder(r)
	decoder.UseNumber()
	if err := decoder.Decode(&c); err != nil {
		return nil, fmt.Errorf("the configuration file is not a JSON object: %w", err)
	}
	return c, nil
}

// Validate implements kong.Resolver: a name that is no flag's is a mistake.
func (c configFile) Validate(app *kong.Application) error {
	known := map[string]bool{}
	_ = kong.Visit(app, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok {
			known[flag.Name] = true
		}
		return next(nil)
	})
	var unknown []string
	for name := range c {
		if !known[name] {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return fmt.Errorf("the configuration file names %s: there is no such flag; `longshore up --help` lists them", strings.Join(unknown, ", "))
	}
	return nil
}

// Resolve implements kong.Resolver. Kong asks it before it looks at variables,
// which are nearer to the user and win.
func (c configFile) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	for _, name := range flag.Envs {
		if _, set := os.LookupEnv(name); set {
			return nil, nil
		}
	}
	value, ok := c[flag.Name]
	if !ok {
		return nil, nil
	}
	if number, ok := value.(json.Number); ok {
		return number.String(), nil
	}
	return value, nil
}
