package scan

import (
	"cmp"
	"strings"
)

// compare orders two versions as a package's manager does.
func compare(manager, a, b string) int {
	switch manager {
	case Dpkg:
		return compareDpkg(a, b)
	case Apk:
		return compareApk(a, b)
	case RPM:
		return compareRPM(a, b)
	}
	return compareSemantic(a, b)
}

func digit(c byte) bool  { return c >= '0' && c <= '9' }
func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// number cuts the digits off a text's beginning.
func number(s string) (digits, rest string) {
	i := 0
	for i < len(s) && digit(s[i]) {
		i++
	}
	return s[:i], s[i:]
}

// compareNumbers orders numbers of any length.
func compareNumbers(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

// epoch cuts the number before a colon off a version.
func epoch(v string) (epoch, rest string) {
	if e, rest, ok := strings.Cut(v, ":"); ok {
		return e, rest
	}
	return "0", v
}

// compareDpkg orders Debian's versions ("deb-version(7)").
func compareDpkg(a, b string) int {
	ea, a := epoch(a)
	eb, b := epoch(b)
	if c := compareNumbers(ea, eb); c != 0 {
		return c
	}
	split := func(v string) (upstream, revision string) {
		if i := strings.LastIndexByte(v, '-'); i >= 0 {
			return v[:i], v[i+1:]
		}
		return v, ""
	}
	ua, ra := split(a)
	ub, rb := split(b)
	return cmp.Or(compareDebian(ua, ub), compareDebian(ra, rb))
}

// weight orders the characters of a part that is no number: a tilde before the
// end, then letters, then the rest.
func weight(s string) int {
	switch {
	case s == "" || digit(s[0]):
		return 0
	case s[0] == '~':
		return -1
	case letter(s[0]):
		return int(s[0])
	}
	return int(s[0]) + 256
}

func compareDebian(a, b string) int {
	for a != "" || b != "" {
		for a != "" && !digit(a[0]) || b != "" && !digit(b[0]) {
			if c := cmp.Compare(weight(a), weight(b)); c != 0 {
				return c
			}
			a, b = a[min(1, len(a)):], b[min(1, len(b)):]
		}
		var na, nb string
		na, a = number(a)
		nb, b = number(b)
		if c := compareNumbers(na, nb); c != 0 {
			return c
		}
	}
	return 0
}

// compareRPM orders RPM's versions: epoch, version, release ("rpm-version(7)").
func compareRPM(a, b string) int {
	ea, a := epoch(a)
	eb, b := epoch(b)
	if c := compareNumbers(ea, eb); c != 0 {
		return c
	}
	va, ra, _ := strings.Cut(a, "-")
	vb, rb, _ := strings.Cut(b, "-")
	if c := compareSegments(va, vb); c != 0 || ra == "" || rb == "" {
		return c
	}
	return compareSegments(ra, rb)
}

func compareSegments(a, b string) int {
	separator := func(c byte) bool { return !digit(c) && !letter(c) && c != '~' && c != '^' }
	for {
		for a != "" && separator(a[0]) {
			a = a[1:]
		}
		for b != "" && separator(b[0]) {
			b = b[1:]
		}
		// A tilde is before everything, even the end; a caret after the end only.
		ta, tb := strings.HasPrefix(a, "~"), strings.HasPrefix(b, "~")
		ca, cb := strings.HasPrefix(a, "^"), strings.HasPrefix(b, "^")
		switch {
		case ta && tb || ca && cb:
			a, b = a[1:], b[1:]
			continue
		case ta || ca && b != "" && !tb:
			return -1
		case tb || cb && a != "":
			return 1
		case a == "" || b == "":
			return cmp.Compare(len(a), len(b))
		}
		na, resta := number(a)
		nb, restb := number(b)
		if na == "" && nb == "" {
			na, resta = word(a)
			nb, restb = word(b)
			if c := strings.Compare(na, nb); c != 0 {
				return c
			}
		} else if na == "" || nb == "" {
			return cmp.Compare(len(na), len(nb)) // a number is newer than a word
		} else if c := compareNumbers(na, nb); c != 0 {
			return c
		}
		a, b = resta, restb
	}
}

// word cuts the letters off a text's beginning.
func word(s string) (letters, rest string) {
	i := 0
	for i < len(s) && letter(s[i]) {
		i++
	}
	return s[:i], s[i:]
}

// suffixes are apk's, in order; what has none stands between rc and cvs.
var suffixes = []string{"alpha", "beta", "pre", "rc", "", "cvs", "svn", "git", "hg", "p"}

// compareApk orders Alpine's versions: numbers, a letter, suffixes, a revision
// ("Package versions", Alpine's wiki).
func compareApk(a, b string) int {
	a, ra, _ := strings.Cut(a, "-r")
	b, rb, _ := strings.Cut(b, "-r")
	pa := strings.Split(a, "_")
	pb := strings.Split(b, "_")
	if c := compareSegments(pa[0], pb[0]); c != 0 {
		return c
	}
	for i := 1; i < max(len(pa), len(pb)); i++ {
		wa, na := suffix(pa, i)
		wb, nb := suffix(pb, i)
		if c := cmp.Or(cmp.Compare(wa, wb), compareNumbers(na, nb)); c != 0 {
			return c
		}
	}
	return compareNumbers(ra, rb)
}

func suffix(parts []string, i int) (order int, n string) {
	name := ""
	if i < len(parts) {
		name, n = word(parts[i])
	}
	for order, s := range suffixes {
		if s == name {
			return order, n
		}
	}
	return len(suffixes), n
}

// compareSemantic orders semantic versions (semver.org), and those with more or
// fewer numbers, with or without a v.
func compareSemantic(a, b string) int {
	split := func(v string) (numbers []string, pre string) {
		v, _, _ = strings.Cut(strings.TrimPrefix(v, "v"), "+")
		v, pre, _ = strings.Cut(v, "-")
		// Go's own release candidates are written 1.22rc1.
		if i := strings.IndexAny(v, "rb"); i > 0 && pre == "" {
			v, pre = v[:i], v[i:]
		}
		return strings.Split(v, "."), pre
	}
	na, pa := split(a)
	nb, pb := split(b)
	for i := range max(len(na), len(nb)) {
		x, y := "", ""
		if i < len(na) {
			x = na[i]
		}
		if i < len(nb) {
			y = nb[i]
		}
		if c := compareNumbers(x, y); c != 0 {
			return c
		}
	}
	switch {
	case pa == pb:
		return 0
	case pa == "":
		return 1
	case pb == "":
		return -1
	}
	xs, ys := strings.Split(pa, "."), strings.Split(pb, ".")
	for i := range min(len(xs), len(ys)) {
		_, restx := number(xs[i])
		_, resty := number(ys[i])
		isx, isy := restx == "", resty == ""
		c := strings.Compare(xs[i], ys[i])
		switch {
		case isx && isy:
			c = compareNumbers(xs[i], ys[i])
		case isx:
			c = -1
		case isy:
			c = 1
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Compare(len(xs), len(ys))
}
