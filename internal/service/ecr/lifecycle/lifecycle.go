// Package lifecycle is the language of Amazon ECR's lifecycle policies: it reads
// a policy, and tells which images of a repository its rules expire or archive.
// It is pure: it knows neither rows nor clocks.
//
// The grammar and the rules of evaluation are those of "Lifecycle policy
// properties in Amazon ECR" and "Automate the cleanup of images by using
// lifecycle policies in Amazon ECR".
package lifecycle

import (
	"path"
	"slices"
	"strings"
	"time"
)

// Policy is a lifecycle policy, its rules in order of priority.
type Policy struct{ Rules []Rule }

// Rule is one rule of a policy.
type Rule struct {
	Priority    int
	Description string
	Selection   Selection
	Action      Action
}

// Selection says which images a rule is about.
type Selection struct {
	TagStatus  string // Tagged, Untagged or Any
	Prefixes   []string
	Patterns   []string // with * as a wildcard
	Archived   bool     // images in the storage class archive, not those in standard
	CountType  string
	CountUnits int // images, or days
}

// The values of Selection.TagStatus.
const (
	Tagged   = "tagged"
	Untagged = "untagged"
	Any      = "any"
)

// The values of Selection.CountType.
const (
	ImageCountMoreThan     = "imageCountMoreThan"
	SinceImagePushed       = "sinceImagePushed"
	SinceImagePulled       = "sinceImagePulled"
	SinceImageTransitioned = "sinceImageTransitioned"
)

// Action is what happens to the images that a rule selects.
type Action string

// The actions.
const (
	Expire  Action = "expire"
	Archive Action = "transition" // to the storage class archive, the only one there is
)

// Image is what a policy asks of an image. Times are zero for never.
type Image struct {
	Digest    string
	Tags      []string
	Archived  bool     // in the storage class archive
	Lists     []string // digests of the manifest lists that name it
	Pushed    time.Time
	Pulled    time.Time
	ArchiveAt time.Time // when it was last archived
	ActiveAt  time.Time // when it was last restored from the archive
}

// Mark says that a rule acts on an image.
type Mark struct {
	Image    *Image
	Priority int // the rule's
	Action   Action
}

// Evaluate returns what the policy does to images, older images first. All rules
// look at all images; then each rule, by priority, marks those that it selects,
// unless a rule of higher priority is about them too. An image that a manifest
// list names stays until the list is gone (or archived).
func (p *Policy) Evaluate(images []Image, now time.Time) []Mark {
	byDigest := make(map[string]*Image, len(images))
	all := make([]*Image, len(images))
	for i := range images {
		all[i] = &images[i]
		byDigest[images[i].Digest] = &images[i]
	}
	claimed := map[*Image]bool{}
	var marks []Mark
	for _, r := range p.Rules {
		var about []*Image
		for _, i := range all {
			if r.Selection.matches(i) {
				about = append(about, i)
			}
		}
		for _, i := range r.Selection.beyond(about, now) {
			if !claimed[i] && !held(i, r.Action, byDigest) {
				marks = append(marks, Mark{i, r.Priority, r.Action})
			}
		}
		for _, i := range about {
			claimed[i] = true
		}
	}
	slices.SortStableFunc(marks, func(a, b Mark) int { return older(a.Image, b.Image) })
	return marks
}

// held tells whether a manifest list keeps an image from an action.
func held(i *Image, a Action, byDigest map[string]*Image) bool {
	return slices.ContainsFunc(i.Lists, func(digest string) bool {
		list := byDigest[digest]
		return list != nil && (a == Expire || !list.Archived)
	})
}

// matches tells whether a rule is about an image: its storage class and tags.
func (s *Selection) matches(i *Image) bool {
	if s.Archived != i.Archived {
		return false
	}
	switch s.TagStatus {
	case Untagged:
		return len(i.Tags) == 0
	case Tagged:
		for _, prefix := range s.Prefixes {
			if !slices.ContainsFunc(i.Tags, func(t string) bool { return strings.HasPrefix(t, prefix) }) {
				return false
			}
		}
		for _, pattern := range s.Patterns {
			if !slices.ContainsFunc(i.Tags, func(t string) bool { return wildcard(pattern, t) }) {
				return false
			}
		}
		return len(i.Tags) > 0
	}
	return true
}

// wildcard matches a tag with a pattern in which only * is special. Neither a
// pattern (see Parse) nor a tag has any of path.Match's other special characters.
func wildcard(pattern, tag string) bool {
	ok, err := path.Match(pattern, tag)
	return ok && err == nil
}

// beyond returns those of some images that are too many or too old.
func (s *Selection) beyond(images []*Image, now time.Time) []*Image {
	images = slices.Clone(images)
	slices.SortStableFunc(images, older)
	if s.CountType == ImageCountMoreThan {
		return images[:max(0, len(images)-s.CountUnits)]
	}
	before := now.AddDate(0, 0, -s.CountUnits)
	var old []*Image
	for _, i := range images {
		if s.since(i).Before(before) {
			old = append(old, i)
		}
	}
	return old
}

// since returns the time from which the selection counts days.
func (s *Selection) since(i *Image) time.Time {
	switch {
	case s.CountType == SinceImageTransitioned:
		return i.ArchiveAt
	case s.CountType == SinceImagePulled && i.Pulled.After(i.ActiveAt):
		return i.Pulled
	}
	return i.age()
}

// age is the time by which images are ordered: that of the push, or of the last
// return from the archive.
func (i *Image) age() time.Time {
	if i.ActiveAt.After(i.Pushed) {
		return i.ActiveAt
	}
	return i.Pushed
}

func older(a, b *Image) int {
	if c := a.age().Compare(b.age()); c != 0 {
		return c
	}
	return strings.Compare(a.Digest, b.Digest)
}
