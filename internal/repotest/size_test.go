package repotest

import (
	"fmt"
	"go/ast"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
)

const (
	maxFileLines     = 700
	maxFunctionLines = 70
	oversizedList    = "internal/repotest/oversized.txt"
)

// Files and functions are short, but for those in the list, which may only get
// shorter. Test functions may be long: tables of cases are.
func sizes(r *repo) (broken []string) {
	allowed, err := readOversized(r.fs)
	if err != nil {
		return []string{err.Error()}
	}
	actual := r.oversized()
	for _, subject := range slices.Sorted(maps.Keys(actual)) {
		lines, limit := actual[subject], allowed[subject]
		switch {
		case limit == 0:
			broken = append(broken, fmt.Sprintf("%s is %d lines long; make it shorter (file %d, function %d)", subject, lines, maxFileLines, maxFunctionLines))
		case lines > limit:
			broken = append(broken, fmt.Sprintf("%s grew to %d lines, %s has %d", subject, lines, oversizedList, limit))
		case lines < limit:
			broken = append(broken, fmt.Sprintf("%s shrank to %d lines: set that in %s", subject, lines, oversizedList))
		}
	}
	for _, subject := range slices.Sorted(maps.Keys(allowed)) {
		if actual[subject] == 0 {
			broken = append(broken, fmt.Sprintf("%s is no longer too long: remove it from %s", subject, oversizedList))
		}
	}
	return broken
}

// oversized returns the files ("a/b.go") and functions ("a/b.go T.Method") that
// are too long, with their lines.
func (r *repo) oversized() map[string]int {
	found := make(map[string]int)
	for _, f := range r.files() {
		if f.generated {
			continue
		}
		if f.lines > maxFileLines {
			found[f.path] = f.lines
		}
		for _, decl := range f.ast.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Body == nil || f.test && strings.HasPrefix(fn.Name.Name, "Test") {
				continue
			}
			if n := r.set.Position(fn.End()).Line - r.set.Position(fn.Pos()).Line + 1; n > maxFunctionLines {
				found[f.path+" "+functionName(fn)] = n
			}
		}
	}
	return found
}

func functionName(fn *ast.FuncDecl) string {
	if fn.Recv == nil || len(fn.Recv.List) == 0 {
		return fn.Name.Name
	}
	receiver := fn.Recv.List[0].Type
	for {
		switch t := receiver.(type) {
		case *ast.StarExpr:
			receiver = t.X
		case *ast.IndexExpr:
			receiver = t.X
		case *ast.IndexListExpr:
			receiver = t.X
		case *ast.Ident:
			return t.Name + "." + fn.Name.Name
		default:
			return fn.Name.Name
		}
	}
}

// readOversized reads lines of "path lines" and "path Function lines".
func readOversized(tree fs.FS) (map[string]int, error) {
	text, err := fs.ReadFile(tree, oversizedList)
	if err != nil {
		return nil, err
	}
	allowed := make(map[string]int)
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.LastIndex(line, " ")
		n, err := strconv.Atoi(line[at+1:])
		if at < 0 || err != nil {
			return nil, fmt.Errorf("%s: cannot read %q", oversizedList, line)
		}
		allowed[line[:at]] = n
	}
	return allowed, nil
}
