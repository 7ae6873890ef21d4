package lambda

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"skerry/internal/base/ids"
	"skerry/internal/engine"
	"skerry/internal/service/lambda/runtime"
)

// interpreter is a program of this machine that runs a runtime's functions.
type interpreter struct {
	runtime string
	path    string         // the program, with its links followed
	prefix  string         // its installation, when that is outside of the system's folders
	dir     string         // the folder that is /var/runtime
	command []string       // what a sandbox runs
	mounts  []engine.Mount // besides /var/task, /opt and /tmp

	image string            // of AWS's, whose program it is; then there is no folder
	env   map[string]string // of the image, in place of Lambda's own
}

// missing says why a runtime's functions cannot run here, and how to mend it.
type missing struct{ runtime, text string }

func (m *missing) Error() string { return m.text }

// places are where interpreters are looked for, in order.
var places = []string{"/usr/bin", "/usr/local/bin", "/opt/bin"}

// interpreter finds the program for a runtime, or else the image that AWS
// publishes of it, and prepares what goes with it.
func (s *Service) interpreter(ctx context.Context, name string) (*interpreter, error) {
	i, err := s.installed(ctx, name)
	if lack, ok := errors.AsType[*missing](err); ok {
		return s.published(ctx, name, lack)
	}
	return i, err
}

// installed finds the program for a runtime on this machine. What is found is
// remembered.
func (s *Service) installed(ctx context.Context, name string) (*interpreter, error) {
	s.found.Lock()
	defer s.found.Unlock()
	if i := s.found.interpreters[name]; i != nil {
		return i, nil
	}
	i := &interpreter{runtime: name}
	switch {
	case strings.HasPrefix(name, "provided"):
		i.command = nil // /var/task/bootstrap or /opt/bootstrap
	case strings.HasPrefix(name, "python"):
		if err := s.findPython(ctx, i); err != nil {
			return nil, err
		}
	default:
		if err := s.findNode(ctx, i); err != nil {
			return nil, err
		}
	}
	s.found.interpreters[name] = i
	return i, nil
}

