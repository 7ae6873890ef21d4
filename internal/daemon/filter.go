package daemon

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// filters is the query parameter of that name: for each word the values of which
// one must fit.
type filters map[string][]string

// filters reads them and refuses words that are not known.
func (c *call) filters(known ...string) (filters, error) {
	text := c.query.Get("filters")
	if text == "" {
		return filters{}, nil
	}
	f := filters{}
	sets := map[string]map[string]bool{}
	if err := json.Unmarshal([]byte(text), &sets); err == nil {
		for word, values := range sets {
			for v, on := range values {
				if on {
					f[word] = append(f[word], v)
				}
			}
			slices.Sort(f[word])
		}
	} else if err := json.Unmarshal([]byte(text), &f); err != nil {
		return nil, badRequest("invalid filter: %v", err)
	}
	for word := range f {
		if !slices.Contains(known, word) {
			return nil, badRequest("invalid filter '%s'", word)
		}
	}
	return f, nil
}

// any tells whether a word is not asked for, or one of its values fits.
func (f filters) any(word string, fits func(value string) bool) bool {
	values := f[word]
	return len(values) == 0 || slices.ContainsFunc(values, fits)
}

// labels tells whether all label filters fit: NAME or NAME=VALUE. Those of
// label! must not.
func (f filters) labels(labels map[string]string) bool {
	has := func(want string) bool {
		name, value, exact := strings.Cut(want, "=")
		got, ok := labels[name]
		return ok && (!exact || got == value)
	}
	for _, want := range f["label"] {
		if !has(want) {
			return false
		}
	}
	return !slices.ContainsFunc(f["label!"], has)
}

// flag reads a boolean filter.
func (f filters) flag(word string, without bool) (bool, error) {
	values := f[word]
	if len(values) == 0 {
		return without, nil
	}
	switch strings.ToLower(values[0]) {
	case "1", "true":
		return true, nil
	case "0", "false":
		return false, nil
	}
	return false, badRequest("invalid filter '%s=%s'", word, values[0])
}

// before reads a filter until: what was made before it is meant.
func (f filters) before(now time.Time) (time.Time, error) {
	if len(f["until"]) == 0 {
		return now, nil
	}
	return moment(f["until"][0], now)
}

// moment reads a time as Docker's clients send it: seconds since 1970 with a
// fraction, RFC 3339 with or without a zone, or a duration before now.
func moment(text string, now time.Time) (time.Time, error) {
	if seconds, fraction, _ := strings.Cut(text, "."); seconds != "" {
		s, err := strconv.ParseInt(seconds, 10, 64)
		digits := (fraction + "000000000")[:9]
		n, nerr := strconv.ParseInt(digits, 10, 64)
		if err == nil && nerr == nil {
			return time.Unix(s, n), nil
		}
	}
	for _, form := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.Parse(form, text); err == nil {
			return t, nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	return time.Time{}, badRequest("invalid time %q", text)
}
