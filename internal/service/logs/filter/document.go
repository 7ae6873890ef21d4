package filter

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
)

// document is a pattern over events that are JSON.
type document struct {
	when      condition[any]
	selectors []*selector
	// must are texts that are in every event that matches, unless JSON's \u stands
	// for some of their letters: most events are refused by looking for them, which
	// is many times faster than to parse.
	must []string
}

// selector is a path into a JSON value.
type selector struct {
	text  string
	steps []step
}

// step is a member's name, an element's index or, with all set, every one.
type step struct {
	name  string
	index int // -1: the step is a name
	all   bool
}

// document reads "{ ... }".
func (p *parser) document() (matcher, error) {
	p.at++
	d := &document{}
	var err error
	d.when, err = boolean(p, func() (condition[any], error) { return p.member(d) })
	if err != nil {
		return nil, err
	}
	if p.space(); !p.eat("}") {
		return nil, p.invalid()
	}
	if p.space(); !p.end() {
		return nil, p.invalid()
	}
	d.must = musts(d.when)
	return d, nil
}

// musts returns the texts that an event must hold for a condition to hold.
func musts(c condition[any]) []string {
	switch c := c.(type) {
	case anyOf[any]:
		if len(c) == 1 {
			return musts(c[0])
		}
	case allOf[any]:
		var all []string
		for _, x := range c {
			all = append(all, musts(x)...)
		}
		return all
	case memberTest:
		texts := c.sel.names()
		if c.cmp.op == "=" && c.cmp.regex == nil && !c.cmp.numeric {
			texts = append(texts, c.cmp.literals()...)
		}
		return texts
	case isTest:
		return c.sel.names()
	case existsTest:
		if c.want {
			return c.sel.names()
		}
	}
	return nil
}

// names returns the names of a path.
func (s *selector) names() []string {
	var names []string
	for _, st := range s.steps {
		if st.name != "" && plain(st.name) {
			names = append(names, `"`+st.name+`"`)
		}
	}
	return names
}

// literals returns the texts between a value's wildcards.
func (c *comparison) literals() []string {
	parts := c.parts
	if parts == nil {
		parts = []string{c.text}
	}
	var out []string
	for _, part := range parts {
		if part != "" && plain(part) {
			out = append(out, part)
		}
	}
	return out
}

// plain tells whether JSON can write a text in no other way than as it is, \u
// apart.
func plain(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' || r == '/' }) < 0
}

// member reads one condition: a selector and what is asked of it.
func (p *parser) member(d *document) (condition[any], error) {
	sel, err := p.selector()
	if err != nil {
		return nil, err
	}
	d.selectors = append(d.selectors, sel)
	p.space()
	switch {
	case p.word("IS"):
		not := p.word("NOT")
		for _, w := range []string{"NULL", "TRUE", "FALSE"} {
			if p.word(w) {
				return isTest{sel, w, not}, nil
			}
		}
		return nil, ErrSyntax
	case p.word("NOT"):
		if !p.word("EXISTS") {
			return nil, ErrSyntax
		}
		return existsTest{sel, false}, nil
	case p.word("EXISTS"):
		return existsTest{sel, true}, nil
	}
	c, err := p.comparison(")}")
	if err != nil {
		return nil, err
	}
	return memberTest{sel, c}, nil
}

// selector reads a path such as $.a.b[0].*['c d'].
func (p *parser) selector() (*selector, error) {
	start := p.at
	if !p.eat("$") {
		return nil, p.invalid()
	}
	s := &selector{}
	for {
		dot := p.eat(".")
		switch {
		case p.eat("["):
			st, err := p.subscript()
			if err != nil {
				return nil, err
			}
			s.steps = append(s.steps, st)
		case !dot:
			if len(s.steps) == 0 {
				return nil, ErrSyntax
			}
			s.text = p.in[start:p.at]
			return s, nil
		case p.eat("*"):
			s.steps = append(s.steps, step{index: -1, all: true})
		default:
			name := p.name()
			if name == "" {
				if p.end() {
					return nil, ErrSyntax
				}
				return nil, &CharacterError{p.in[start : p.at+1]}
			}
			s.steps = append(s.steps, step{name: name, index: -1})
		}
	}
}

