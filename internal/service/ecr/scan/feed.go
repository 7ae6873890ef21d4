package scan

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Feed is a folder of vulnerabilities in OSV's format
// (https://ossf.github.io/osv-schema): files that end in .json, in folders of any
// depth, one vulnerability each, as https://osv.dev gives them out. Every scan
// reads the folder anew and keeps only what concerns the image, so that a feed may
// be replaced at any time and costs no memory between scans.
//
// Ranges of the types ECOSYSTEM and SEMVER and lists of versions are evaluated;
// ranges of Git commits are not. Packages of Debian, Ubuntu, Alpine, Wolfi and
// Chainguard are looked up by their source package, those of RPM's distributions
// by their own name.
type Feed struct{ Dir string }

// The severities, as ECR names them.
const (
	Critical      = "CRITICAL"
	High          = "HIGH"
	Medium        = "MEDIUM"
	Low           = "LOW"
	Informational = "INFORMATIONAL"
	Undefined     = "UNDEFINED"
)

// Finding is a package with a vulnerability.
type Finding struct {
	ID          string // CVE-2026-1234 if it has such a name
	Description string
	URL         string
	Severity    string
	Score       float64 // of CVSS; 0: unknown
	Vector      string  // of CVSS
	Fixed       string  // version that does not have it; empty: none is known
	Package     Package
}

// maxRecord is the largest file of a feed that is read, in bytes.
const maxRecord = 8 << 20

// record of OSV.
type advisory struct {
	ID         string
	Modified   time.Time
	Withdrawn  string
	Aliases    []string
	Upstream   []string
	Summary    string
	Details    string
	Severity   []rating
	Affected   []affected
	References []struct{ Type, URL string }
	Database   struct{ Severity string } `json:"database_specific"`
}

type rating struct{ Type, Score string }

type affected struct {
	Package   struct{ Ecosystem, Name string }
	Severity  []rating
	Ranges    []span
	Versions  []string
	Ecosystem struct{ Severity, Urgency string } `json:"ecosystem_specific"`
	Database  struct{ Severity string }          `json:"database_specific"`
}

type span struct {
	Type   string
	Events []struct {
		Introduced, Fixed string
		LastAffected      string `json:"last_affected"`
	}
}

// subject is what a feed knows a package by.
type subject struct{ root, name string }

// Match looks an inventory up. It returns the findings, the gravest first, and
// when the feed's newest entry was written. Files that are no vulnerabilities are
// passed over.
func (f Feed) Match(ctx context.Context, inv *Inventory) ([]Finding, time.Time, error) {
	index := map[subject][]*Package{}
	for i := range inv.Packages {
		p := &inv.Packages[i]
		name := p.Name
		if (p.Manager == Dpkg || p.Manager == Apk) && p.Source != "" {
			name = p.Source
		}
		root, _, _ := strings.Cut(p.Ecosystem, ":")
		index[subject{root, name}] = append(index[subject{root, name}], p)
	}
	var findings []Finding
	var newest time.Time
	err := filepath.WalkDir(f.Dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || !d.Type().IsRegular() || filepath.Ext(path) != ".json" {
			return err
		}
		info, err := d.Info()
		if err != nil || info.Size() > maxRecord {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var a advisory
		if json.Unmarshal(b, &a) != nil || a.ID == "" {
			return nil
		}
		if a.Modified.After(newest) {
			newest = a.Modified
		}
		findings = append(findings, a.match(index)...)
		return nil
	})
	if err != nil {
		return nil, newest, fmt.Errorf("scan: the feed: %w", err)
	}
	slices.SortFunc(findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(grave(a.Severity), grave(b.Severity)), cmp.Compare(b.Score, a.Score), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Package.Name, b.Package.Name))
	})
	return slices.CompactFunc(findings, func(a, b Finding) bool { return a.ID == b.ID && a.Package == b.Package }), newest, nil
}

// grave orders severities, the gravest first.
func grave(s string) int {
	return slices.Index([]string{Critical, High, Medium, Low, Informational, Undefined}, s)
}

