package s3

import (
	"context"
	"fmt"
	"time"

	"skerry/internal/api/s3"
	"skerry/internal/auth"
	"skerry/internal/base/ids"
	"skerry/internal/loop"
	"skerry/internal/store"
)

// act is what lifecycle rules do to a version.
type act uint8

const (
	actExpire act = iota // the current version: deleted, or hidden by a delete marker
	actDelete            // a noncurrent version or a lone delete marker: deleted for good
	actMove              // to another storage class
)

// step is one act on one version.
type step struct {
	act     act
	version string
	seq     uint64
	class   string // of actMove
}

// planKey decides what is due for the versions of one key, the newest first. It
// has no effects.
func planKey(rules []s3.LifecycleRule, minimum string, chain []*objectRow, now time.Time) []step {
	var steps []step
	for i, o := range chain {
		if o.protected(now, false) && i > 0 {
			continue
		}
		for r := range rules {
			st, ok := planVersion(&rules[r], minimum, chain, i, now)
			if !ok {
				continue
			}
			st.version, st.seq = o.Version, o.Seq
			if st.act != actMove { // deletion wins over transition
				steps = append(steps[:len(steps)-moves(steps, o.Seq)], st)
				break
			}
			if moves(steps, o.Seq) == 0 {
				steps = append(steps, st)
			}
		}
	}
	return steps
}

// moves tells how many of the last steps move the version of a sequence number.
func moves(steps []step, seq uint64) int {
	if n := len(steps); n > 0 && steps[n-1].seq == seq {
		return 1
	}
	return 0
}

// planVersion decides what a rule does to one version.
func planVersion(r *s3.LifecycleRule, minimum string, chain []*objectRow, i int, now time.Time) (step, bool) {
	o := chain[i]
	due := func(at time.Time) bool { return !at.IsZero() && !at.After(now) }
	if i > 0 {
		return planOld(r, minimum, o, i, due)
	}
	if o.Marker {
		e := r.Expiration
		if e == nil || len(chain) > 1 || !applies(r, o.Key, 0, nil) {
			return step{}, false
		}
		lone := value(e.ExpiredObjectDeleteMarker) || e.Days != nil && due(dueAfter(o.Modified, *e.Days)) || e.Date != nil && due(*e.Date)
		return step{act: actDelete}, lone
	}
	if at, ok := expiry(r, o); ok && due(at) {
		return step{act: actExpire}, true
	}
	for _, t := range r.Transitions {
		at := value(t.Date)
		if t.Days != nil {
			at = dueAfter(o.Modified, *t.Days)
		}
		if due(at) && movable(r, minimum, o, value(t.StorageClass)) {
			return step{act: actMove, class: *t.StorageClass}, true
		}
	}
	return step{}, false
}

// planOld decides what a rule does to a noncurrent version, of which there are
// i-1 newer ones.
func planOld(r *s3.LifecycleRule, minimum string, o *objectRow, i int, due func(time.Time) bool) (step, bool) {
	if !applies(r, o.Key, o.Size, o.Tags) {
		return step{}, false
	}
	if e := r.NoncurrentVersionExpiration; e != nil && i > int(value(e.NewerNoncurrentVersions)) && due(dueAfter(o.Retired, value(e.NoncurrentDays))) {
		return step{act: actDelete}, true
	}
	for _, t := range r.NoncurrentVersionTransitions {
		if i > int(value(t.NewerNoncurrentVersions)) && due(dueAfter(o.Retired, value(t.NoncurrentDays))) && movable(r, minimum, o, value(t.StorageClass)) {
			return step{act: actMove, class: *t.StorageClass}, true
		}
	}
	return step{}, false
}

// rank orders the storage classes: objects only ever move down.
func rank(class string) int {
	for i, c := range []string{"", "STANDARD_IA", "INTELLIGENT_TIERING", "ONEZONE_IA", "GLACIER_IR"} {
		if c == class {
			return i
		}
	}
	return 0
}

const smallObject = 128 << 10 // bytes; smaller ones are not moved, unless a rule names a size

func movable(r *s3.LifecycleRule, minimum string, o *objectRow, class string) bool {
	f := r.Filter
	sized := f != nil && (f.ObjectSizeGreaterThan != nil || f.And != nil && f.And.ObjectSizeGreaterThan != nil)
	big := o.Size >= smallObject || sized || minimum == "varies_by_storage_class" && class == "GLACIER_IR"
	return !o.Marker && big && rank(class) > rank(o.Class) && applies(r, o.Key, o.Size, o.Tags)
}

// planUpload returns when the rules abort an upload and the rule's id; the zero
// time for never.
func planUpload(rules []s3.LifecycleRule, u *uploadRow) (first time.Time, id string) {
	for i := range rules {
		a := rules[i].AbortIncompleteMultipartUpload
		if a == nil || !applies(&rules[i], u.Key, 0, nil) {
			continue
		}
		if at := dueAfter(u.Started, value(a.DaysAfterInitiation)); first.IsZero() || at.Before(first) {
			first, id = at, value(rules[i].ID)
		}
	}
	return first, id
}

