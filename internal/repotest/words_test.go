package repotest

import (
	"fmt"
	"go/ast"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// The words are put together here so that this file does not hold them.
var (
	machinePath = regexp.MustCompile(`(^|[^\w.>-])/(wor` + `k/|tmp/bri` + `ef)`)
	unfinished  = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)
)

// No path of the machine that something was written on is in the project.
func noMachinePaths(r *repo) (broken []string) {
	return r.grep(machinePath, "names a path of one machine", func(string) bool { return true })
}

// What is begun is finished: no notes of missing work in code.
func noUnfinishedWork(r *repo) (broken []string) {
	return r.grep(unfinished, "is a note of missing work", func(name string) bool { return path.Ext(name) == ".go" })
}

func (r *repo) grep(re *regexp.Regexp, what string, in func(name string) bool) (broken []string) {
	for _, name := range slices.Sorted(maps.Keys(r.texts)) {
		if !in(name) {
			continue
		}
		n := 0
		for line := range strings.Lines(r.texts[name]) {
			n++
			if found := re.FindString(line); found != "" {
				broken = append(broken, fmt.Sprintf("%s:%d: %q %s", name, n, strings.TrimSpace(found), what))
			}
		}
	}
	return broken
}

// A test that is skipped says why.
func noSilentSkips(r *repo) (broken []string) {
	for _, f := range r.files() {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if ok && f.test && (sel.Sel.Name == "SkipNow" || sel.Sel.Name == "Skip" && len(call.Args) == 0) {
				broken = append(broken, r.at(call)+": skips without a reason")
			}
			return true
		})
	}
	return broken
}

var markdownLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// Links in the README and below docs lead to files that exist.
func docLinks(r *repo) (broken []string) {
	for _, name := range slices.Sorted(maps.Keys(r.texts)) {
		if path.Ext(name) != ".md" || name != "README.md" && !strings.HasPrefix(name, "docs/") {
			continue
		}
		for _, m := range markdownLink.FindAllStringSubmatch(r.texts[name], -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if target == "" || strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			if _, err := fs.Stat(r.fs, path.Join(path.Dir(name), target)); err != nil {
				broken = append(broken, fmt.Sprintf("%s: the link to %s leads nowhere", name, m[1]))
			}
		}
	}
	return broken
}

var (
	namedTest     = regexp.MustCompile("`(Test[A-Z]\\w*)`")
	headOfTable   = regexp.MustCompile(`^\|[-| ]+\|$`)
	securityModel = "docs/security.md"
)

// Tests that docs name exist, and every line of the threat model's tables names one.
func docTests(r *repo) (broken []string) {
	tests := map[string]bool{}
	for _, f := range r.files() {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && f.test {
				tests[fn.Name.Name] = true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.texts)) {
		if path.Ext(name) != ".md" || !strings.HasPrefix(name, "docs/") {
			continue
		}
		lines := strings.Split(r.texts[name], "\n")
		for i, line := range lines {
			for _, m := range namedTest.FindAllStringSubmatch(line, -1) {
				if !tests[m[1]] {
					broken = append(broken, fmt.Sprintf("%s:%d: there is no %s", name, i+1, m[1]))
				}
			}
			head := headOfTable.MatchString(line) || i+1 < len(lines) && headOfTable.MatchString(lines[i+1])
			if name == securityModel && strings.HasPrefix(line, "|") && !head && !namedTest.MatchString(line) {
				broken = append(broken, fmt.Sprintf("%s:%d names no test", name, i+1))
			}
		}
	}
	return broken
}
