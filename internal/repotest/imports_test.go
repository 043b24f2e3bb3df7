package repotest

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
)

// maxInternalImports is for every package but those that may be wide.
const maxInternalImports = 10

// Levels of the packages below internal; imports go down or stay on a level.
// What is not named is a leaf.
var levels = []struct {
	level int
	names []string
}{
	{4, []string{"control", "node", "agent", "sim"}},
	{3, []string{"service", "acs"}},
	{2, []string{"wire", "reconcile", "placement", "rollout", "store", "bulk", "backup", "nodestate", "runtime", "network", "logdriver", "edge"}},
}

const cmdLevel = 5

// levelOf returns the level of a package by its path below the root.
func levelOf(pkg string) int {
	parts := strings.Split(pkg, "/")
	if parts[0] == "cmd" {
		return cmdLevel
	}
	if len(parts) > 1 && parts[0] == "internal" {
		for _, l := range levels {
			if slices.Contains(l.names, parts[1]) {
				return l.level
			}
		}
	}
	return 1
}

// roomOf returns the room that a package belongs to, "" for none.
func roomOf(pkg string) string {
	rest, ok := strings.CutPrefix(pkg, "internal/service/")
	if !ok {
		return ""
	}
	room, _, _ := strings.Cut(rest, "/")
	return room
}

// Imports only go down, rooms do not know each other (also in their tests), and
// nothing imports a command.
func importDirection(r *repo) (broken []string) {
	for _, d := range r.sortedDirs() {
		for _, imported := range internalImports(d.files) {
			if room, other := roomOf(d.path), roomOf(imported); room != "" && other != "" && room != other {
				broken = append(broken, fmt.Sprintf("room %s imports room %s; declare an interface and let control wire it", room, other))
			}
			if strings.HasPrefix(imported, "cmd/") {
				broken = append(broken, fmt.Sprintf("%s imports the command %s", d.path, imported))
			}
		}
		// Tests, end-to-end tests and benchmarks may reach up.
		if !strings.HasPrefix(d.path, "internal/") {
			continue
		}
		for _, imported := range internalImports(d.source()) {
			if levelOf(imported) > levelOf(d.path) {
				broken = append(broken, fmt.Sprintf("%s imports %s, which is above it", d.path, imported))
			}
		}
	}
	return broken
}

// Only the composition roots know many packages.
func importWidth(r *repo) (broken []string) {
	for _, d := range r.sortedDirs() {
		if n := len(internalImports(d.source())); n > maxInternalImports && levelOf(d.path) < 4 {
			broken = append(broken, fmt.Sprintf("%s imports %d packages of ours, at most %d", d.path, n, maxInternalImports))
		}
	}
	return broken
}

// Rooms, and what is below them, take requests and types from the SDK, not its
// clients: a call from room to room goes through wire.
func noSDKClients(r *repo) (broken []string) {
	const sdk = "github.com/aws/aws-sdk-go-v2/service/"
	for _, f := range r.files() {
		if f.test || !strings.HasPrefix(f.path, "internal/service/") && !strings.HasPrefix(f.path, "internal/wire/") {
			continue
		}
		f.uses(func(sel *ast.SelectorExpr, imported, name string) {
			service, ok := strings.CutPrefix(imported, sdk)
			if ok && !strings.Contains(service, "/") && (name == "Client" || name == "Options" || strings.HasPrefix(name, "New")) {
				broken = append(broken, fmt.Sprintf("%s: uses the SDK's client (%s.%s)", r.at(sel), service, name))
			}
		})
	}
	return broken
}

// The main binary is built without cgo.
func noCgo(r *repo) (broken []string) {
	for _, f := range r.files() {
		if _, ok := f.imports["C"]; ok && !strings.HasPrefix(f.path, "cmd/longshore-runner/") {
			broken = append(broken, f.path+": imports C; only cmd/longshore-runner is built with cgo")
		}
	}
	return broken
}

// Packages that decide do it purely: time, randomness and ids are passed in, and
// the outside is not there.
func purity(r *repo) (broken []string) {
	outside := []string{"crypto/rand", "os", "os/exec", "net", "net/http", "log", "log/slog", "context", "sync", "syscall", "github.com/google/uuid"}
	clock := []string{"Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Sleep", "Local"}
	seeded := []string{"Rand", "Source", "New", "NewPCG", "NewChaCha8", "NewZipf", "PCG", "ChaCha8", "Zipf"}
	for _, f := range r.files() {
		if f.test || !isPure(f.path) {
			continue
		}
		for _, imported := range outside {
			if _, ok := f.imports[imported]; ok {
				broken = append(broken, fmt.Sprintf("%s: a pure package imports %s", f.path, imported))
			}
		}
		f.uses(func(sel *ast.SelectorExpr, imported, name string) {
			switch {
			case imported == "time" && slices.Contains(clock, name),
				(imported == "math/rand" || imported == "math/rand/v2") && !slices.Contains(seeded, name):
				broken = append(broken, fmt.Sprintf("%s: a pure package uses %s.%s; have it passed in", r.at(sel), imported, name))
			}
		})
	}
	return broken
}

func isPure(path string) bool {
	for _, pure := range []string{"internal/placement/", "internal/policy/", "internal/rollout/"} {
		if strings.HasPrefix(path, pure) {
			return true
		}
	}
	return false
}
