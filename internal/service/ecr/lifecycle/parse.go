package lifecycle

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
)

// The limits of a policy ("Amazon ECR service quotas" and "Lifecycle policy
// properties").
const (
	maxRules     = 50
	maxWildcards = 4
	minArchived  = 90 // days that an image stays archived at least
)

// Fault is what is wrong with a policy, in the words of AWS where those are known.
type Fault string

// Error implements error.
func (f Fault) Error() string { return string(f) }

func fault(format string, args ...any) error { return Fault(fmt.Sprintf(format, args...)) }

// Parse reads a policy. Its errors are Faults.
func Parse(text string) (*Policy, error) {
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.UseNumber()
	var doc map[string]any
	if err := d.Decode(&doc); err != nil || doc == nil {
		return nil, Fault("Could not map policyString into LifecyclePolicy.")
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, Fault("Could not map policyString into LifecyclePolicy.")
	}
	if err := properties(doc, []string{"rules"}, nil); err != nil {
		return nil, err
	}
	list, err := array(doc["rules"])
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, schema("array is too short: must have at least 1 elements but instance has 0 elements")
	}
	if len(list) > maxRules {
		return nil, schema("array is too long: must have at most %d elements but instance has %d elements", maxRules, len(list))
	}
	p := &Policy{}
	for _, v := range list {
		r, err := parseRule(v)
		if err != nil {
			return nil, err
		}
		p.Rules = append(p.Rules, r)
	}
	slices.SortStableFunc(p.Rules, func(a, b Rule) int { return cmp.Compare(a.Priority, b.Priority) })
	return p, p.check()
}

// schema is an error of the policy's form; AWS ends the line.
func schema(format string, args ...any) error {
	return Fault(fmt.Sprintf(format, args...) + "\n")
}

var errNoSchema = schema("instance failed to match exactly one schema (matched 0 out of 4)")

// properties checks which names an object has.
func properties(o map[string]any, required, optional []string) error {
	missing := slices.DeleteFunc(slices.Clone(required), func(k string) bool { _, ok := o[k]; return ok })
	if len(missing) > 0 {
		slices.Sort(missing)
		return schema("object has missing required properties (%s)", quoted(missing))
	}
	var unknown []string
	for _, k := range slices.Sorted(maps.Keys(o)) {
		if !slices.Contains(required, k) && !slices.Contains(optional, k) {
			unknown = append(unknown, k)
		}
	}
	if len(unknown) > 0 {
		return schema("object instance has properties which are not allowed by the schema: %s", quoted(unknown))
	}
	return nil
}

func quoted(names []string) string {
	b, _ := json.Marshal(names) // strings always marshal
	return string(b)
}

// typeName names a value's type as JSON Schema does.
func typeName(v any) string {
	switch n := v.(type) {
	case nil:
		return "null"
	case string:
		return "string"
	case bool:
		return "boolean"
	case []any:
		return "array"
	case json.Number:
		if _, err := n.Int64(); err != nil {
			return "number"
		}
		return "integer"
	}
	return "object"
}

func as[T any](v any, name string) (T, error) {
	t, ok := v.(T)
	if !ok {
		return t, schema(`instance type (%s) does not match any allowed primitive type (allowed: ["%s"])`, typeName(v), name)
	}
	return t, nil
}

func object(v any) (map[string]any, error) { return as[map[string]any](v, "object") }
func array(v any) ([]any, error)           { return as[[]any](v, "array") }
func text(v any) (string, error)           { return as[string](v, "string") }

// positive reads a whole number from low on.
func positive(v any, low int64) (int, error) {
	n, ok := v.(json.Number)
	i, err := n.Int64()
	if !ok || err != nil {
		return 0, schema(`instance type (%s) does not match any allowed primitive type (allowed: ["integer"])`, typeName(v))
	}
	if i < low {
		return 0, schema("numeric instance is lower than the required minimum (minimum: %d, found: %d)", low, i)
	}
	return int(min(i, math.MaxInt32)), nil
}

// oneOf reads one of some texts.
func oneOf(v any, values ...string) (string, error) {
	s, err := text(v)
	if err != nil {
		return "", err
	}
	if !slices.Contains(values, s) {
		slices.Sort(values)
		return "", schema("instance value (%q) not found in enum (possible values: %s)", s, quoted(values))
	}
	return s, nil
}

func parseRule(v any) (r Rule, err error) {
	o, err := object(v)
	if err != nil {
		return r, err
	}
	if err := properties(o, []string{"rulePriority", "selection", "action"}, []string{"description"}); err != nil {
		return r, err
	}
	if r.Priority, err = positive(o["rulePriority"], 1); err != nil {
		return r, err
	}
	if d, ok := o["description"]; ok {
		if r.Description, err = text(d); err != nil {
			return r, err
		}
	}
	if r.Selection, err = parseSelection(o["selection"]); err != nil {
		return r, err
	}
	if r.Action, err = parseAction(o["action"]); err != nil {
		return r, err
	}
	// What was not pulled for a while can be archived only, and what is in the
	// archive can expire only.
	if r.Selection.CountType == SinceImagePulled && r.Action != Archive || r.Selection.Archived && r.Action != Expire {
		return r, errNoSchema
	}
	return r, nil
}

