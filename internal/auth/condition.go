package auth

import (
	"bytes"
	"encoding/base64"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Condition is one line of a Condition block: an operator, a key and the values
// of which one must fit. Page: "IAM JSON policy elements: Condition operators".
type Condition struct {
	Operator string // as written, such as ForAnyValue:StringLikeIfExists
	Key      string
	Values   []string

	set      setOperator
	kind     operatorKind
	negated  bool // ...Not...
	ifExists bool
	compare  byte // '=', '<', 'l' (at most), '>', 'g' (at least)
	key      string
	patterns []pattern
	arns     []arnPattern
	numbers  []float64
	times    []time.Time
	nets     []netip.Prefix
	blobs    [][]byte
}

type setOperator uint8

const (
	single setOperator = iota
	forAll
	forAny
)

type operatorKind uint8

const (
	opString operatorKind = iota
	opStringFold
	opStringLike
	opNumeric
	opDate
	opBool
	opBinary
	opIP
	opARN
	opNull
)

// operators are all operators without prefix and suffix, in lower case.
var operators = map[string]struct {
	kind    operatorKind
	negated bool
	compare byte
}{
	"stringequals":              {opString, false, '='},
	"stringnotequals":           {opString, true, '='},
	"stringequalsignorecase":    {opStringFold, false, '='},
	"stringnotequalsignorecase": {opStringFold, true, '='},
	"stringlike":                {opStringLike, false, '='},
	"stringnotlike":             {opStringLike, true, '='},
	"numericequals":             {opNumeric, false, '='},
	"numericnotequals":          {opNumeric, true, '='},
	"numericlessthan":           {opNumeric, false, '<'},
	"numericlessthanequals":     {opNumeric, false, 'l'},
	"numericgreaterthan":        {opNumeric, false, '>'},
	"numericgreaterthanequals":  {opNumeric, false, 'g'},
	"dateequals":                {opDate, false, '='},
	"datenotequals":             {opDate, true, '='},
	"datelessthan":              {opDate, false, '<'},
	"datelessthanequals":        {opDate, false, 'l'},
	"dategreaterthan":           {opDate, false, '>'},
	"dategreaterthanequals":     {opDate, false, 'g'},
	"bool":                      {opBool, false, '='},
	"binaryequals":              {opBinary, false, '='},
	"ipaddress":                 {opIP, false, '='},
	"notipaddress":              {opIP, true, '='},
	"arnequals":                 {opARN, false, '='},
	"arnlike":                   {opARN, false, '='},
	"arnnotequals":              {opARN, true, '='},
	"arnnotlike":                {opARN, true, '='},
	"null":                      {opNull, false, '='},
}

func (s *Statement) parseConditions(n *node, vars bool) error {
	if n.kind != '{' {
		return &PolicyError{errSyntax}
	}
	for i, operator := range n.names {
		block := &n.list[i]
		if block.kind != '{' {
			return &PolicyError{errSyntax}
		}
		for j, key := range block.names {
			c := Condition{Operator: operator, Key: key, key: lower(key)}
			values, ok := block.list[j].strings(true)
			if c.Values = values; !ok || !c.parseOperator(lower(operator)) {
				return &PolicyError{errSyntax}
			}
			if !strings.Contains(key, ":") {
				return &PolicyError{"Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."}
			}
			if !c.compileValues(vars) {
				return &PolicyError{"The policy failed legacy parsing"}
			}
			s.Conditions = append(s.Conditions, c)
		}
	}
	return nil
}

func (c *Condition) parseOperator(name string) bool {
	if rest, ok := strings.CutPrefix(name, "forallvalues:"); ok {
		name, c.set = rest, forAll
	} else if rest, ok := strings.CutPrefix(name, "foranyvalue:"); ok {
		name, c.set = rest, forAny
	}
	name, c.ifExists = strings.CutSuffix(name, "ifexists")
	op, ok := operators[name]
	c.kind, c.negated, c.compare = op.kind, op.negated, op.compare
	return ok && !(c.kind == opNull && c.ifExists)
}

// compileValues reads the values; false if one is not of the operator's type.
func (c *Condition) compileValues(vars bool) bool {
	for _, v := range c.Values {
		ok := true
		switch c.kind {
		case opString:
			c.patterns = append(c.patterns, compile(v, false, vars, false))
		case opStringFold:
			c.patterns = append(c.patterns, compile(v, false, vars, true))
		case opStringLike:
			c.patterns = append(c.patterns, compile(v, true, vars, false))
		case opBool, opNull:
			v = lower(v)
			ok = v == "true" || v == "false" || c.kind == opBool && vars && strings.Contains(v, "${")
			c.patterns = append(c.patterns, compile(v, false, vars, true))
		case opARN:
			c.arns = append(c.arns, compileARN(v, vars))
		case opNumeric:
			var f float64
			f, ok = parseNumber(v)
			c.numbers = append(c.numbers, f)
		case opDate:
			var t time.Time
			t, ok = parseDate(v)
			c.times = append(c.times, t)
		case opBinary:
			b, err := base64.StdEncoding.DecodeString(v)
			ok = err == nil
			c.blobs = append(c.blobs, b)
		case opIP:
			var p netip.Prefix
			p, ok = parsePrefix(v)
			c.nets = append(c.nets, p)
		}
		if !ok {
			return false
		}
	}
	return true
}

func parseNumber(s string) (float64, bool) {
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil && f == f
}

// parseDate reads the W3C forms of ISO 8601 and epoch seconds.
func parseDate(s string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05", "2006-01-02", "2006-01", "20060102T150405Z"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && f > -1e12 && f < 1e12 {
		return time.Unix(0, int64(f*1e3)*int64(time.Millisecond)), true
	}
	return time.Time{}, false
}

