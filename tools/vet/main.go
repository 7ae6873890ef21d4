// Command vet keeps the project's own rules, which no general linter knows:
//
//   - a service starts no goroutine, ticker or timer and asks no clock of the
//     machine: time comes in through base/clock, background work through loops;
//   - a Scope is minted by auth and gateway only;
//   - nothing under internal prints: it logs, or returns;
//   - tests do not sleep, except in a loop that waits for a condition;
//   - a TODO names its owner, as in TODO(name).
//
// It prints one line a fault and exits with 1 if there is any.
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

func main() {
	root := "."
	if len(os.Args) > 1 {
		root = os.Args[1]
	}
	faults, err := check(os.DirFS(root))
	if err != nil {
		fmt.Fprintln(os.Stderr, "vet:", err)
		os.Exit(2)
	}
	for _, f := range faults {
		fmt.Println(f)
	}
	if len(faults) > 0 {
		os.Exit(1)
	}
}

// check reads every Go file of a tree and returns the faults, in the order of
// the files.
func check(tree fs.FS) ([]string, error) {
	var faults []string
	err := fs.WalkDir(tree, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); path != "." && (strings.HasPrefix(n, ".") || n == "testdata" || n == "node_modules") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		text, err := fs.ReadFile(tree, path)
		if err != nil {
			return err
		}
		more, err := checkFile(filepath.ToSlash(path), text)
		faults = append(faults, more...)
		return err
	})
	return faults, err
}

// file is what the rules see of one source file.
type file struct {
	path   string
	test   bool
	set    *token.FileSet
	ast    *ast.File
	loops  []*ast.ForStmt // met so far
	faults []string
}

func checkFile(path string, text []byte) ([]string, error) {
	f := &file{path: path, test: strings.HasSuffix(path, "_test.go"), set: token.NewFileSet()}
	parsed, err := parser.ParseFile(f.set, path, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	if ast.IsGenerated(parsed) {
		return nil, nil
	}
	f.ast = parsed
	f.todos()
	ast.Inspect(parsed, func(n ast.Node) bool {
		if loop, ok := n.(*ast.ForStmt); ok {
			f.loops = append(f.loops, loop)
		}
		f.node(n)
		return true
	})
	return f.faults, nil
}

func (f *file) fault(at token.Pos, text string, args ...any) {
	p := f.set.Position(at)
	f.faults = append(f.faults, fmt.Sprintf("%s:%d: %s", f.path, p.Line, fmt.Sprintf(text, args...)))
}

// in tells whether the file is below a folder.
func (f *file) in(folder string) bool { return strings.HasPrefix(f.path, folder+"/") }

// waits are the functions of package time that ask the machine's clock or wait
// on it.
var waits = map[string]bool{
	"Now": true, "Since": true, "Until": true, "Sleep": true, "After": true, "AfterFunc": true,
	"NewTimer": true, "NewTicker": true, "Tick": true,
}

func (f *file) node(n ast.Node) {
	switch n := n.(type) {
	case *ast.GoStmt:
		if f.in("internal/service") && !f.test {
			f.fault(n.Pos(), "a service starts no goroutine: use a loop, or the children of one")
		}
	case *ast.CompositeLit:
		if s, ok := n.Type.(*ast.SelectorExpr); ok && isPackage(s.X, "auth") && s.Sel.Name == "Scope" && len(n.Elts) > 0 &&
			!f.in("internal/gateway") && !f.test {
			f.fault(n.Pos(), "only auth and the gateway mint a Scope")
		}
	case *ast.SelectorExpr:
		f.selector(n)
	}
}

func (f *file) selector(n *ast.SelectorExpr) {
	switch {
	case isPackage(n.X, "time") && n.Sel.Name == "Sleep" && f.test && !f.polls(n.Pos()):
		f.fault(n.Pos(), "tests do not sleep: wait for a condition with a deadline")
	case isPackage(n.X, "time") && waits[n.Sel.Name] && f.in("internal/service") && !f.test:
		f.fault(n.Pos(), "time.%s in a service: time comes in through base/clock", n.Sel.Name)
	case isPackage(n.X, "fmt") && strings.HasPrefix(n.Sel.Name, "Print") && f.in("internal") && !f.test:
		f.fault(n.Pos(), "fmt.%s below internal: log, or return", n.Sel.Name)
	}
}

// polls tells whether a place is inside a loop.
func (f *file) polls(at token.Pos) bool {
	return slices.ContainsFunc(f.loops, func(l *ast.ForStmt) bool { return l.Pos() < at && at < l.End() })
}

var (
	todo  = regexp.MustCompile(`\b(TODO|FIXME|XXX)\b`)
	owned = regexp.MustCompile(`\bTODO\([a-z]+\)`)
)

func (f *file) todos() {
	for _, group := range f.ast.Comments {
		for _, c := range group.List {
			if todo.MatchString(c.Text) && !owned.MatchString(c.Text) && !f.in("tools/vet") {
				f.fault(c.Pos(), "a TODO without an owner: TODO(name)")
			}
		}
	}
}

// isPackage tells whether an expression is the plain name of a package.
func isPackage(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}
