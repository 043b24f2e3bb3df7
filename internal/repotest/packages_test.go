package repotest

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strings"
)

const (
	minDocLines = 5
	maxDocLines = 30
)

// A package's doc.go says what it owns before its code does: 5 to 30 lines. A
// command needs a package comment only; folders with nothing but tests, none.
func packageDocs(r *repo) (broken []string) {
	for _, d := range r.sortedDirs() {
		source := d.source()
		if len(source) == 0 {
			continue
		}
		var comments []*file
		for _, f := range source {
			if f.ast.Doc != nil {
				comments = append(comments, f)
			}
		}
		switch {
		case len(comments) == 0:
			broken = append(broken, d.path+" has no package comment")
		case len(comments) > 1 && !d.isMain():
			broken = append(broken, fmt.Sprintf("%s has package comments in %s and %s", d.path, comments[0].path, comments[1].path))
		case d.isMain():
		case path.Base(comments[0].path) != "doc.go":
			broken = append(broken, fmt.Sprintf("%s has its package comment in %s, not in doc.go", d.path, path.Base(comments[0].path)))
		default:
			text := strings.TrimSpace(comments[0].ast.Doc.Text())
			if n := strings.Count(text, "\n") + 1; n < minDocLines || n > maxDocLines {
				broken = append(broken, fmt.Sprintf("%s/doc.go has %d lines, want %d to %d", d.path, n, minDocLines, maxDocLines))
			}
			if !strings.HasPrefix(text, "Package "+comments[0].ast.Name.Name+" ") {
				broken = append(broken, fmt.Sprintf("%s/doc.go does not begin with Package %s", d.path, comments[0].ast.Name.Name))
			}
		}
	}
	return broken
}

// A package is named after what it holds, not after being a package.
func packageNames(r *repo) (broken []string) {
	bad := []string{"util", "utils", "common", "types", "manager", "models", "helpers", "misc"}
	for _, d := range r.sortedDirs() {
		for _, f := range d.source() {
			if slices.Contains(bad, f.ast.Name.Name) || slices.Contains(bad, path.Base(d.path)) {
				broken = append(broken, fmt.Sprintf("%s: no package is called %s", f.path, f.ast.Name.Name))
			}
		}
	}
	return broken
}

// Nothing happens behind main's back: no init functions.
func noInit(r *repo) (broken []string) {
	for _, f := range r.files() {
		for _, decl := range f.ast.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if ok && fn.Recv == nil && fn.Name.Name == "init" && !f.test {
				broken = append(broken, r.at(fn)+": init function; wire it explicitly")
			}
		}
	}
	return broken
}