// candidates are the paths that may be a runtime's interpreter: the configured
// one alone, or those of the names in the usual places.
func (s *Service) candidates(runtime string, names ...string) []string {
	if p := s.Interpreters[runtime]; p != "" {
		return []string{p}
	}
	var out []string
	for _, dir := range append(slices.Clone(places), filepath.SplitList(os.Getenv("PATH"))...) {
		for _, n := range names {
			if p := filepath.Join(dir, n); filepath.IsAbs(p) && !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return out
}

// settle follows the links of a program and sees what must be mounted for it.
func (i *interpreter) settle(path string) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	i.path = real
	for _, dir := range engine.SystemFolders {
		if strings.HasPrefix(real, dir+"/") {
			return nil
		}
	}
	i.prefix = filepath.Dir(filepath.Dir(real))
	if i.prefix == "/" {
		return fmt.Errorf("%s is in the machine's root folder", real)
	}
	i.mounts = append(i.mounts, engine.Mount{Kind: engine.MountBind, Source: i.prefix, Target: i.prefix, ReadOnly: true})
	return nil
}

func (s *Service) findPython(ctx context.Context, i *interpreter) error {
	version := strings.TrimPrefix(i.runtime, "python")
	tried := s.candidates(i.runtime, i.runtime)
	for _, p := range tried {
		if _, err := os.Stat(p); err != nil {
			continue
		}
		if s.Interpreters[i.runtime] == "" && !isPython(ctx, p, version) {
			continue // a wrapper of a version manager that has no such version chosen
		}
		if err := i.settle(p); err != nil {
			return &missing{i.runtime, fmt.Sprintf("The interpreter %s of %s cannot be used: %v", p, i.runtime, err)}
		}
		dir, err := s.runtimeDir("bootstrap.py", runtime.PythonBootstrap, i.path)
		if err != nil {
			return err
		}
		i.dir = dir
		i.command = []string{i.path, "/var/runtime/" + compilePython(ctx, i.path, dir)}
		return nil
	}
	return &missing{i.runtime, fmt.Sprintf("Python %s, which runs functions of the runtime %s, is not on this machine (looked for %s). "+
		"Install it (for example: apt-get install python%s) or name an interpreter in the configuration: --lambda-runtime %s=/path/to/python.",
		version, i.runtime, strings.Join(tried, ", "), version, i.runtime)}
}

// isPython tells whether a program is the interpreter that its name says.
func isPython(ctx context.Context, path, version string) bool {
	out, err := exec.CommandContext(ctx, path, "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").Output()
	return err == nil && strings.TrimSpace(string(out)) == version
}

// compilePython compiles the bootstrap for an interpreter, which saves 5 to 8 ms
// of each start. It returns the name of the file to run: the source if that fails.
func compilePython(ctx context.Context, python, dir string) string {
	const source, compiled = "bootstrap.py", "bootstrap.pyc"
	at := filepath.Join(dir, compiled)
	if _, err := os.Stat(at); err == nil {
		return compiled
	}
	side := at + "." + ids.Hex(8)
	defer os.Remove(side)
	script := "import py_compile,sys; py_compile.compile(sys.argv[1], cfile=sys.argv[2], dfile='/var/runtime/bootstrap.py', doraise=True)"
	if err := exec.CommandContext(ctx, python, "-I", "-c", script, filepath.Join(dir, source), side).Run(); err != nil {
		return source
	}
	if err := errors.Join(os.Chmod(side, 0o644), os.Rename(side, at)); err != nil {
		return source
	}
	return compiled
}

// findSDK looks for the AWS SDK for JavaScript where npm installs for all.
func findSDK() string {
	for _, dir := range []string{"/usr/local/lib/node_modules", "/usr/lib/node_modules", "/usr/share/nodejs"} {
		if _, err := os.Stat(filepath.Join(dir, "@aws-sdk")); err == nil {
			return dir
		}
	}
	return ""
}

func (s *Service) findNode(ctx context.Context, i *interpreter) error {
	major := strings.TrimSuffix(strings.TrimPrefix(i.runtime, "nodejs"), ".x")
	tried := s.candidates(i.runtime, "node"+major, "nodejs"+major, "node", "nodejs")
	var seen []string
	for _, p := range tried {
		if _, err := os.Stat(p); err != nil {
			continue
		}
		out, err := exec.CommandContext(ctx, p, "--version").Output()
		have := strings.TrimSpace(string(out))
		if err != nil || s.Interpreters[i.runtime] == "" && !strings.HasPrefix(have, "v"+major+".") {
			seen = append(seen, fmt.Sprintf("%s is %s", p, have))
			continue
		}
		if err := i.settle(p); err != nil {
			return &missing{i.runtime, fmt.Sprintf("The interpreter %s of %s cannot be used: %v", p, i.runtime, err)}
		}
		if i.dir, err = s.runtimeDir("bootstrap.js", runtime.NodeBootstrap, i.path); err != nil {
			return err
		}
		// OpenSSL's store is read at the first TLS connection; Node's own list with
		// NODE_EXTRA_CA_CERTS at every start.
		i.command = []string{i.path, "--use-openssl-ca", "/var/runtime/bootstrap.js"}
		if s.NodeModules != "" {
			for _, at := range []string{"/var/runtime/node_modules", "/var/node_modules"} {
				i.mounts = append(i.mounts, engine.Mount{Kind: engine.MountBind, Source: s.NodeModules, Target: at, ReadOnly: true})
			}
		}
		return nil
	}
	return &missing{i.runtime, fmt.Sprintf("Node.js %s, which runs functions of the runtime %s, is not on this machine (looked for %s; %s). "+
		"Install it, or name an interpreter in the configuration: --lambda-runtime %s=/path/to/node.",
		major, i.runtime, strings.Join(tried, ", "), strings.Join(append(seen, "nothing else is there"), ", "), i.runtime)}
}

// runtimeDir makes the folder that is /var/runtime in the sandboxes of an
// interpreter, named by its content.
func (s *Service) runtimeDir(name string, content []byte, interpreter string) (string, error) {
	sum := sha256.Sum256(append([]byte(interpreter+"\x00"), content...))
	dir := filepath.Join(s.Dir, "runtime", hex.EncodeToString(sum[:12]))
	if err := os.MkdirAll(filepath.Join(dir, "node_modules"), 0o755); err != nil {
		return "", fmt.Errorf("lambda: prepare runtime: %w", err)
	}
	side := filepath.Join(dir, name+"."+ids.Hex(8))
	if err := os.WriteFile(side, content, 0o644); err != nil {
		return "", fmt.Errorf("lambda: prepare runtime: %w", err)
	}
	if err := os.Rename(side, filepath.Join(dir, name)); err != nil {
		return "", fmt.Errorf("lambda: prepare runtime: %w", err)
	}
	return dir, nil
}

// runtimeARN names a runtime's version, as INIT_START does.
func runtimeARN(region, name string) string {
	sum := sha256.Sum256([]byte("skerry " + name))
	return "arn:aws:lambda:" + region + "::runtime:" + hex.EncodeToString(sum[:])
}

// runtimeVersion is a runtime's name as INIT_START writes it: python:3.11.v1.
func runtimeVersion(name string) string {
	switch {
	case strings.HasPrefix(name, "python"):
		return "python:" + strings.TrimPrefix(name, "python") + ".v1"
	case strings.HasPrefix(name, "nodejs"):
		return "nodejs:" + strings.TrimSuffix(strings.TrimPrefix(name, "nodejs"), ".x") + ".v1"
	}
	return strings.Replace(name, ".", ":", 1) + ".v1"
}