func parseAction(v any) (Action, error) {
	o, err := object(v)
	if err != nil {
		return "", err
	}
	if err := properties(o, []string{"type"}, []string{"targetStorageClass"}); err != nil {
		return "", err
	}
	kind, err := oneOf(o["type"], string(Expire), string(Archive))
	if err != nil {
		return "", err
	}
	target, given := o["targetStorageClass"]
	switch {
	case kind == string(Expire) && given:
		return "", errNoSchema
	case kind == string(Archive) && !given:
		return "", properties(o, []string{"type", "targetStorageClass"}, nil)
	case kind == string(Archive):
		_, err = oneOf(target, "archive")
	}
	return Action(kind), err
}

func parseSelection(v any) (s Selection, err error) {
	o, err := object(v)
	if err != nil {
		return s, err
	}
	err = properties(o, []string{"tagStatus", "countType", "countNumber"},
		[]string{"tagPrefixList", "tagPatternList", "storageClass", "countUnit"})
	if err != nil {
		return s, err
	}
	if s.TagStatus, err = oneOf(o["tagStatus"], Tagged, Untagged, Any); err != nil {
		return s, err
	}
	if s.CountType, err = text(o["countType"]); err != nil {
		return s, err
	}
	if !slices.Contains([]string{ImageCountMoreThan, SinceImagePushed, SinceImagePulled, SinceImageTransitioned}, s.CountType) {
		return s, errNoSchema
	}
	low := int64(1)
	if s.CountType == SinceImageTransitioned {
		low = minArchived
	}
	if s.CountUnits, err = positive(o["countNumber"], low); err != nil {
		return s, err
	}
	unit, dated := o["countUnit"]
	if dated != (s.CountType != ImageCountMoreThan) {
		return s, errNoSchema
	}
	if dated {
		if _, err := oneOf(unit, "days"); err != nil {
			return s, err
		}
	}
	class := "standard"
	if given, ok := o["storageClass"]; ok {
		if class, err = oneOf(given, "standard", "archive"); err != nil {
			return s, err
		}
	}
	if s.Archived = class == "archive"; s.Archived != (s.CountType == SinceImageTransitioned) {
		return s, errNoSchema
	}
	return s, s.parseTags(o)
}

// tagPart is what a tag, or a part of one, is made of.
var tagPart = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)

func (s *Selection) parseTags(o map[string]any) (err error) {
	if s.Prefixes, err = texts(o, "tagPrefixList"); err != nil {
		return err
	}
	if s.Patterns, err = texts(o, "tagPatternList"); err != nil {
		return err
	}
	n := len(s.Prefixes) + len(s.Patterns)
	switch {
	case s.TagStatus == Tagged && n == 0:
		return Fault("Must specify tagPrefixList or tagPatternList when tagStatus=TAGGED.")
	case s.TagStatus != Tagged && n > 0:
		return Fault("tagPrefixList and tagPatternList can only be specified when tagStatus=TAGGED.")
	case len(s.Prefixes) > 0 && len(s.Patterns) > 0:
		return Fault("Cannot specify both tagPrefixList and tagPatternList.")
	}
	for _, p := range s.Prefixes {
		if !tagPart.MatchString(p) {
			return fault("Invalid tag prefix: %s.", p)
		}
	}
	for _, p := range s.Patterns {
		// An x in a wildcard's place shows whether the rest can be a tag's.
		if !tagPart.MatchString(strings.ReplaceAll(p, "*", "x")) {
			return fault("Invalid tag pattern: %s.", p)
		}
		if strings.Count(p, "*") > maxWildcards {
			return fault("Tag pattern %s has more than %d wildcards.", p, maxWildcards)
		}
	}
	return nil
}

// texts reads a list of texts that may be absent.
func texts(o map[string]any, name string) ([]string, error) {
	v, ok := o[name]
	if !ok {
		return nil, nil
	}
	list, err := array(v)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, v := range list {
		s, err := text(v)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// check checks what the rules are to each other.
func (p *Policy) check() error {
	priorities, untagged := map[int]bool{}, map[bool]bool{}
	sets := map[string]bool{}
	last := map[bool]Rule{} // by storage class
	for _, r := range p.Rules {
		if priorities[r.Priority] {
			return fault("Rules must have unique rulePriority values: %d is given more than once.", r.Priority)
		}
		priorities[r.Priority] = true
		s := r.Selection
		if before, ok := last[s.Archived]; ok && before.Selection.TagStatus == Any {
			return Fault("Rule for tagStatus=ANY must have the lowest priority per storage class")
		}
		last[s.Archived] = r
		switch s.TagStatus {
		case Untagged:
			if untagged[s.Archived] {
				return Fault("Only one rule can select Untagged images per storage class")
			}
			untagged[s.Archived] = true
		case Tagged:
			tags := slices.Sorted(slices.Values(append(slices.Clone(s.Prefixes), s.Patterns...)))
			set := fmt.Sprint(s.Archived, len(s.Patterns) > 0, quoted(slices.Compact(tags)))
			if sets[set] {
				return Fault("Rules must have unique sets of tag prefixes or patterns per storage class")
			}
			sets[set] = true
		}
	}
	return nil
}