// LifecycleLoop returns the loop that applies the buckets' lifecycle rules.
func (s *Service) LifecycleLoop() loop.Loop {
	return loop.Loop{
		Name: "s3/lifecycle", Does: "expires objects and aborts uploads by the buckets' lifecycle rules",
		Period: time.Hour, Deadline: 30 * time.Minute, Run: s.runLifecycle,
	}
}

func (s *Service) runLifecycle(ctx context.Context) (string, error) {
	var todo []*bucketRow
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		todo = nil
		for b, err := range buckets.Scan(tx, store.Range{}) {
			if err != nil {
				return err
			}
			if b.Expires {
				todo = append(todo, b)
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	steps, aborted := 0, 0
	var first error
	for _, b := range todo {
		n, err := s.expireBucket(ctx, b)
		steps += n
		if err == nil {
			n, err = s.abortUploads(ctx, b)
			aborted += n
		}
		if err != nil && first == nil { // the others go on
			first = fmt.Errorf("s3: lifecycle of %s: %w", b.Name, err)
		}
	}
	return fmt.Sprintf("%d buckets, %d versions, %d uploads", len(todo), steps, aborted), first
}

const lifecyclePage = 500 // keys read in one transaction

// expireBucket plans and does what is due in a bucket, a page of keys at a time.
func (s *Service) expireBucket(ctx context.Context, b *bucketRow) (done int, err error) {
	for after, more := "", true; more && ctx.Err() == nil; {
		plans := map[string][]step{}
		err := s.Store.View(ctx, func(tx *store.Tx) error {
			rules, minimum, err := lifecycleRules(tx, b)
			if err != nil || len(rules) == 0 {
				more = false
				return err
			}
			after, more, err = s.planPage(tx, b, rules, minimum, after, plans)
			return err
		})
		if err != nil {
			return done, err
		}
		for key, steps := range plans {
			if err := s.applySteps(ctx, b, key, steps); err != nil {
				return done, err
			}
			done += len(steps)
		}
	}
	return done, ctx.Err()
}

func (s *Service) planPage(tx *store.Tx, b *bucketRow, rules []s3.LifecycleRule, minimum, after string, plans map[string][]step) (last string, more bool, err error) {
	r := store.Range{Prefix: store.K(b.ID)}
	if after != "" {
		r.After = store.K(b.ID, after)
	}
	n := 0
	for o, err := range objects.Scan(tx, r) {
		if err != nil {
			return after, false, err
		}
		chain := []*objectRow{o}
		if b.State != "" {
			for old, err := range versions.Scan(tx, store.Range{Prefix: store.K(b.ID, o.Key)}) {
				if err != nil {
					return after, false, err
				}
				chain = append(chain, old)
			}
		}
		if steps := planKey(rules, minimum, chain, s.now()); len(steps) > 0 {
			plans[o.Key] = steps
		}
		if after, n = o.Key, n+1; n == lifecyclePage {
			return after, true, nil
		}
	}
	return after, false, nil
}

// applySteps does what was planned for a key, as far as it is still so.
func (s *Service) applySteps(ctx context.Context, b *bucketRow, key string, steps []step) error {
	sc := auth.ServiceScope("lifecycle."+principal, b.Account, b.Region, b.arn(), ids.UUID(), s.now())
	return s.Store.Update(ctx, func(tx *store.Tx) error {
		b, err := buckets.Get(tx, store.K(b.Name))
		if err != nil {
			return err
		}
		for _, st := range steps {
			o, err := findVersion(tx, b, key, st.version)
			if err != nil {
				return err
			}
			if o == nil || o.Seq != st.seq {
				continue
			}
			if err := s.applyStep(tx, b, sc, o, st); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Service) applyStep(tx *store.Tx, b *bucketRow, sc auth.Scope, o *objectRow, st step) error {
	switch {
	case st.act == actMove:
		o.Class = st.class
		if err := save(tx, o); err != nil {
			return err
		}
		return s.notify(tx, b, o, sc, "s3:LifecycleTransition")
	case st.act == actExpire && !o.Retired.IsZero(), st.act == actExpire && o.Marker:
		return nil
	case st.act == actExpire && b.State != "":
		_, err := s.mark(tx, b, sc, deletion{key: o.Key, event: "s3:LifecycleExpiration:DeleteMarkerCreated"}, o)
		return err
	case o.protected(s.now(), false):
		return nil
	}
	if err := s.remove(tx, b, o); err != nil {
		return err
	}
	return s.notify(tx, b, o, sc, "s3:LifecycleExpiration:Delete")
}

// abortUploads ends the uploads of a bucket whose time has come.
func (s *Service) abortUploads(ctx context.Context, b *bucketRow) (n int, err error) {
	err = s.Store.Update(ctx, func(tx *store.Tx) error {
		n = 0
		rules, _, err := lifecycleRules(tx, b)
		if err != nil {
			return err
		}
		for u, err := range uploads.Scan(tx, store.Range{Prefix: store.K(b.ID)}) {
			if err != nil {
				return err
			}
			if at, _ := planUpload(rules, u); at.IsZero() || at.After(s.now()) {
				continue
			}
			if err := s.endUpload(tx, u); err != nil {
				return err
			}
			if n++; n == lifecyclePage {
				return nil
			}
		}
		return nil
	})
	return n, err
}
