package iam

import (
	"encoding/base64"
	"iter"
	"strings"
)

// page is the part of a list that a request asks for.
type page struct {
	after string // key of the last item of the page before; empty at the start
	max   int
}

// listing is an input that asks for a page.
type listing struct {
	Marker   *string
	MaxItems *int32
}

const (
	defaultItems = 100
	markerPrefix = "1:"
)

// page reads Marker and MaxItems (1 to 1,000; 100 if absent).
func (l listing) page() (page, error) {
	p := page{max: defaultItems}
	if l.MaxItems != nil {
		p.max = int(*l.MaxItems)
	}
	if l.Marker != nil {
		raw, err := base64.RawURLEncoding.DecodeString(*l.Marker)
		after, ok := strings.CutPrefix(string(raw), markerPrefix)
		if err != nil || !ok {
			return p, validationError("Invalid Marker.")
		}
		p.after = after
	}
	return p, nil
}

// marker makes the Marker of the page that follows the item with that key.
func marker(key string) *string {
	s := base64.RawURLEncoding.EncodeToString([]byte(markerPrefix + key))
	return &s
}

// cut returns the page of a list in which every item has a key of its own. The
// second result is the Marker of the next page, or nil.
func cut[T any](p page, items []T, key func(T) string) ([]T, *string) {
	if p.after != "" {
		for i, it := range items {
			if key(it) == p.after {
				items = items[i+1:]
				break
			}
		}
	}
	if len(items) <= p.max {
		return items, nil
	}
	return items[:p.max], marker(key(items[p.max-1]))
}

// take reads a page from rows that already begin after the marker, and keeps
// those that keep says.
func take[R any](p page, rows iter.Seq2[*R, error], keep func(*R) bool, key func(*R) string) ([]*R, *string, error) {
	var out []*R
	for r, err := range rows {
		if err != nil {
			return nil, nil, err
		}
		if !keep(r) {
			continue
		}
		if len(out) == p.max {
			return out, marker(key(out[p.max-1])), nil
		}
		out = append(out, r)
	}
	return out, nil, nil
}

// all reads every row that keep wants; a nil keep wants all.
func all[R any](rows iter.Seq2[*R, error], keep func(*R) bool) ([]*R, error) {
	var out []*R
	for r, err := range rows {
		if err != nil {
			return nil, err
		}
		if keep == nil || keep(r) {
			out = append(out, r)
		}
	}
	return out, nil
}
