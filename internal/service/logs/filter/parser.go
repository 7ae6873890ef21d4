package filter

import (
	"regexp"
	"strings"
)

// parser walks over a pattern. All three forms share its tokens.
type parser struct {
	in      string
	at      int
	regexes int
	depth   int
}

// maxDepth bounds the nesting of parentheses.
const maxDepth = 64

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func (p *parser) end() bool { return p.at >= len(p.in) }

// peek returns the next byte, 0 at the end.
func (p *parser) peek() byte {
	if p.end() {
		return 0
	}
	return p.in[p.at]
}

func (p *parser) space() {
	for !p.end() && isSpace(p.in[p.at]) {
		p.at++
	}
}

// eat takes a token if it comes next.
func (p *parser) eat(token string) bool {
	if !strings.HasPrefix(p.in[p.at:], token) {
		return false
	}
	p.at += len(token)
	return true
}

// word takes a keyword, in any case of letters, that ends where it ends.
func (p *parser) word(w string) bool {
	if len(p.in)-p.at < len(w) || !strings.EqualFold(p.in[p.at:p.at+len(w)], w) {
		return false
	}
	if next := p.at + len(w); next < len(p.in) && isAlnum(p.in[next]) {
		return false
	}
	p.at += len(w)
	p.space()
	return true
}

// quoted reads a text in double quotes, in which a backslash escapes.
func (p *parser) quoted() (string, error) {
	var b strings.Builder
	for p.at++; !p.end(); p.at++ {
		switch c := p.in[p.at]; {
		case c == '"':
			p.at++
			return b.String(), nil
		case c == '\\' && p.at+1 < len(p.in) && (p.in[p.at+1] == '"' || p.in[p.at+1] == '\\'):
			p.at++
			b.WriteByte(p.in[p.at])
		default:
			b.WriteByte(c)
		}
	}
	return "", ErrSyntax
}

// regexSymbols are the characters besides letters and digits that the page
// allows in a regular expression, operators included.
const regexSymbols = `:_#=@/;,-^$?[]{}|\*+.`

// regex reads a regular expression between percent signs.
func (p *parser) regex() (*regexp.Regexp, error) {
	p.at++
	n := strings.IndexByte(p.in[p.at:], '%')
	if n <= 0 {
		return nil, ErrSyntax
	}
	text := p.in[p.at : p.at+n]
	p.at += n + 1
	for i := range len(text) {
		if !isAlnum(text[i]) && strings.IndexByte(regexSymbols, text[i]) < 0 {
			return nil, &CharacterError{text[i : i+1]}
		}
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, ErrSyntax
	}
	p.regexes++
	return re, nil
}

// boolean reads conditions joined by && and ||, of which && binds more tightly,
// with parentheses. leaf reads one condition.
func boolean[T any](p *parser, leaf func() (condition[T], error)) (condition[T], error) {
	if p.depth++; p.depth > maxDepth {
		return nil, ErrSyntax
	}
	defer func() { p.depth-- }()
	var ors anyOf[T]
	for {
		var ands allOf[T]
		for {
			c, err := operand(p, leaf)
			if err != nil {
				return nil, err
			}
			ands = append(ands, c)
			if p.space(); !p.eat("&&") {
				break
			}
		}
		ors = append(ors, ands)
		if !p.eat("||") {
			return ors, nil
		}
	}
}

func operand[T any](p *parser, leaf func() (condition[T], error)) (condition[T], error) {
	p.space()
	if !p.eat("(") {
		return leaf()
	}
	c, err := boolean(p, leaf)
	if err != nil {
		return nil, err
	}
	if p.space(); !p.eat(")") {
		return nil, ErrSyntax
	}
	return c, nil
}

// condition is a question about a parsed event.
type condition[T any] interface{ holds(event T) bool }

type anyOf[T any] []condition[T]

func (c anyOf[T]) holds(event T) bool {
	for _, x := range c {
		if x.holds(event) {
			return true
		}
	}
	return false
}

type allOf[T any] []condition[T]

func (c allOf[T]) holds(event T) bool {
	for _, x := range c {
		if !x.holds(event) {
			return false
		}
	}
	return true
}
