package s3

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"time"

	"skerry/internal/api/s3"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/base/ids"
	"skerry/internal/store"
	"skerry/internal/wire"
)

const maxLifecycleRules = 1000

// PutBucketLifecycleConfiguration implements s3:PutLifecycleConfiguration.
func (s *Service) PutBucketLifecycleConfiguration(ctx context.Context, sc auth.Scope, in *s3.PutBucketLifecycleConfigurationInput) (*s3.PutBucketLifecycleConfigurationOutput, error) {
	if in.LifecycleConfiguration == nil || len(in.LifecycleConfiguration.Rules) == 0 || len(in.LifecycleConfiguration.Rules) > maxLifecycleRules {
		return nil, malformedXML()
	}
	minimum := "all_storage_classes_128K"
	if in.TransitionDefaultMinimumObjectSize != nil {
		minimum = *in.TransitionDefaultMinimumObjectSize
	}
	rules := in.LifecycleConfiguration.Rules
	seen := map[string]bool{}
	for i := range rules {
		if value(rules[i].ID) == "" {
			rules[i].ID = wire.Ptr(ids.UUID())
		}
		id := *rules[i].ID
		if len(id) > 255 {
			return nil, invalidArgument("ID", id, "ID length should not exceed allowed limit of 255")
		}
		if seen[id] {
			return nil, invalidArgument("ID", id, "Rule ID must be unique. Found same ID for more than one rule")
		}
		seen[id] = true
		if err := checkLifecycleRule(&rules[i]); err != nil {
			return nil, err
		}
	}
	err := s.setConfig(ctx, in.Bucket, in.ExpectedBucketOwner, kindLifecycle, &configRow{Lifecycle: rules, MinimumSize: minimum}, nil)
	return &s3.PutBucketLifecycleConfigurationOutput{TransitionDefaultMinimumObjectSize: &minimum}, err
}

// checkLifecycleRule refuses what S3 refuses of a rule, and archives.
func checkLifecycleRule(r *s3.LifecycleRule) error {
	f := r.Filter
	hasFilter := f != nil && (f.Prefix != nil || f.Tag != nil || f.And != nil || f.ObjectSizeGreaterThan != nil || f.ObjectSizeLessThan != nil)
	switch {
	case value(r.Status) != "Enabled" && value(r.Status) != "Disabled":
		return malformedXML()
	case f != nil && r.Prefix != nil, f == nil && r.Prefix == nil:
		return malformedXML()
	case r.Expiration == nil && len(r.Transitions) == 0 && len(r.NoncurrentVersionTransitions) == 0 && r.NoncurrentVersionExpiration == nil && r.AbortIncompleteMultipartUpload == nil:
		return invalidRequest("At least one action needs to be specified in a rule")
	}
	if hasFilter {
		if err := checkLifecycleFilter(r); err != nil {
			return err
		}
	}
	if e := r.Expiration; e != nil {
		switch n := count(e.Days != nil, e.Date != nil, e.ExpiredObjectDeleteMarker != nil); {
		case n != 1:
			return malformedXML()
		case e.Days != nil && *e.Days <= 0:
			return invalidArgument("Days", itoa(int(*e.Days)), "'Days' for Expiration action must be a positive integer")
		case e.Date != nil && !e.Date.Equal(e.Date.UTC().Truncate(24*time.Hour)):
			return invalidArgument("Date", e.Date.Format(time.RFC3339), "'Date' must be at midnight GMT")
		}
	}
	if e := r.NoncurrentVersionExpiration; e != nil && value(e.NoncurrentDays) <= 0 {
		return invalidArgument("NoncurrentDays", "", "'NoncurrentDays' for NoncurrentVersionExpiration action must be a positive integer")
	}
	if a := r.AbortIncompleteMultipartUpload; a != nil && value(a.DaysAfterInitiation) <= 0 {
		return invalidArgument("DaysAfterInitiation", "", "'DaysAfterInitiation' for AbortIncompleteMultipartUpload action must be a positive integer")
	}
	return checkTransitions(r)
}