// match returns the packages of an index that an advisory is about.
func (a *advisory) match(index map[subject][]*Package) (out []Finding) {
	if a.Withdrawn != "" {
		return nil
	}
	for _, x := range a.Affected {
		root, _, _ := strings.Cut(x.Package.Ecosystem, ":")
		for _, p := range index[subject{root, x.Package.Name}] {
			version := p.Version
			if p.Manager == Dpkg || p.Manager == Apk {
				version = cmp.Or(p.SourceVersion, p.Version)
			}
			if !sameRelease(x.Package.Ecosystem, p.Ecosystem) {
				continue
			}
			hit, fixed := x.has(p.Manager, version)
			if !hit {
				continue
			}
			f := Finding{ID: a.name(), Description: cmp.Or(a.Summary, a.Details), URL: a.url(), Fixed: fixed, Package: *p}
			f.Severity, f.Score, f.Vector = a.severity(&x)
			out = append(out, f)
		}
	}
	return out
}

// sameRelease tells whether an advisory's ecosystem is a package's: its release is
// the second part of both, if the advisory names one. Red Hat's advisories name
// products, with the release in a later part.
func sameRelease(advisory, ours string) bool {
	a, o := strings.Split(advisory, ":"), strings.Split(ours, ":")
	if len(a) < 2 || len(o) < 2 {
		return true
	}
	if a[0] == "Red Hat" {
		return slices.ContainsFunc(a[1:], func(part string) bool {
			major, _, _ := strings.Cut(part, ".")
			return major == o[1]
		})
	}
	return a[1] == o[1]
}

// has tells whether a version is affected, and which later one is not.
func (x *affected) has(manager, version string) (hit bool, fixed string) {
	hit = slices.Contains(x.Versions, version) || slices.Contains(x.Versions, "v"+version)
	for _, r := range x.Ranges {
		if r.Type != "ECOSYSTEM" && r.Type != "SEMVER" {
			continue
		}
		within := false
		// The events are few; each is looked at in the order of versions.
		events := slices.Clone(r.Events)
		at := func(i int) string {
			return cmp.Or(events[i].Introduced, events[i].Fixed, events[i].LastAffected)
		}
		order := make([]int, len(events))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(i, j int) int {
			if at(i) == "0" || at(j) == "0" { // before everything
				return cmp.Compare(btoi(at(i) != "0"), btoi(at(j) != "0"))
			}
			return compare(manager, at(i), at(j))
		})
		for _, i := range order {
			e := events[i]
			switch {
			case e.Introduced == "0" || e.Introduced != "" && compare(manager, e.Introduced, version) <= 0:
				within = true
			case e.Fixed != "" && compare(manager, e.Fixed, version) <= 0:
				within = false
			case e.LastAffected != "" && compare(manager, e.LastAffected, version) < 0:
				within = false
			case e.Fixed != "" && (fixed == "" || compare(manager, e.Fixed, fixed) < 0):
				fixed = e.Fixed
			}
		}
		hit = hit || within
	}
	return hit, fixed
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// name prefers the CVE's.
func (a *advisory) name() string {
	for _, n := range slices.Concat([]string{a.ID}, a.Aliases, a.Upstream) {
		if strings.HasPrefix(n, "CVE-") {
			return n
		}
	}
	return a.ID
}

func (a *advisory) url() string {
	for _, kind := range []string{"ADVISORY", "WEB"} {
		for _, r := range a.References {
			if r.Type == kind {
				return r.URL
			}
		}
	}
	return "https://osv.dev/vulnerability/" + a.ID
}

// severity is what the advisory says in words, else by CVSS's score.
func (a *advisory) severity(x *affected) (level string, points float64, vector string) {
	for _, r := range slices.Concat(x.Severity, a.Severity) {
		if s, ok := baseScore(r.Score); ok && s > points {
			points, vector = s, r.Score
		}
	}
	for _, text := range []string{x.Ecosystem.Severity, x.Database.Severity, a.Database.Severity, x.Ecosystem.Urgency} {
		switch strings.ToUpper(text) {
		case "CRITICAL":
			return Critical, points, vector
		case "HIGH", "IMPORTANT":
			return High, points, vector
		case "MEDIUM", "MODERATE":
			return Medium, points, vector
		case "LOW":
			return Low, points, vector
		case "UNIMPORTANT", "NEGLIGIBLE":
			return Informational, points, vector
		}
	}
	switch {
	case vector == "":
		return Undefined, 0, ""
	case points >= 9:
		return Critical, points, vector
	case points >= 7:
		return High, points, vector
	case points >= 4:
		return Medium, points, vector
	}
	return Low, points, vector
}
