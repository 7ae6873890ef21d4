package filter

import (
	"regexp"
	"strconv"
	"strings"
)

// operators, the longer ones first.
var operators = []string{"!=", ">=", "<=", "=", ">", "<"}

// comparison is the right half of a condition.
type comparison struct {
	op      string
	text    string
	parts   []string // the text split at its wildcards; nil without one
	number  float64
	numeric bool // the value is an unquoted number
	bare    bool
	regex   *regexp.Regexp
}

// comparison reads an operator and a value; a bare value ends at white space or
// at one of stop.
func (p *parser) comparison(stop string) (*comparison, error) {
	c := &comparison{}
	for _, op := range operators {
		if p.eat(op) {
			c.op = op
			break
		}
	}
	if c.op == "" {
		return nil, ErrSyntax
	}
	p.space()
	var err error
	switch p.peek() {
	case '"':
		c.text, err = p.quoted()
	case '%':
		c.regex, err = p.regex()
	default:
		c.bare = true
		c.text = p.literal(stop)
		if c.text == "" {
			err = ErrSyntax
		}
	}
	if err != nil {
		return nil, err
	}
	if c.bare {
		c.number, err = strconv.ParseFloat(c.text, 64)
		c.numeric = err == nil && c.text[0] != 'I' && c.text[0] != 'i' && c.text[0] != 'N' && c.text[0] != 'n'
	}
	if c.op != "=" && c.op != "!=" && !c.numeric {
		return nil, ErrSyntax
	}
	if c.regex == nil && strings.Contains(c.text, "*") {
		c.parts = strings.Split(c.text, "*")
	}
	return c, nil
}

// literal reads a bare value.
func (p *parser) literal(stop string) string {
	start := p.at
	for !p.end() {
		c := p.in[p.at]
		rest := p.in[p.at:]
		if isSpace(c) || c == '"' || strings.IndexByte(stop, c) >= 0 ||
			strings.HasPrefix(rest, "&&") || strings.HasPrefix(rest, "||") {
			break
		}
		p.at++
	}
	return p.in[start:p.at]
}

// text compares with a text.
func (c *comparison) matchText(s string) bool {
	switch c.op {
	case "=":
		return c.equal(s)
	case "!=":
		return !c.equal(s)
	}
	return false
}

func (c *comparison) equal(s string) bool {
	switch {
	case c.regex != nil:
		return c.regex.MatchString(s)
	case c.parts != nil:
		return glob(c.parts, s)
	}
	return s == c.text
}

// matchNumber compares with a number, whose text is s.
func (c *comparison) matchNumber(s string) bool {
	if !c.numeric {
		return c.matchText(s)
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return c.matchText(s)
	}
	switch c.op {
	case "=":
		return n == c.number
	case "!=":
		return n != c.number
	case ">":
		return n > c.number
	case ">=":
		return n >= c.number
	case "<":
		return n < c.number
	}
	return n <= c.number
}

// glob matches a text against what stands between the wildcards.
func glob(parts []string, s string) bool {
	first, last := parts[0], parts[len(parts)-1]
	if len(s) < len(first)+len(last) || !strings.HasPrefix(s, first) || !strings.HasSuffix(s, last) {
		return false
	}
	s = s[len(first) : len(s)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
	return true
}
