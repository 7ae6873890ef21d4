package scan

import (
	"bufio"
	"io"
	"strings"
)

// maxLine is the longest line of a manager's list that is read, in bytes.
const maxLine = 1 << 20

func lines(r io.Reader) *bufio.Scanner {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 64<<10), maxLine)
	return s
}

// parseRelease reads os-release ("os-release(5)").
func parseRelease(r *io.SectionReader, f *file) error {
	f.release = map[string]string{}
	s := lines(io.LimitReader(r, maxLine))
	for s.Scan() {
		if k, v, ok := strings.Cut(s.Text(), "="); ok && (k == "ID" || k == "VERSION_ID") {
			f.release[k] = strings.Trim(v, `"'`)
		}
	}
	return s.Err()
}

// ecosystem names a distribution's release as OSV does
// (https://ossf.github.io/osv-schema/#defined-ecosystems).
func ecosystem(id, version string) string {
	major, rest, _ := strings.Cut(version, ".")
	switch id {
	case "debian":
		return "Debian:" + major
	case "ubuntu":
		return "Ubuntu:" + version
	case "alpine":
		minor, _, _ := strings.Cut(rest, ".")
		return "Alpine:v" + major + "." + minor
	case "rocky":
		return "Rocky Linux:" + major
	case "almalinux":
		return "AlmaLinux:" + major
	case "rhel":
		return "Red Hat:" + major
	case "amzn":
		return "Amazon Linux:" + version
	case "wolfi":
		return "Wolfi"
	case "chainguard":
		return "Chainguard"
	}
	return id + ":" + version
}

// parseDpkg reads dpkg's list of packages: paragraphs of fields.
func parseDpkg(r *io.SectionReader, f *file) error {
	fields := map[string]string{}
	flush := func() {
		status := fields["Status"]
		if fields["Package"] != "" && fields["Version"] != "" && (status == "" || strings.HasSuffix(status, " installed")) {
			p := Package{Manager: Dpkg, Name: fields["Package"], Version: fields["Version"], Arch: fields["Architecture"]}
			p.Source, p.SourceVersion = p.Name, p.Version
			if source := fields["Source"]; source != "" {
				name, version, ok := strings.Cut(source, " ")
				if p.Source = name; ok {
					p.SourceVersion = strings.Trim(version, "()")
				}
			}
			f.packages = append(f.packages, p)
		}
		clear(fields)
	}
	s := lines(r)
	for s.Scan() {
		line := s.Text()
		if line == "" {
			flush()
			continue
		}
		k, v, ok := strings.Cut(line, ":")
		if ok && line[0] != ' ' && line[0] != '\t' {
			switch k {
			case "Package", "Version", "Architecture", "Source", "Status":
				fields[k] = strings.TrimSpace(v)
			}
		}
	}
	flush()
	return s.Err()
}

// parseApk reads apk's list of packages ("Apk spec": the installed database).
func parseApk(r *io.SectionReader, f *file) error {
	var p Package
	flush := func() {
		if p.Name != "" && p.Version != "" {
			p.Manager, p.SourceVersion = Apk, p.Version
			if p.Source == "" {
				p.Source = p.Name
			}
			f.packages = append(f.packages, p)
		}
		p = Package{}
	}
	s := lines(r)
	for s.Scan() {
		k, v, ok := strings.Cut(s.Text(), ":")
		switch {
		case !ok:
			flush()
		case k == "P":
			p.Name = v
		case k == "V":
			p.Version = v
		case k == "A":
			p.Arch = v
		case k == "o":
			p.Source = v
		}
	}
	flush()
	return s.Err()
}
