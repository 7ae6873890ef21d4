package layers

import (
	"errors"
	"go/ast"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// The limits of a file and of a function, in lines, and of a package, in files
// without tests.
const (
	maxFile     = 1000
	maxFunction = 120
	maxPackage  = 40
)

// root finds the folder of go.mod above the test.
func root() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil && dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
	}
	return "", errors.Join(err, errors.New("no go.mod above the test"))
}

// loaded is what every test looks at, parsed once.
var loaded = sync.OnceValues(func() ([]source, error) {
	dir, err := root()
	if err != nil {
		return nil, err
	}
	return load(dir)
})

func sources(t *testing.T) []source {
	t.Helper()
	s, err := loaded()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestImports(t *testing.T) {
	for _, s := range sources(t) {
		if _, ok := layerOf(s.pkg()); !ok {
			t.Errorf("%s: the package is on no layer", s.path)
			continue
		}
		for _, to := range s.imports() {
			if !allowed(s.pkg(), to, s.test) {
				t.Errorf("%s must not import %s", s.path, to)
			}
		}
	}
}

func TestPolicy(t *testing.T) {
	for _, c := range []struct {
		from, to string
		test, ok bool
	}{
		{"internal/service/s3", "internal/store", false, true},
		{"internal/service/s3", "internal/service/lambda", false, false},
		{"internal/service/s3", "internal/gateway", false, false},
		{"internal/service/lambda", "internal/service/lambda/runtime", false, true},
		{"internal/service/lambda/runtime", "internal/service/lambda", false, true},
		{"internal/base/arn", "internal/base/ids", false, false},
		{"internal/store/pebble", "internal/store", false, true},
		{"internal/store", "internal/loop", false, false},
		{"internal/wire", "internal/api/s3", true, true},
		{"internal/wire", "internal/api/s3", false, false},
		{"internal/unknown", "internal/store", false, false},
		{"internal/cloud", "internal/service/s3", false, true},
	} {
		if got := allowed(c.from, c.to, c.test); got != c.ok {
			t.Errorf("%s importing %s (test %v): got %v", c.from, c.to, c.test, got)
		}
	}
}

func TestPackageComments(t *testing.T) {
	documented := map[string]bool{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		documented[s.pkg()] = documented[s.pkg()] || s.file.Doc != nil
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("%s has no package comment", pkg)
		}
	}
}

func TestPackageNames(t *testing.T) {
	banned := []string{"util", "utils", "common", "helper", "helpers", "types", "models", "manager", "misc", "shared"}
	for _, s := range sources(t) {
		if slices.Contains(banned, s.file.Name.Name) {
			t.Errorf("%s: a package is a noun one can point at, not %q", s.path, s.file.Name.Name)
		}
		if n := strings.Count(s.pkg(), "/"); strings.HasPrefix(s.pkg(), "internal/") && n > 3 {
			t.Errorf("%s: three levels under internal, no more", s.path)
		}
	}
}

func TestSizes(t *testing.T) {
	files := map[string]int{}
	for _, s := range sources(t) {
		if s.generated {
			continue
		}
		if !s.test {
			files[s.pkg()]++
		}
		if s.lines > maxFile {
			t.Errorf("%s has %d lines, more than %d: split it by resource", s.path, s.lines, maxFile)
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := s.set.Position(f.End()).Line - s.set.Position(f.Pos()).Line; n > maxFunction {
				t.Errorf("%s: %s has %d lines, more than %d", s.path, f.Name.Name, n, maxFunction)
			}
		}
	}
	for pkg, n := range files {
		if n > maxPackage {
			t.Errorf("%s has %d files, more than %d: give an idea of its own a sub-package", pkg, n, maxPackage)
		}
	}
}

func TestNoInit(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || s.generated {
			continue
		}
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s: no registration by init; the lists in internal/cloud say what there is", s.path)
			}
		}
	}
}
