package scan

import (
	"debug/buildinfo"
	"encoding/json"
	"io"
	"strings"
)

// parseGo reads the modules that a Go executable was built from.
func parseGo(r *io.SectionReader, f *file) error {
	info, err := buildinfo.Read(r)
	if err != nil {
		return err
	}
	add := func(name, version string) {
		if version = strings.TrimPrefix(version, "v"); version != "" && version != "(devel)" {
			f.packages = append(f.packages, Package{Manager: Go, Ecosystem: "Go", Name: name, Version: version})
		}
	}
	version, _, _ := strings.Cut(strings.TrimPrefix(info.GoVersion, "go"), " ")
	add("stdlib", version)
	add(info.Main.Path, info.Main.Version)
	for _, d := range info.Deps {
		if d.Replace != nil {
			d = d.Replace
		}
		add(d.Path, d.Version)
	}
	return nil
}

// maxManifest is the largest package.json and package-lock.json that is read, in
// bytes.
const (
	maxManifest = 4 << 20
	maxLock     = 64 << 20
)

// parseNode reads the package.json of an installed package.
func parseNode(r *io.SectionReader, f *file) error {
	var m struct{ Name, Version string }
	if err := json.NewDecoder(io.LimitReader(r, maxManifest)).Decode(&m); err != nil {
		return err
	}
	if m.Name != "" && m.Version != "" {
		f.packages = []Package{{Manager: Node, Ecosystem: "npm", Name: m.Name, Version: m.Version}}
	}
	return nil
}

// parseLock reads a package-lock.json of any version
// ("package-lock.json", docs.npmjs.com).
func parseLock(r *io.SectionReader, f *file) error {
	type dependency struct {
		Version      string
		Link         bool
		Dependencies map[string]json.RawMessage
	}
	var lock struct {
		Packages     map[string]dependency
		Dependencies map[string]json.RawMessage
	}
	if err := json.NewDecoder(io.LimitReader(r, maxLock)).Decode(&lock); err != nil {
		return err
	}
	add := func(name, version string) {
		if name != "" && version != "" {
			f.packages = append(f.packages, Package{Manager: Node, Ecosystem: "npm", Name: name, Version: version})
		}
	}
	for p, d := range lock.Packages {
		if i := strings.LastIndex(p, "node_modules/"); i >= 0 && !d.Link {
			add(p[i+len("node_modules/"):], d.Version)
		}
	}
	if lock.Packages != nil {
		return nil
	}
	var walk func(all map[string]json.RawMessage, depth int)
	walk = func(all map[string]json.RawMessage, depth int) {
		for name, raw := range all {
			var d dependency
			if json.Unmarshal(raw, &d) != nil {
				continue
			}
			add(name, d.Version)
			if depth < 20 {
				walk(d.Dependencies, depth+1)
			}
		}
	}
	walk(lock.Dependencies, 0)
	return nil
}
