package wire

import (
	"regexp"
	"strconv"
	"strings"
)

// pattern is a model's regular expression made ready.
type pattern struct {
	want *regexp.Regexp // nil if it can't be written for Go: anything matches
	not  *regexp.Regexp
}

func (p *pattern) match(s string) bool {
	if p.want != nil && !p.want.MatchString(s) {
		return false
	}
	return p.not == nil || !p.not.MatchString(s)
}

// lookarounds has the patterns that look around, which Go's expressions can't,
// as two: one that a value must match and one that it must not.
var lookarounds = map[string][2]string{
	`(?!^[0-9]+$)([a-zA-Z0-9-_]+)`:              {`[a-zA-Z0-9-_]+`, `[0-9]+`},
	`((?!^\d+$)^[0-9a-zA-Z-_]+$)`:               {`[0-9a-zA-Z-_]+`, `\d+`},
	`[0-9A-Za-z\.\-_]*(?<!\.)`:                  {`[0-9A-Za-z.\-_]*`, `.*\.`},
	`^[a-z0-9]([a-z0-9]|-(?!-)){1,61}[a-z0-9]$`: {`[a-z0-9][a-z0-9-]{1,61}[a-z0-9]`, `.*--.*`},
	`(^(?!(system\x2e)))(^[_a-zA-Z0-9])([^$]*)`: {`[_a-zA-Z0-9][^$]*`, `system\..*`},
	`^(?=.{20,2048}$)arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:\d{12}:secret:[a-zA-Z0-9/_+=.@-]+`: {
		`arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:\d{12}:secret:[a-zA-Z0-9/_+=.@-]+`, `.{0,19}`},
}

// patternOf returns the expression of a shape, compiled once.
func (s *Service) patternOf(p *plan) *pattern {
	if v, ok := s.patterns.Load(p.index); ok {
		return v.(*pattern)
	}
	v, _ := s.patterns.LoadOrStore(p.index, compilePattern(p.shape.Pattern))
	return v.(*pattern)
}

func compilePattern(text string) *pattern {
	if two, ok := lookarounds[text]; ok {
		return &pattern{want: fullMatch(two[0]), not: fullMatch(two[1])}
	}
	return &pattern{want: fullMatch(text)}
}

// fullMatch compiles an expression in Java's dialect, of which a whole value
// must match. It returns nil if Go has no such expression.
func fullMatch(text string) *regexp.Regexp {
	re, err := regexp.Compile(`^(?s:` + javaToGo(text) + `)$`)
	if err != nil {
		return nil
	}
	return re
}

var (
	javaUnicode = regexp.MustCompile(`\\u([0-9A-Fa-f]{4})`)
	longRepeat  = regexp.MustCompile(`\{(\d+),(\d+)\}`)
)

// javaToGo rewrites what Java writes otherwise: \uXXXX, and repeats of more than
// a thousand, of which the shape's length limit remains.
func javaToGo(text string) string {
	text = javaUnicode.ReplaceAllString(text, `\x{$1}`)
	text = strings.ReplaceAll(text, `\p{Print}`, `[\x20-\x7E]`)
	return longRepeat.ReplaceAllStringFunc(text, func(r string) string {
		m := longRepeat.FindStringSubmatch(r)
		lo, _ := strconv.Atoi(m[1])
		hi, _ := strconv.Atoi(m[2])
		switch {
		case hi <= 1000:
			return r
		case lo == 0:
			return "*"
		case lo == 1 || lo > 1000:
			return "+"
		}
		return "{" + m[1] + ",}"
	})
}

// UncheckedPatterns returns the patterns of a service that can't be checked.
func (s *Service) UncheckedPatterns() []string {
	var out []string
	for i := range s.Shapes {
		if t := s.Shapes[i].Pattern; t != "" && compilePattern(t).want == nil {
			out = append(out, t)
		}
	}
	return out
}
