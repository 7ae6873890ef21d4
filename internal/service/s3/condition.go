package s3

import (
	"strings"
	"time"
)

// writeCondition is a conditional write: If-Match and If-None-Match. Page: "How to
// prevent object overwrites with conditional writes".
type writeCondition struct{ match, noneMatch *string }

func (c writeCondition) none() bool { return c.match == nil && c.noneMatch == nil }

// check refuses what S3 does not know.
func (c writeCondition) check() error {
	if c.noneMatch != nil && *c.noneMatch != "*" {
		return notImplemented("If-None-Match")
	}
	if c.match != nil && c.noneMatch != nil {
		return notImplemented("If-Match, If-None-Match")
	}
	return nil
}

// holds compares the condition with the current version of a key, nil if there is
// none.
func (c writeCondition) holds(key string, cur *objectRow) error {
	there := cur != nil && !cur.Marker
	switch {
	case c.noneMatch != nil && there:
		return preconditionFailed("If-None-Match")
	case c.match != nil && !there:
		return noSuchKey(key)
	case c.match != nil && !matches(*c.match, cur.ETag):
		return preconditionFailed("If-Match")
	}
	return nil
}

// matches compares an ETag with a header's list of them.
func matches(list, etag string) bool {
	for _, part := range strings.Split(list, ",") {
		part = strings.TrimSpace(part)
		if part == "*" || unquote(strings.TrimPrefix(part, "W/")) == etag {
			return true
		}
	}
	return false
}

// readCondition is a conditional read, of an object or of the source of a copy.
// Times are compared in whole seconds.
type readCondition struct {
	match, noneMatch          *string
	modifiedSince, unmodified *time.Time
	copying                   bool
}

// holds compares the condition with an object, in the order of precedence that
// GetObject documents: a fulfilled If-Match makes If-Unmodified-Since void, a
// failed If-None-Match wins over If-Modified-Since.
func (c readCondition) holds(o *objectRow, now time.Time) error {
	if c.match != nil {
		if !matches(*c.match, o.ETag) {
			return preconditionFailed(c.name("If-Match"))
		}
	} else if c.unmodified != nil && o.Modified.After(c.unmodified.Truncate(time.Second)) {
		return preconditionFailed(c.name("If-Unmodified-Since"))
	}
	if c.noneMatch != nil {
		if matches(*c.noneMatch, o.ETag) {
			return c.unchanged(o, "If-None-Match")
		}
		return nil
	}
	// A time in the future counts as not given.
	if c.modifiedSince != nil && !c.modifiedSince.After(now) && !o.Modified.After(c.modifiedSince.Truncate(time.Second)) {
		return c.unchanged(o, "If-Modified-Since")
	}
	return nil
}

func (c readCondition) name(header string) string {
	if c.copying {
		return "x-amz-copy-source-" + header
	}
	return header
}

func (c readCondition) unchanged(o *objectRow, header string) error {
	if c.copying {
		return preconditionFailed(c.name(header))
	}
	return notModified(o)
}
