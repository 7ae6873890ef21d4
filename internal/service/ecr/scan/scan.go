// Package scan lists the packages that an image's layers hold, and looks them up
// in a feed of vulnerabilities. It knows neither rows nor clocks.
//
// # What is found
//
//	Debian, Ubuntu   var/lib/dpkg/status, var/lib/dpkg/status.d/* (distroless)
//	Alpine           lib/apk/db/installed, usr/lib/apk/db/installed
//	RPM              rpmdb.sqlite and Packages in var/lib/rpm and usr/lib/sysimage/rpm
//	Go               the build information of executables (modules and standard library)
//	Node             node_modules/*/package.json, and package-lock.json
//
// Of RPM's databases SQLite's (Fedora from 33, RHEL 9, Rocky 9, AlmaLinux 9, Amazon
// Linux 2023) and Berkeley DB's (before, Amazon Linux 2) are read; ndb (SUSE) is
// named in Inventory.Unread. What is copied into an image without its manager's
// list is not seen, except for Go's executables.
//
// # Hostile layers
//
// A layer is read as a stream, once, and nothing of it is written under a name of
// its own. The bytes that a layer unpacks to, the number of entries, the size of a
// database and the number of packages are bounded by Limits; a file that cannot be
// read is named in Inventory.Unread and does not fail the scan. A file is held in
// one temporary file at a time, without a name.
//
// # The feed
//
// See Feed.
package scan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
)

// The managers of packages, as Amazon Inspector names them.
const (
	Dpkg = "OS:DPKG"
	Apk  = "OS:APK"
	RPM  = "OS:RPM"
	Go   = "GOBINARY"
	Node = "NODEPKG"
)

// Package is something installed.
type Package struct {
	Manager       string
	Ecosystem     string // as OSV names it: Debian:12, Alpine:v3.20, Go, npm
	Name          string
	Version       string
	Source        string // the source package that it was built from, if another
	SourceVersion string
	Arch          string
	Path          string // file that tells of it
	Layer         string // digest of the layer that it is in
}

// Inventory is what an image holds.
type Inventory struct {
	System   string // the distribution, as etc/os-release names it; empty: none
	Version  string // the distribution's
	Packages []Package
	Unread   []string // files that tell of packages and could not be read, and why
}

// Layer is one layer of an image. Its content may be plain, or compressed by gzip
// or zstd.
type Layer struct {
	Digest string
	Open   func(ctx context.Context) (io.ReadCloser, error)
}

// Limits bound what a scan reads.
type Limits struct {
	Bytes    int64 // that all layers unpack to
	Entries  int   // of all layers
	File     int64 // bytes of a database or an executable that is looked into
	Packages int
}

// DefaultLimits are meant for images of up to a few gigabytes.
var DefaultLimits = Limits{Bytes: 32 << 30, Entries: 4 << 20, File: 512 << 20, Packages: 200_000}

// ErrTooLarge is returned when an image is beyond a limit.
var ErrTooLarge = errors.New("scan: the image is too large to be scanned")

// Image reads the layers of an image, the lowest first, and lists what the image
// that they make holds.
func Image(ctx context.Context, layers []Layer, l Limits) (*Inventory, error) {
	tmp, err := os.CreateTemp("", "skerry-scan-*")
	if err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	defer func() { _ = tmp.Close() }()
	if err := os.Remove(tmp.Name()); err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	w := &walk{limits: l, left: l.Bytes, tmp: tmp, found: map[string]*file{}}
	for _, layer := range layers {
		if err := w.layer(ctx, layer); err != nil {
			return nil, err
		}
	}
	return w.inventory()
}

// inventory puts together what the image's files tell.
func (w *walk) inventory() (*Inventory, error) {
	inv := &Inventory{}
	id, version := "", ""
	for _, path := range []string{"usr/lib/os-release", "etc/os-release"} {
		if f := w.found[path]; f != nil && f.release != nil {
			id, version = f.release["ID"], f.release["VERSION_ID"]
			inv.System, inv.Version = id, version
		}
	}
	type key struct{ manager, name, version, arch string }
	seen := map[key]bool{}
	for _, path := range slices.Sorted(maps.Keys(w.found)) {
		f := w.found[path]
		if f.unread != "" {
			inv.Unread = append(inv.Unread, path+": "+f.unread)
		}
		for _, p := range f.packages {
			k := key{p.Manager, p.Name, p.Version, p.Arch}
			if seen[k] {
				continue
			}
			seen[k] = true
			p.Path, p.Layer = path, f.layer
			if p.Ecosystem == "" {
				p.Ecosystem = ecosystem(id, version)
			}
			if inv.Packages = append(inv.Packages, p); len(inv.Packages) > w.limits.Packages {
				return nil, fmt.Errorf("%w: more than %d packages", ErrTooLarge, w.limits.Packages)
			}
		}
	}
	slices.SortFunc(inv.Packages, func(a, b Package) int {
		return cmp.Or(cmp.Compare(a.Manager, b.Manager), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Arch, b.Arch))
	})
	return inv, nil
}
