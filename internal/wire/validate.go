package wire

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"skerry/internal/base/awserr"
)

// maxFaults is how many faults one answer lists.
const maxFaults = 10

// markChecked marks the plans that have constraints in them, so that validation
// passes over the others. Types with a hook are the service's to check.
func markChecked(plans map[planKey]*plan) {
	for changed := true; changed; {
		changed = false
		for _, p := range plans {
			if !p.checked && !p.hook && p.hasConstraints() {
				p.checked, changed = true, true
			}
		}
	}
}

func (p *plan) hasConstraints() bool {
	s := p.shape
	if s.Limits != nil || s.Pattern != "" || len(s.Enum) > 0 || p.kind == Union {
		return true
	}
	if p.elem != nil && p.elem.checked || p.key != nil && p.key.checked {
		return true
	}
	return slices.ContainsFunc(p.fields, func(f field) bool { return f.checked || f.is(Required) })
}

// Validate holds an input against the constraints of the model: required
// members, lengths, ranges, patterns, enumerations and unions. in is a pointer
// to the input struct.
//
// The answer is in the words of the service. Most list all faults in one
// ValidationException (of query services ValidationError): "2 validation errors
// detected: Value null at 'name' failed to satisfy constraint: Member must not
// be null; ...". EC2 and SQS tell the first missing member (MissingParameter),
// and check values themselves. S3 checks everything itself.
func Validate(svc *Service, op *Operation, in any) error {
	if svc.Validation == "none" || !op.Built() {
		return nil
	}
	value := reflect.ValueOf(in).Elem()
	p, err := svc.planOf(op.Input, value.Type())
	if err != nil {
		return err
	}
	if !p.checked {
		return nil
	}
	v := validator{svc: svc, missingOnly: svc.Validation == "missing"}
	v.structure(p, value)
	if v.missingOnly {
		return v.missing()
	}
	if len(v.faults) == 0 {
		return nil
	}
	code := svc.Validation
	if code == "" {
		code = "ValidationException"
		if svc.Protocols[0] == AWSQuery {
			code = "ValidationError"
		}
	}
	if text := v.wording(); text != "" {
		return awserr.New(400, code, "%s", text)
	}
	errors := "errors"
	if len(v.faults) == 1 {
		errors = "error"
	}
	return awserr.New(400, code, "%s", fmt.Sprintf("%d validation %s detected: %s", len(v.faults), errors, strings.Join(v.faults, "; ")))
}

// validator walks an input.
type validator struct {
	svc         *Service
	missingOnly bool
	faults      []string
	own         string // the service's own text for the last fault
	at          []step // the way from the input to the current value
}

// step is a member, an element of a list or an entry of a map. Ways are put
// into words only for faults.
type step struct {
	member *field
	index  int // of an element, from 1
	key    string
}

// path puts the way into words: "keySchema.1.member.attributeName".
func (v *validator) path() string {
	var b strings.Builder
	for _, s := range v.at {
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		switch {
		case s.member != nil:
			b.WriteString(v.name(s.member))
			continue
		case s.index > 0:
			b.WriteString(strconv.Itoa(s.index))
		default:
			b.WriteString(s.key)
		}
		if !v.missingOnly {
			b.WriteString(".member")
		}
	}
	return b.String()
}

func (v *validator) name(f *field) string {
	switch {
	case !v.missingOnly:
		return lowerFirst(f.member.Name)
	case v.svc.Speaks(EC2Query):
		return f.ec2
	}
	return f.query
}

// under runs check one step further.
func (v *validator) under(s step, f *field, value reflect.Value) {
	v.at = append(v.at, s)
	v.value(f, value)
	v.at = v.at[:len(v.at)-1]
}

// wording returns the service's own text for the only fault, if it has one.
func (v *validator) wording() string {
	if len(v.faults) != 1 {
		return ""
	}
	return v.own
}

// note keeps the service's own text for a value that breaks a pattern.
func (v *validator) note(p *plan) {
	v.own = ""
	for _, w := range v.svc.Wordings {
		if w.Pattern == p.shape.Pattern {
			v.own = fmt.Sprintf(w.Text, v.path())
		}
	}
}

// missing is the answer of EC2 and SQS to a missing parameter.
func (v *validator) missing() error {
	if len(v.faults) == 0 {
		return nil
	}
	end := "."
	if v.svc.Speaks(EC2Query) {
		end = ""
	}
	return awserr.New(400, "MissingParameter", "The request must contain the parameter %s%s", v.faults[0], end)
}