// subscript reads what follows an opening bracket.
func (p *parser) subscript() (step, error) {
	st := step{index: -1}
	switch c := p.peek(); {
	case c == '*':
		p.at++
		st.all = true
	case c == '\'' || c == '"':
		n := strings.IndexByte(p.in[p.at+1:], c)
		if n <= 0 {
			return st, ErrSyntax
		}
		st.name = p.in[p.at+1 : p.at+1+n]
		p.at += n + 2
	default:
		n, err := strconv.Atoi(p.name())
		if err != nil || n < 0 {
			return st, ErrSyntax
		}
		st.index = n
	}
	if !p.eat("]") {
		return st, ErrSyntax
	}
	return st, nil
}

// find calls f with every value at the path until f returns true.
func (s *selector) find(v any, f func(any) bool) bool { return walk(s.steps, v, f) }

func walk(steps []step, v any, f func(any) bool) bool {
	if len(steps) == 0 {
		return f(v)
	}
	st, rest := steps[0], steps[1:]
	switch x := v.(type) {
	case map[string]any:
		if st.all {
			for _, e := range x {
				if walk(rest, e, f) {
					return true
				}
			}
			return false
		}
		if st.index >= 0 {
			return false
		}
		e, ok := x[st.name]
		return ok && walk(rest, e, f)
	case []any:
		if st.all {
			for _, e := range x {
				if walk(rest, e, f) {
					return true
				}
			}
			return false
		}
		return st.index >= 0 && st.index < len(x) && walk(rest, x[st.index], f)
	}
	return false
}

type memberTest struct {
	sel *selector
	cmp *comparison
}

func (t memberTest) holds(event any) bool {
	return t.sel.find(event, func(v any) bool {
		switch x := v.(type) {
		case string:
			return t.cmp.matchText(x)
		case json.Number:
			return t.cmp.matchNumber(x.String())
		case bool:
			return t.cmp.bare && t.cmp.matchText(strconv.FormatBool(x))
		case nil:
			return false
		}
		// Of an object or array it can only be asked whether it is there: = "*".
		return t.cmp.op == "=" && t.cmp.text == "*"
	})
}

type isTest struct {
	sel  *selector
	what string
	not  bool
}

func (t isTest) holds(event any) bool {
	return t.sel.find(event, func(v any) bool {
		is := false
		switch t.what {
		case "NULL":
			is = v == nil
		case "TRUE":
			is = v == true
		case "FALSE":
			is = v == false
		}
		return is != t.not
	})
}

type existsTest struct {
	sel  *selector
	want bool
}

func (t existsTest) holds(event any) bool {
	return t.sel.find(event, func(any) bool { return true }) == t.want
}

// parse reads an event. One that is not a JSON object or array is none.
func parse(message string) (any, bool) {
	s := strings.TrimLeft(message, " \t\r\n")
	if s == "" || s[0] != '{' && s[0] != '[' {
		return nil, false
	}
	dec := json.NewDecoder(strings.NewReader(s))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		return nil, false
	}
	rest := strings.TrimSpace(s[dec.InputOffset():])
	return v, rest == ""
}

func (d *document) match(message string) bool {
	for _, text := range d.must {
		if !strings.Contains(message, text) && !strings.Contains(message, `\u`) {
			return false
		}
	}
	v, ok := parse(message)
	return ok && d.when.holds(v)
}

func (d *document) extract(message string, into map[string]string) {
	v, _ := parse(message)
	for _, s := range d.selectors {
		s.find(v, func(v any) bool {
			into[s.text] = text(v)
			return true
		})
	}
}

// text writes a JSON value as text: a string without its quotes.
func text(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if enc.Encode(v) != nil {
		return ""
	}
	return strings.TrimSuffix(b.String(), "\n")
}
