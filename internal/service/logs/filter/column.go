package filter

import (
	"strconv"
	"strings"
)

// columns is a pattern over an event that is separated by spaces.
type columns struct {
	before, after []column // those before and after the ellipsis
	ellipsis      bool
}

// column is one column: its name, which may be empty, and its condition, which
// may be nil.
type column struct {
	name string
	when condition[string]
}

// columns reads "[a, b = 1, ..., c]".
func (p *parser) columns() (matcher, error) {
	p.at++
	c := &columns{}
	for {
		p.space()
		if p.eat("...") {
			if c.ellipsis {
				return nil, ErrSyntax
			}
			c.ellipsis = true
		} else {
			col, err := p.column()
			if err != nil {
				return nil, err
			}
			if c.ellipsis {
				c.after = append(c.after, col)
			} else {
				c.before = append(c.before, col)
			}
		}
		p.space()
		if p.eat(",") {
			continue
		}
		if !p.eat("]") {
			return nil, p.invalid()
		}
		if p.space(); !p.end() {
			return nil, p.invalid()
		}
		return c, nil
	}
}

// invalid is the error for a character that cannot stand where it does.
func (p *parser) invalid() error {
	if p.end() {
		return ErrSyntax
	}
	return &CharacterError{p.in[p.at : p.at+1]}
}

// column reads a name, or conditions that all speak of one name.
func (p *parser) column() (column, error) {
	if c := p.peek(); c == ',' || c == ']' {
		return column{}, nil
	}
	start, col := p.at, column{}
	if col.name = p.name(); col.name != "" {
		if p.space(); p.peek() == ',' || p.peek() == ']' {
			return col, nil
		}
	}
	p.at = start
	when, err := boolean(p, func() (condition[string], error) {
		name := p.name()
		if col.name == "" {
			col.name = name
		} else if name != col.name {
			return nil, ErrSyntax
		}
		p.space()
		c, err := p.comparison(",])")
		if err != nil {
			return nil, err
		}
		return columnTest{c}, nil
	})
	col.when = when
	return col, err
}

// name reads a column's name.
func (p *parser) name() string {
	start := p.at
	for !p.end() && (isAlnum(p.in[p.at]) || p.in[p.at] == '_' || p.in[p.at] == '-') {
		p.at++
	}
	return p.in[start:p.at]
}

type columnTest struct{ *comparison }

func (t columnTest) holds(field string) bool { return t.matchNumber(field) }

func (c *columns) match(message string) bool {
	fields := split(message)
	if !c.fits(len(fields)) {
		return false
	}
	for i, col := range c.before {
		if col.when != nil && !col.when.holds(fields[i]) {
			return false
		}
	}
	tail := fields[len(fields)-len(c.after):]
	for i, col := range c.after {
		if col.when != nil && !col.when.holds(tail[i]) {
			return false
		}
	}
	return true
}

func (c *columns) fits(fields int) bool {
	want := len(c.before) + len(c.after)
	return fields == want || c.ellipsis && fields > want
}

func (c *columns) extract(message string, into map[string]string) {
	fields := split(message)
	for i, f := range fields {
		name := ""
		if i < len(c.before) {
			name = c.before[i].name
		} else if j := i - (len(fields) - len(c.after)); j >= 0 {
			name = c.after[j].name
		}
		if name == "" {
			name = strconv.Itoa(i + 1)
		}
		into["$"+name] = f
	}
}

// split returns an event's fields: what white space separates, and what stands
// in double quotes or brackets, without those.
func split(message string) []string {
	fields := make([]string, 0, 16)
	for s := message; ; {
		s = strings.TrimLeft(s, " \t\r\n")
		if s == "" {
			return fields
		}
		if closing := closer(s[0]); closing != 0 {
			if n := strings.IndexByte(s[1:], closing); n >= 0 {
				fields = append(fields, s[1:1+n])
				s = s[n+2:]
				continue
			}
		}
		n := strings.IndexAny(s, " \t\r\n")
		if n < 0 {
			return append(fields, s)
		}
		fields = append(fields, s[:n])
		s = s[n:]
	}
}

func closer(c byte) byte {
	switch c {
	case '"':
		return '"'
	case '[':
		return ']'
	}
	return 0
}
