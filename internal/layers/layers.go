// Package layers keeps the order of the packages: its tests parse every Go file
// of the module and fail when one imports what its layer may not see, when a
// package has no comment or a banned name, and when a file or a function grows
// past the limits. The tests parse the files themselves: run through the go
// command, they would get false passes from the test cache.
package layers

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// module is the path of the module, with the slash after it.
const module = "skerry/"

// A layer is a set of packages and what of ours they may import.
type layer struct {
	name  string   // a package path below the module; a trailing /* stands for it and any below
	sees  []string // in the same form; "all" is everything
	tests []string // what its tests may import besides
}

// order is the statement of policy. The first layer that matches a package
// counts.
var order = []layer{
	{name: "internal/base/*"},
	{name: "internal/layers"},
	{name: "internal/store/*", sees: []string{"internal/base/*"}},
	{name: "internal/blob/*", sees: []string{"internal/base/*"}},
	{name: "internal/loop/*", sees: []string{"internal/base/*"}},
	{name: "internal/meter/*", sees: []string{"internal/base/*", "internal/store/*", "internal/loop/*"}},
	{name: "internal/auth/*", sees: []string{"internal/base/*"}},
	{name: "internal/wire/*", sees: []string{"internal/base/*"}, tests: []string{"internal/api/*"}},
	{name: "internal/api/*", sees: []string{"internal/base/*", "internal/wire/*"}},
	{name: "internal/op", sees: []string{"internal/base/*", "internal/auth/*", "internal/wire/*"}},
	{name: "internal/events/*", sees: []string{"internal/base/*", "internal/store/*", "internal/loop/*", "internal/auth/*", "internal/op"}},
	{name: "internal/engine/*", sees: []string{"internal/base/*", "internal/store/*", "internal/blob/*", "internal/loop/*"}},
	{name: "internal/registry/*", sees: []string{"internal/base/*", "internal/store/*", "internal/blob/*", "internal/auth/*"}},
	{name: "internal/proxy/*", sees: []string{"internal/base/*"}},
	{name: "internal/daemon/*", sees: []string{"internal/base/*", "internal/store/*", "internal/loop/*", "internal/engine/*"}},
	{name: "internal/service/*", sees: []string{
		"internal/base/*", "internal/store/*", "internal/blob/*", "internal/loop/*", "internal/meter/*", "internal/auth/*",
		"internal/wire/*", "internal/api/*", "internal/op", "internal/events/*", "internal/engine/*", "internal/registry/*",
		"internal/proxy/*",
	}},
	{
		name: "internal/gateway/*", sees: []string{"internal/base/*", "internal/auth/*", "internal/wire/*", "internal/op"},
		tests: []string{"internal/api/*"},
	},
	{name: "internal/listen/*", sees: []string{"internal/base/*"}},
	{name: "internal/console/*", sees: []string{"internal/base/*"}},
	{name: "internal/cloud/*", sees: []string{"all"}},
	{name: "cmd/skerry", sees: []string{"all"}},
	{name: "test/*", sees: []string{"all"}},
	{name: "tools/*", sees: []string{"internal/wire/*", "internal/base/*"}},
	{name: "examples/*"},
}

// source is one parsed Go file.
type source struct {
	path      string // slash-separated, from the module's root
	file      *ast.File
	set       *token.FileSet
	lines     int
	test      bool
	generated bool
}

// pkg returns the folder of the file.
func (s source) pkg() string { return filepath.ToSlash(filepath.Dir(s.path)) }

// imports returns the module's own packages that the file imports.
func (s source) imports() []string {
	var out []string
	for _, i := range s.file.Imports {
		if p, ok := strings.CutPrefix(strings.Trim(i.Path.Value, `"`), module); ok {
			out = append(out, p)
		}
	}
	return out
}

// matches tells whether a package belongs to a pattern of the order.
func matches(pattern, pkg string) bool {
	if p, ok := strings.CutSuffix(pattern, "/*"); ok {
		return pkg == p || strings.HasPrefix(pkg, p+"/")
	}
	return pattern == pkg
}

// layerOf returns the layer of a package.
func layerOf(pkg string) (layer, bool) {
	for _, l := range order {
		if matches(l.name, pkg) {
			return l, true
		}
	}
	return layer{}, false
}

// family returns the folder whose packages may import each other: a service
// and its sub-packages, an interface and its drivers.
func family(pkg string) string {
	parts := strings.Split(pkg, "/")
	n := 2
	if len(parts) > 1 && slices.Contains([]string{"service", "api", "base"}, parts[1]) {
		n = 3
	}
	return strings.Join(parts[:min(n, len(parts))], "/")
}

// allowed tells whether a file of package from may import package to.
func allowed(from, to string, test bool) bool {
	l, ok := layerOf(from)
	if !ok {
		return false
	}
	if matches(family(from)+"/*", to) {
		return true
	}
	see := l.sees
	if test {
		see = append(slices.Clone(see), l.tests...)
	}
	for _, s := range see {
		if s == "all" || matches(s, to) {
			return true
		}
	}
	return false
}

// load parses every Go file below the root, in the order of their paths.
func load(root string) ([]source, error) {
	var out []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); rel != "." && (strings.HasPrefix(n, ".") || n == "testdata" || n == "node_modules") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, path, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		out = append(out, source{
			path: filepath.ToSlash(rel), file: f, set: set,
			lines: strings.Count(string(text), "\n"), test: strings.HasSuffix(path, "_test.go"), generated: ast.IsGenerated(f),
		})
		return nil
	})
	return out, err
}