func (v *validator) full() bool { return len(v.faults) >= maxFaults }

func (v *validator) fault(value, constraint string) {
	if !v.full() && !v.missingOnly {
		v.faults = append(v.faults, "Value "+value+" at '"+v.path()+"' failed to satisfy constraint: "+constraint)
	}
}

func (v *validator) structure(p *plan, value reflect.Value) {
	for i := range p.fields {
		f := &p.fields[i]
		member, ok := present(value.Field(f.index))
		if !ok {
			v.absent(f)
			continue
		}
		if f.checked && !v.full() {
			v.under(step{member: f}, f, member)
		}
	}
}

// absent notes a member that has to be there. Clients fill in tokens, but need
// not.
func (v *validator) absent(f *field) {
	if !f.is(Required) || f.is(IdempotencyToken) || f.streaming() || v.full() {
		return
	}
	v.at = append(v.at, step{member: f})
	if v.missingOnly {
		v.faults = append(v.faults, v.path())
	}
	v.fault("null", "Member must not be null")
	v.at = v.at[:len(v.at)-1]
}

func (v *validator) value(f *field, value reflect.Value) {
	if value.Kind() == reflect.Interface || value.Kind() == reflect.Func {
		return
	}
	if !v.missingOnly {
		for _, c := range v.constraints(f.plan, value) {
			v.fault(show(f, value), c)
			v.note(f.plan)
		}
	}
	switch f.kind {
	case Structure:
		v.structure(f.plan, value)
	case Union:
		v.union(f, value)
	case List:
		v.list(f, value)
	case Map:
		v.mapping(f, value)
	}
}

// union checks that exactly one member is set.
func (v *validator) union(f *field, value reflect.Value) {
	n := 0
	for i := range f.fields {
		if _, ok := present(value.Field(i)); ok {
			n++
		}
	}
	if n != 1 {
		v.fault(show(f, value), "Member must have exactly one member set")
	}
	v.structure(f.plan, value)
}

func (v *validator) list(f *field, value reflect.Value) {
	if !f.elem.checked {
		return
	}
	for i := range value.Len() {
		if v.full() {
			return
		}
		e := value.Index(i)
		if isScalar(f.elem.kind) {
			if all := v.constraints(f.elem.plan, e); len(all) > 0 && !v.missingOnly {
				v.fault(show(f, value), "Member must satisfy constraint: ["+strings.Join(all, ", ")+"]")
				return
			}
			continue
		}
		v.under(step{index: i + 1}, f.elem, e)
	}
}

// mapping checks the entries in any order, and only if there is a fault again in
// the order in which messages have them.
func (v *validator) mapping(f *field, value reflect.Value) {
	if !f.key.checked && !f.elem.checked {
		return
	}
	had := len(v.faults)
	key, e := reflect.New(value.Type().Key()).Elem(), reflect.New(value.Type().Elem()).Elem()
	for it := value.MapRange(); it.Next() && len(v.faults) == had; {
		key.SetIterKey(it)
		if f.elem.checked {
			e.SetIterValue(it)
		}
		v.entry(f, value, key, e)
	}
	if len(v.faults) == had {
		return
	}
	v.faults = v.faults[:had]
	for _, k := range sortedKeys(value) {
		key.SetString(k)
		e.Set(value.MapIndex(key))
		if !v.entry(f, value, key, e) || v.full() {
			return
		}
	}
}

// entry checks an entry of a map; false says that a fault of the map as a whole
// has been told.
func (v *validator) entry(f *field, value, key, e reflect.Value) bool {
	if f.key.checked && !v.missingOnly {
		if all := v.constraints(f.key.plan, key); len(all) > 0 {
			v.fault(show(f, value), "Map keys must satisfy constraint: ["+strings.Join(all, ", ")+"]")
			return false
		}
	}
	if !f.elem.checked {
		return true
	}
	if isScalar(f.elem.kind) || f.elem.kind == List {
		if all := v.constraints(f.elem.plan, e); len(all) > 0 && !v.missingOnly {
			v.fault(show(f, value), "Map value must satisfy constraint: ["+strings.Join(all, ", ")+"]")
			return false
		}
	}
	if !isScalar(f.elem.kind) {
		elem := f.elem
		if elem.kind == List && elem.shape.Limits != nil {
			elem = &field{plan: unlimited(elem.plan), member: elem.member}
		}
		v.under(step{key: key.String()}, elem, e)
	}
	return true
}

