package auth

import (
	"strings"
	"unicode/utf8"
)

// Elements of a compiled pattern: a byte of text, or one of these.
const (
	anyRun  = -1 // *
	anyRune = -2 // ?
)

// pattern is a compiled text of a policy: with or without wildcards and policy
// variables. Wildcards that come in through a variable's value are plain text.
type pattern struct {
	raw    string
	kind   patternKind
	elems  []int16 // kind glob
	prefix string  // kind prefix
	parts  []part  // kind variable
}

type patternKind uint8

const (
	exact    patternKind = iota
	all                  // "*"
	prefix               // text and one * at the end
	glob                 // any other with wildcards
	variable             // contains ${...}
)

// part is a piece of a pattern with variables.
type part struct {
	elems    []int16
	key      string // condition key in lower case; empty for fixed text
	fallback string
	hasValue bool // a default is given
}

// resolver gives the value of a policy variable; variables of keys that are
// absent or hold several values have none.
type resolver interface {
	variable(key string) (string, bool)
}

// compile prepares a pattern. wild says whether * and ? are wildcards, vars
// whether ${...} is a variable (policies of version 2012-10-17), fold whether to
// compare without case.
func compile(raw string, wild, vars, fold bool) pattern {
	p := pattern{raw: raw}
	text := raw
	if fold {
		text = lower(text)
	}
	if vars && strings.Contains(text, "${") {
		p.parts = splitVariables(text, wild)
		p.kind = variable
		for _, part := range p.parts {
			if part.key != "" {
				return p
			}
		}
		p.kind, p.elems, p.parts = glob, p.parts[0].elems, nil // only ${*}, ${?}, ${$}
		return p
	}
	switch star := strings.IndexAny(text, "*?"); {
	case !wild || star < 0:
		p.kind, p.raw = exact, text
	case text == "*":
		p.kind = all
	case star == len(text)-1 && text[star] == '*':
		p.kind, p.prefix = prefix, text[:star]
	default:
		p.kind, p.elems = glob, appendElems(nil, text, true)
	}
	return p
}

func appendElems(to []int16, text string, wild bool) []int16 {
	for i := range len(text) {
		switch {
		case wild && text[i] == '*':
			to = append(to, anyRun)
		case wild && text[i] == '?':
			to = append(to, anyRune)
		default:
			to = append(to, int16(text[i]))
		}
	}
	return to
}

// splitVariables cuts a text at its ${...}. ${*}, ${?} and ${$} stand for the
// plain characters. What has no closing brace is plain text.
func splitVariables(text string, wild bool) []part {
	parts := []part{{}}
	last := func() *part { return &parts[len(parts)-1] }
	for text != "" {
		start := strings.Index(text, "${")
		end := -1
		if start >= 0 {
			end = strings.IndexByte(text[start:], '}')
		}
		if end < 0 {
			last().elems = appendElems(last().elems, text, wild)
			break
		}
		end += start
		last().elems = appendElems(last().elems, text[:start], wild)
		name := text[start+2 : end]
		text = text[end+1:]
		if name == "*" || name == "?" || name == "$" {
			last().elems = appendElems(last().elems, name, false)
			continue
		}
		v := part{}
		key, fallback, has := strings.Cut(name, ",")
		v.key = lower(strings.TrimSpace(key))
		if fallback = strings.TrimSpace(fallback); has && len(fallback) >= 2 && fallback[0] == '\'' && fallback[len(fallback)-1] == '\'' {
			v.fallback, v.hasValue = fallback[1:len(fallback)-1], true
		}
		parts = append(parts, v, part{})
	}
	return parts
}

// match tells whether text fits. A variable without a value fits nothing.
func (p *pattern) match(text string, fold bool, r resolver) bool {
	if fold {
		text = lower(text)
	}
	switch p.kind {
	case exact:
		return p.raw == text
	case all:
		return true
	case prefix:
		return strings.HasPrefix(text, p.prefix)
	case glob:
		return matchElems(p.elems, text)
	}
	elems := make([]int16, 0, len(p.raw)+32)
	for _, part := range p.parts {
		elems = append(elems, part.elems...)
		if part.key == "" {
			continue
		}
		value, ok := r.variable(part.key)
		if !ok {
			if !part.hasValue {
				return false
			}
			value = part.fallback
		}
		if fold {
			value = lower(value)
		}
		elems = appendElems(elems, value, false)
	}
	return matchElems(elems, text)
}

// matchElems matches with a single point of return, so that its time is at most
// the product of both lengths.
func matchElems(elems []int16, text string) bool {
	e, t := 0, 0
	starE, starT := -1, 0
	for t < len(text) {
		switch {
		case e < len(elems) && elems[e] == anyRun:
			starE, starT = e, t
			e++
			continue
		case e < len(elems) && elems[e] == anyRune:
			_, size := utf8.DecodeRuneInString(text[t:])
			e, t = e+1, t+size
			continue
		case e < len(elems) && elems[e] == int16(text[t]):
			e, t = e+1, t+1
			continue
		case starE < 0:
			return false
		}
		starT++
		e, t = starE+1, starT
	}
	for e < len(elems) && elems[e] == anyRun {
		e++
	}
	return e == len(elems)
}

// lower is strings.ToLower for ASCII, which is all that action names and
// condition keys may hold; other bytes stay as they are.
func lower(s string) string {
	for i := range len(s) {
		if c := s[i]; 'A' <= c && c <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if c := b[i]; 'A' <= c && c <= 'Z' {
					b[i] = c + 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}

// arnPattern is a pattern for ARNs. Each of the six parts is matched by itself,
// so that a wildcard never spans a colon except within the last one. Parts that
// are left out match everything.
type arnPattern struct {
	any   bool
	plain pattern // texts that are not ARNs
	isARN bool
	parts [6]pattern
}

// compileARN prepares a Resource element or a value of the Arn operators.
func compileARN(raw string, vars bool) arnPattern {
	if raw == "*" {
		return arnPattern{any: true}
	}
	if !strings.HasPrefix(raw, "arn:") {
		return arnPattern{plain: compile(raw, true, vars, false)}
	}
	a := arnPattern{isARN: true}
	rest := raw
	for i := range a.parts {
		segment := rest
		if i < 5 {
			segment, rest = cutSegment(rest)
		}
		if i > 0 && segment == "" && rest == "" && !strings.HasSuffix(raw, ":") {
			segment = "*"
		}
		a.parts[i] = compile(segment, true, vars, false)
	}
	return a
}

// cutSegment cuts at the first colon outside of a variable.
func cutSegment(s string) (segment, rest string) {
	depth := 0
	for i := range len(s) {
		switch {
		case s[i] == '$' && i+1 < len(s) && s[i+1] == '{' && strings.IndexByte(s[i:], '}') > 0:
			depth++
		case s[i] == '}' && depth > 0:
			depth--
		case s[i] == ':' && depth == 0:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

// match tells whether an ARN fits.
func (a *arnPattern) match(text string, r resolver) bool {
	if a.any {
		return true
	}
	if !a.isARN {
		return a.plain.match(text, false, r)
	}
	for i := range 5 {
		segment, rest, found := strings.Cut(text, ":")
		if !found || !a.parts[i].match(segment, false, r) {
			return false
		}
		text = rest
	}
	return a.parts[5].match(text, false, r)
}
