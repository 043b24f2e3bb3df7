package repotest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "longshore.dev/longshore"

// repo is the parsed repository: what every rule looks at.
type repo struct {
	fs   fs.FS
	set  *token.FileSet
	dirs map[string]*dir
	// texts are all text files by path, Go files included.
	texts map[string]string
}

// dir is a folder with Go files; path is relative to the root, with slashes.
type dir struct {
	path  string
	files []*file
}

type file struct {
	path string
	ast  *ast.File
	test bool
	// lines of the file.
	lines     int
	generated bool
	// imports by path, with the name that each has in the file.
	imports map[string]string
}

// rule returns what breaks it, each with the place.
type rule func(*repo) []string

var textExtensions = []string{".go", ".md", ".txt", ".sh", ".yml", ".yaml", ".json", ".tf", ".mk", ".mod", ".toml", ".html", ".css", ".js"}

// load reads and parses a tree. Hidden folders, testdata and build output are
// left out.
func load(tree fs.FS) (*repo, error) {
	r := &repo{fs: tree, set: token.NewFileSet(), dirs: make(map[string]*dir), texts: make(map[string]string)}
	err := fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := entry.Name()
		if entry.IsDir() {
			if name != "." && (strings.HasPrefix(base, ".") || base == "testdata" || name == "bin" || name == "data") {
				return fs.SkipDir
			}
			return nil
		}
		if !slices.Contains(textExtensions, path.Ext(base)) && base != "Makefile" && base != "Dockerfile" {
			return nil
		}
		text, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		r.texts[name] = string(text)
		if path.Ext(base) == ".go" {
			return r.parse(name, text)
		}
		return nil
	})
	return r, err
}

func (r *repo) parse(name string, text []byte) error {
	parsed, err := parser.ParseFile(r.set, name, text, parser.ParseComments)
	if err != nil {
		return err
	}
	f := &file{
		path: name, ast: parsed, test: strings.HasSuffix(name, "_test.go"),
		lines: strings.Count(string(text), "\n"), generated: ast.IsGenerated(parsed), imports: make(map[string]string),
	}
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		f.imports[imported] = localName(spec, imported)
	}
	d := r.dirs[path.Dir(name)]
	if d == nil {
		d = &dir{path: path.Dir(name)}
		r.dirs[d.path] = d
	}
	d.files = append(d.files, f)
	return nil
}

// localName is the name of an import in its file, guessed from the path when the
// file does not say: the last element without a major version.
func localName(spec *ast.ImportSpec, imported string) string {
	if spec.Name != nil {
		return spec.Name.Name
	}
	base := path.Base(imported)
	if len(base) > 1 && base[0] == 'v' && strings.Trim(base[1:], "0123456789") == "" {
		base = path.Base(path.Dir(imported))
	}
	return base
}

func (r *repo) sortedDirs() []*dir {
	var dirs []*dir
	for _, d := range r.dirs {
		dirs = append(dirs, d)
	}
	slices.SortFunc(dirs, func(a, b *dir) int { return strings.Compare(a.path, b.path) })
	return dirs
}

func (r *repo) files() []*file {
	var files []*file
	for _, d := range r.sortedDirs() {
		files = append(files, d.files...)
	}
	return files
}

// at says where a node is, for messages.
func (r *repo) at(n ast.Node) string {
	p := r.set.Position(n.Pos())
	return fmt.Sprintf("%s:%d", p.Filename, p.Line)
}

// source returns the files that are part of the program.
func (d *dir) source() []*file {
	return slices.DeleteFunc(slices.Clone(d.files), func(f *file) bool { return f.test })
}

// isMain tells whether the folder is a command.
func (d *dir) isMain() bool {
	source := d.source()
	return len(source) > 0 && source[0].ast.Name.Name == "main"
}

// internalImports are the module's own packages that the files import, by their
// paths below the root, sorted.
func internalImports(files []*file) []string {
	var list []string
	for _, f := range files {
		for imported := range f.imports {
			if own, ok := strings.CutPrefix(imported, module+"/"); ok {
				list = append(list, own)
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// uses calls visit for each mention of an imported package's name: pkg.Name.
func (f *file) uses(visit func(sel *ast.SelectorExpr, imported, name string)) {
	byName := make(map[string]string, len(f.imports))
	for imported, local := range f.imports {
		byName[local] = imported
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		// An identifier that the parser resolved is a local variable.
		if id, ok := sel.X.(*ast.Ident); ok && id.Obj == nil && byName[id.Name] != "" {
			visit(sel, byName[id.Name], sel.Sel.Name)
		}
		return true
	})
}

// root finds the repository above the working folder.
func root(t *testing.T) string {
	t.Helper()
	d, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; d != filepath.Dir(d); d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d
		}
	}
	t.Fatal("no go.mod above the working folder")
	return ""
}

var loadOnce = sync.OnceValues(func() (*repo, error) {
	d, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	return load(os.DirFS(filepath.Join(d, "..", "..")))
})

func theRepo(t *testing.T) *repo {
	t.Helper()
	r, err := loadOnce()
	if err != nil {
		t.Fatal(err)
	}
	if len(r.dirs) < 5 {
		t.Fatalf("found only %d packages in %s", len(r.dirs), root(t))
	}
	return r
}