// unlimited returns the plan without the list's own limits, which have been
// told already.
func unlimited(p *plan) *plan {
	shape := *p.shape
	shape.Limits = nil
	c := *p
	c.shape = &shape
	return &c
}

func isScalar(k Kind) bool { return k >= String }

// constraints returns those that a value itself breaks: the pattern, the
// enumeration, the limits.
func (v *validator) constraints(p *plan, value reflect.Value) []string {
	s := p.shape
	var out []string
	what, n, limited := "length", int64(0), s.Limits != nil
	switch p.kind {
	case String:
		text := value.String()
		n = int64(utf8.RuneCountInString(text))
		if s.Pattern != "" && !v.svc.patternOf(p).match(text) {
			out = append(out, "Member must satisfy regular expression pattern: "+strings.TrimSuffix(strings.TrimPrefix(s.Pattern, "^"), "$"))
		}
		if len(s.Enum) > 0 && !slices.Contains(s.Enum, text) {
			out = append(out, "Member must satisfy enum value set: ["+strings.Join(s.Enum, ", ")+"]")
		}
	case Blob, List, Map:
		n = int64(value.Len())
	case Integer, Long:
		what, n = "value", value.Int()
	case Float, Double:
		if limited {
			return floatLimits(s.Limits, value.Float())
		}
	default:
		limited = false
	}
	if limited && s.Limits.HasMax && n > s.Limits.Max {
		out = append(out, "Member must have "+what+" less than or equal to "+strconv.FormatInt(s.Limits.Max, 10))
	}
	if limited && s.Limits.HasMin && n < s.Limits.Min {
		out = append(out, "Member must have "+what+" greater than or equal to "+strconv.FormatInt(s.Limits.Min, 10))
	}
	return out
}

func floatLimits(l *Limits, f float64) []string {
	switch {
	case l.HasMax && f > float64(l.Max):
		return []string{"Member must have value less than or equal to " + strconv.FormatInt(l.Max, 10)}
	case l.HasMin && f < float64(l.Min):
		return []string{"Member must have value greater than or equal to " + strconv.FormatInt(l.Min, 10)}
	}
	return nil
}

// maxShown bounds a value in a message, in bytes.
const maxShown = 1024

// show writes a value as messages have it: 'text', '[a, b]', '{k=v}'.
func show(f *field, value reflect.Value) string {
	var b strings.Builder
	showValue(&b, f.plan, value)
	text := b.String()
	if len(text) > maxShown {
		text = strings.ToValidUTF8(text[:maxShown], "") + "..."
	}
	return "'" + text + "'"
}

func showValue(b *strings.Builder, p *plan, value reflect.Value) {
	if b.Len() > maxShown {
		return
	}
	if p.shape.Is&Sensitive != 0 {
		b.WriteString("***Sensitive Data Redacted***")
		return
	}
	switch p.kind {
	case Structure, Union:
		if p.packed {
			value = reflect.ValueOf(value.Addr().Interface().(Packed).Unpacked()).Elem()
		}
		b.WriteString(p.shape.Name + "(")
		first := true
		for i := range p.fields {
			f := &p.fields[i]
			member, ok := present(value.Field(f.index))
			if !ok || member.Kind() == reflect.Interface || member.Kind() == reflect.Func {
				continue
			}
			if !first {
				b.WriteString(", ")
			}
			first = false
			b.WriteString(lowerFirst(f.member.Name) + "=")
			showValue(b, f.plan, member)
		}
		b.WriteByte(')')
	case List:
		b.WriteByte('[')
		for i := range value.Len() {
			if i > 0 {
				b.WriteString(", ")
			}
			showValue(b, p.elem.plan, value.Index(i))
		}
		b.WriteByte(']')
	case Map:
		b.WriteByte('{')
		for i, key := range sortedKeys(value) {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(key + "=")
			showValue(b, p.elem.plan, mapValue(value, key))
		}
		b.WriteByte('}')
	case Blob:
		fmt.Fprintf(b, "java.nio.HeapByteBuffer[pos=0 lim=%d cap=%d]", value.Len(), value.Len())
	default:
		b.WriteString((&field{plan: p, member: &Member{}}).text(value, DateTime))
	}
}