func parsePrefix(s string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()), true
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, false
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen()), true
}

// holds evaluates the condition. allow is the effect of its statement: a policy
// variable that has no value must never let a statement allow.
func (c *Condition) holds(f *facts, allow bool) bool {
	values := f.values(c.key)
	present := len(values) > 0
	if c.kind == opNull {
		return c.fits(strconv.FormatBool(!present), f)
	}
	if !present {
		return c.ifExists || c.set == forAll || c.set == single && c.negated
	}
	if allow && c.negated && !resolvable(c.patterns, c.arns, f) {
		return false
	}
	switch c.set {
	case forAll:
		for _, v := range values {
			if c.fits(v, f) == c.negated {
				return false
			}
		}
		return true
	case forAny:
		for _, v := range values {
			if c.fits(v, f) != c.negated {
				return true
			}
		}
		return false
	}
	for _, v := range values {
		if c.fits(v, f) {
			return !c.negated
		}
	}
	return c.negated
}

// fits tells whether one value of the request fits one of the policy's, leaving
// negation aside.
func (c *Condition) fits(v string, f *facts) bool {
	switch c.kind {
	case opString, opStringLike:
		return matchAny(c.patterns, v, false, f)
	case opStringFold, opBool, opNull:
		return matchAny(c.patterns, v, true, f)
	case opARN:
		for i := range c.arns {
			if c.arns[i].match(v, f) {
				return true
			}
		}
	case opNumeric:
		if n, ok := parseNumber(v); ok {
			for _, want := range c.numbers {
				if ordered(c.compare, cmpFloat(n, want)) {
					return true
				}
			}
		}
	case opDate:
		if t, ok := parseDate(v); ok {
			for _, want := range c.times {
				if ordered(c.compare, t.Compare(want)) {
					return true
				}
			}
		}
	case opBinary:
		if b, err := base64.StdEncoding.DecodeString(v); err == nil {
			for _, want := range c.blobs {
				if bytes.Equal(b, want) {
					return true
				}
			}
		}
	case opIP:
		if a, err := netip.ParseAddr(v); err == nil {
			for _, p := range c.nets {
				if p.Contains(a.Unmap().WithZone("")) {
					return true
				}
			}
		}
	}
	return false
}

func cmpFloat(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func ordered(compare byte, order int) bool {
	switch compare {
	case '<':
		return order < 0
	case 'l':
		return order <= 0
	case '>':
		return order > 0
	case 'g':
		return order >= 0
	}
	return order == 0
}

func matchAny(patterns []pattern, text string, fold bool, r resolver) bool {
	for i := range patterns {
		if patterns[i].match(text, fold, r) {
			return true
		}
	}
	return false
}

// resolvable tells whether every variable has a value.
func resolvable(patterns []pattern, arns []arnPattern, r resolver) bool {
	for i := range patterns {
		if !patterns[i].resolvable(r) {
			return false
		}
	}
	for i := range arns {
		if !arns[i].plain.resolvable(r) || !resolvable(arns[i].parts[:], nil, r) {
			return false
		}
	}
	return true
}

func (p *pattern) resolvable(r resolver) bool {
	for _, part := range p.parts {
		if part.key == "" || part.hasValue {
			continue
		}
		if _, ok := r.variable(part.key); !ok {
			return false
		}
	}
	return true
}
