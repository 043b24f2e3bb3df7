package repotest

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"longshore.dev/longshore/internal/operations"
)

// Each room says in operations.txt how far it serves each operation of its API,
// and that is what it registers.
func operationsHold(r *repo) (broken []string) {
	for _, d := range r.sortedDirs() {
		if roomOf(d.path) == "" || d.path != "internal/service/"+roomOf(d.path) {
			continue
		}
		text, err := fs.ReadFile(r.fs, d.path+"/operations.txt")
		if err != nil {
			broken = append(broken, d.path+" has no operations.txt")
			continue
		}
		list, err := operations.Parse(text)
		if err != nil {
			broken = append(broken, fmt.Sprintf("%s/operations.txt: %v", d.path, err))
			continue
		}
		registered := r.registered(d)
		known := make(map[string]bool)
		for _, o := range list {
			known[o.Name] = true
			place := registered[o.Name]
			switch {
			case o.Status != operations.Absent && place == "":
				broken = append(broken, fmt.Sprintf("%s/operations.txt: %s is %s, but nothing registers it", d.path, o.Name, o.Status))
			case o.Status == operations.Absent && place != "":
				broken = append(broken, fmt.Sprintf("%s/operations.txt: %s is absent, but %s registers it", d.path, o.Name, place))
			}
		}
		for _, name := range slices.Sorted(maps.Keys(registered)) {
			if !known[name] {
				broken = append(broken, fmt.Sprintf("%s: %s is not in %s/operations.txt", registered[name], name, d.path))
			}
		}
	}
	return broken
}

// registered finds the wire.Operation[...]{Name: "X"} literals of a room, with
// their places.
func (r *repo) registered(d *dir) map[string]string {
	found := make(map[string]string)
	for _, f := range d.source() {
		local := f.imports[module+"/internal/wire"]
		ast.Inspect(f.ast, func(n ast.Node) bool {
			literal, ok := n.(*ast.CompositeLit)
			if !ok || local == "" || !isOperation(literal.Type, local) {
				return true
			}
			for _, element := range literal.Elts {
				pair, ok := element.(*ast.KeyValueExpr)
				if !ok {
					continue
				}
				key, _ := pair.Key.(*ast.Ident)
				value, _ := pair.Value.(*ast.BasicLit)
				if key == nil || key.Name != "Name" || value == nil {
					continue
				}
				if name, err := strconv.Unquote(value.Value); err == nil {
					found[name] = r.at(literal)
				}
			}
			return true
		})
	}
	return found
}

func isOperation(expr ast.Expr, wire string) bool {
	index, ok := expr.(*ast.IndexExpr)
	if !ok {
		return false
	}
	sel, ok := index.X.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != "Operation" {
		return false
	}
	pkg, ok := sel.X.(*ast.Ident)
	return ok && pkg.Name == wire
}

// The published models know no operation that a room's list has forgotten.
func TestOperationsAreComplete(t *testing.T) {
	models := filepath.Join(root(t), "..", "shared", "aws-models")
	if _, err := os.Stat(models); err != nil {
		t.Skipf("no published models beside the repository: %v", err)
	}
	rooms, err := operations.Read(root(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, room := range rooms {
		text, err := os.ReadFile(filepath.Join(models, room.Name, "service-2.json"))
		if err != nil {
			t.Errorf("room %s is not named as its model: %v", room.Name, err)
			continue
		}
		var model struct {
			Operations map[string]json.RawMessage `json:"operations"`
		}
		if err := json.Unmarshal(text, &model); err != nil {
			t.Fatal(err)
		}
		for _, name := range slices.Sorted(maps.Keys(model.Operations)) {
			if !slices.ContainsFunc(room.Operations, func(o operations.Operation) bool { return o.Name == name }) {
				t.Errorf("internal/service/%s/operations.txt does not list %s", room.Name, name)
			}
		}
	}
}

// The README's status table is what the rooms say.
func TestReadmeStatusTable(t *testing.T) {
	rooms, err := operations.Read(root(t))
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join(root(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := operations.Update(string(readme), rooms)
	if err != nil {
		t.Fatalf("README.md: %v", err)
	}
	if strings.TrimSpace(want) != strings.TrimSpace(string(readme)) {
		t.Error("the status table of README.md is out of date: go run ./internal/operations/readme")
	}
}
