// Package filter is the filter pattern language of CloudWatch Logs, in which
// metric filters, subscription filters, FilterLogEvents and Live Tail say which
// events they want ("Filter pattern syntax for metric filters, subscription
// filters, filter log events, and Live Tail"). A pattern is of one of three forms:
//
//	ERROR -"exit 0" %timed?out%         terms: all, optional (?), excluded (-), exact phrases, regular expressions
//	{ $.level = "E*" && $.took > 1.5 }  selectors and comparisons over an event that is a JSON object or array
//	[ip, ..., status = 4*, bytes > 99]  columns of an event that is separated by spaces
//
// Where the page is silent: a comparison with a JSON member that is not there is
// false, != included; a bare number equals a JSON string of the same text.
package filter

import (
	"fmt"
	"strings"
)

// A Filter is a compiled pattern. It may be used by many at once.
type Filter struct {
	matcher matcher
	regexes int
}

// matcher is one of the three forms.
type matcher interface {
	match(message string) bool
	// extract fills in what the pattern names in a message that matches.
	extract(message string, into map[string]string)
}

// ErrSyntax says that a pattern is of none of the three forms.
var ErrSyntax error = syntaxError{}

type syntaxError struct{}

// Error returns the text that AWS answers.
func (syntaxError) Error() string { return "Invalid filter pattern" }

// CharacterError is a term with characters that need quotes.
type CharacterError struct{ Term string }

// Error returns the text that AWS answers.
func (e *CharacterError) Error() string {
	return fmt.Sprintf("Invalid character(s) in term '%s'", e.Term)
}

// maxRegexes is how many regular expressions a pattern over JSON or columns may
// have.
const maxRegexes = 2

// Compile reads a pattern. Its error's text is the one that AWS answers. The
// empty pattern matches every event.
func Compile(pattern string) (*Filter, error) {
	s := strings.TrimSpace(pattern)
	p := &parser{in: s}
	var m matcher
	var err error
	switch {
	case strings.HasPrefix(s, "{"):
		m, err = p.document()
	case strings.HasPrefix(s, "["):
		m, err = p.columns()
	default:
		m, err = p.terms()
	}
	if err != nil {
		return nil, err
	}
	if _, isTerms := m.(*terms); !isTerms && p.regexes > maxRegexes {
		return nil, ErrSyntax
	}
	return &Filter{matcher: m, regexes: p.regexes}, nil
}

// Match tells whether an event's message is wanted.
func (f *Filter) Match(message string) bool { return f.matcher.match(message) }

// Extract returns the values that the pattern names, as TestMetricFilter tells
// them: "$.a.b" of JSON, "$name" of columns ("$3" for one without a name). It
// returns false if the message does not match.
func (f *Filter) Extract(message string) (map[string]string, bool) {
	if !f.matcher.match(message) {
		return nil, false
	}
	values := map[string]string{}
	f.matcher.extract(message, values)
	return values, true
}

// Regexes returns the number of regular expressions in the pattern; AWS counts
// them against a quota of a log group.
func (f *Filter) Regexes() int { return f.regexes }

// All tells whether the filter matches every event, so that a caller may spare
// itself the question.
func (f *Filter) All() bool {
	t, ok := f.matcher.(*terms)
	return ok && len(t.all) == 0 && len(t.any) == 0 && len(t.none) == 0
}
