package filter

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// terms is a pattern over text: all of these, any of those, none of the others.
type terms struct{ all, any, none []term }

// term is a text that is contained, or a regular expression that matches.
type term struct {
	text  string
	regex *regexp.Regexp
}

func (t term) in(message string) bool {
	if t.regex != nil {
		return t.regex.MatchString(message)
	}
	return strings.Contains(message, t.text)
}

func (t *terms) match(message string) bool {
	for _, x := range t.all {
		if !x.in(message) {
			return false
		}
	}
	for _, x := range t.none {
		if x.in(message) {
			return false
		}
	}
	if len(t.any) == 0 {
		return true
	}
	for _, x := range t.any {
		if x.in(message) {
			return true
		}
	}
	return false
}

func (t *terms) extract(string, map[string]string) {}

// terms reads a pattern over text.
func (p *parser) terms() (matcher, error) {
	t := &terms{}
	for p.space(); !p.end(); p.space() {
		into := &t.all
		switch {
		case p.eat("?"):
			into = &t.any
		case p.eat("-"):
			into = &t.none
		}
		x, err := p.term()
		if err != nil {
			return nil, err
		}
		*into = append(*into, x)
	}
	// "If you combine ? with other filter patterns, the question mark is ignored":
	// the optional terms then decide nothing.
	if len(t.all) > 0 || len(t.none) > 0 {
		t.any = nil
	}
	return t, nil
}

// term reads a word, a quoted phrase or a regular expression.
func (p *parser) term() (term, error) {
	switch {
	case p.peek() == '"':
		text, err := p.quoted()
		return term{text: text}, err
	case p.peek() == '%':
		re, err := p.regex()
		return term{regex: re}, err
	}
	start := p.at
	for !p.end() {
		r, n := utf8.DecodeRuneInString(p.in[p.at:])
		if r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			break
		}
		p.at += n
	}
	if !p.end() && !isSpace(p.in[p.at]) {
		r, _ := utf8.DecodeRuneInString(p.in[p.at:])
		return term{}, &CharacterError{string(r)}
	}
	if p.at == start {
		return term{}, ErrSyntax
	}
	return term{text: p.in[start:p.at]}, nil
}