func count(facts ...bool) (n int) {
	for _, f := range facts {
		if f {
			n++
		}
	}
	return n
}

func checkLifecycleFilter(r *s3.LifecycleRule) error {
	f := r.Filter
	if count(f.Prefix != nil, f.Tag != nil, f.And != nil, f.ObjectSizeGreaterThan != nil, f.ObjectSizeLessThan != nil) != 1 {
		return malformedXML()
	}
	tagged := f.Tag != nil || f.And != nil && len(f.And.Tags) > 0
	sized := f.ObjectSizeGreaterThan != nil || f.ObjectSizeLessThan != nil || f.And != nil && (f.And.ObjectSizeGreaterThan != nil || f.And.ObjectSizeLessThan != nil)
	if tagged && r.Expiration != nil && value(r.Expiration.ExpiredObjectDeleteMarker) {
		return invalidRequest("ExpiredObjectDeleteMarker cannot be specified with tags.")
	}
	if (tagged || sized) && r.AbortIncompleteMultipartUpload != nil {
		return invalidRequest("AbortIncompleteMultipartUpload cannot be specified with tags or object sizes.")
	}
	return nil
}

func checkTransitions(r *s3.LifecycleRule) error {
	for _, t := range r.Transitions {
		if (t.Days == nil) == (t.Date == nil) {
			return malformedXML()
		}
		if err := checkTransition(t.StorageClass, t.Days, "Days"); err != nil {
			return err
		}
		if t.Date != nil && !t.Date.Equal(t.Date.UTC().Truncate(24*time.Hour)) {
			return invalidArgument("Date", t.Date.Format(time.RFC3339), "'Date' must be at midnight GMT")
		}
		if e := r.Expiration; e != nil && e.Days != nil && t.Days != nil && *e.Days <= *t.Days {
			return invalidArgument("Days", itoa(int(*e.Days)), "'Days' in the Expiration action for filter must be greater than 'Days' in the Transition action")
		}
	}
	for _, t := range r.NoncurrentVersionTransitions {
		if t.NoncurrentDays == nil {
			return malformedXML()
		}
		if err := checkTransition(t.StorageClass, t.NoncurrentDays, "NoncurrentDays"); err != nil {
			return err
		}
	}
	return nil
}

func checkTransition(class *string, days *int32, name string) error {
	if _, err := storageClass(class); err != nil || value(class) == "" {
		if awserr.Code(err) == "NotImplemented" {
			return notImplemented("").With("StorageClass", value(class))
		}
		return malformedXML()
	}
	least := int32(0)
	if *class == "STANDARD_IA" || *class == "ONEZONE_IA" {
		least = 30
	}
	if days != nil && *days < least {
		return invalidArgument(name, itoa(int(*days)), "'"+name+"' in Transition action must be greater than or equal to 30 for storageClass '"+*class+"'")
	}
	return nil
}

var errNoLifecycle = [2]string{"NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist"}

// GetBucketLifecycleConfiguration implements s3:GetLifecycleConfiguration.
func (s *Service) GetBucketLifecycleConfiguration(ctx context.Context, sc auth.Scope, in *s3.GetBucketLifecycleConfigurationInput) (*s3.GetBucketLifecycleConfigurationOutput, error) {
	row, err := s.viewConfig(ctx, in.Bucket, in.ExpectedBucketOwner, kindLifecycle, errNoLifecycle[0], errNoLifecycle[1])
	if err != nil {
		return nil, err
	}
	return &s3.GetBucketLifecycleConfigurationOutput{Rules: row.Lifecycle, TransitionDefaultMinimumObjectSize: &row.MinimumSize}, nil
}

// DeleteBucketLifecycle implements s3:PutLifecycleConfiguration's removal.
func (s *Service) DeleteBucketLifecycle(ctx context.Context, sc auth.Scope, in *s3.DeleteBucketLifecycleInput) (*s3.DeleteBucketLifecycleOutput, error) {
	return &s3.DeleteBucketLifecycleOutput{}, s.setConfig(ctx, in.Bucket, in.ExpectedBucketOwner, kindLifecycle, nil, nil)
}

// lifecycleRules returns the enabled rules of a bucket.
func lifecycleRules(tx *store.Tx, b *bucketRow) ([]s3.LifecycleRule, string, error) {
	if !b.Expires {
		return nil, "", nil
	}
	row, err := config(tx, b, kindLifecycle)
	if err != nil || row == nil {
		return nil, "", err
	}
	on := slices.DeleteFunc(row.Lifecycle, func(r s3.LifecycleRule) bool { return value(r.Status) != "Enabled" })
	return on, row.MinimumSize, nil
}

// applies says whether a rule's filter takes in an object.
func applies(r *s3.LifecycleRule, key string, size int64, tags []tag) bool {
	if !strings.HasPrefix(key, value(r.Prefix)) {
		return false
	}
	f := r.Filter
	if f == nil {
		return true
	}
	has := func(t s3.Tag) bool { return slices.Contains(tags, tag{value(t.Key), value(t.Value)}) }
	within := func(greater, less *int64) bool {
		return (greater == nil || size > *greater) && (less == nil || size < *less)
	}
	ok := strings.HasPrefix(key, value(f.Prefix)) && (f.Tag == nil || has(*f.Tag)) && within(f.ObjectSizeGreaterThan, f.ObjectSizeLessThan)
	if a := f.And; ok && a != nil {
		ok = strings.HasPrefix(key, value(a.Prefix)) && within(a.ObjectSizeGreaterThan, a.ObjectSizeLessThan) &&
			!slices.ContainsFunc(a.Tags, func(t s3.Tag) bool { return !has(t) })
	}
	return ok
}

// dueAfter returns when something that began at a time and lasts for days is due:
// at the next midnight, as S3 rounds.
func dueAfter(began time.Time, days int32) time.Time {
	at := began.UTC().AddDate(0, 0, int(days))
	if day := at.Truncate(24 * time.Hour); !day.Equal(at) {
		return day.AddDate(0, 0, 1)
	}
	return at
}

// expiry returns when a current version expires by a rule; false if it does not.
func expiry(r *s3.LifecycleRule, o *objectRow) (time.Time, bool) {
	e := r.Expiration
	switch {
	case e == nil || !applies(r, o.Key, o.Size, o.Tags):
		return time.Time{}, false
	case e.Days != nil:
		return dueAfter(o.Modified, *e.Days), true
	case e.Date != nil:
		return e.Date.UTC(), true
	}
	return time.Time{}, false
}

// expiration returns the header x-amz-expiration of an object, nil if no rule
// expires it.
func (s *Service) expiration(tx *store.Tx, b *bucketRow, o *objectRow) (*string, error) {
	rules, _, err := lifecycleRules(tx, b)
	if err != nil || o.Marker || !o.Retired.IsZero() {
		return nil, err
	}
	var first time.Time
	var id string
	for i := range rules {
		if at, ok := expiry(&rules[i], o); ok && (first.IsZero() || at.Before(first)) {
			first, id = at, value(rules[i].ID)
		}
	}
	if first.IsZero() {
		return nil, nil
	}
	return wire.Ptr(`expiry-date="` + httpDate(first) + `", rule-id="` + url.QueryEscape(id) + `"`), nil
}

// abortion returns when and by which rule an upload will be aborted; nil if by none.
func (s *Service) abortion(tx *store.Tx, b *bucketRow, u *uploadRow) (*time.Time, *string, error) {
	rules, _, err := lifecycleRules(tx, b)
	if err != nil {
		return nil, nil, err
	}
	at, id := planUpload(rules, u)
	if at.IsZero() {
		return nil, nil, nil
	}
	return &at, &id, nil
}
