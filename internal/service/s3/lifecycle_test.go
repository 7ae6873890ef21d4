package s3

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"skerry/internal/api/s3"
	"skerry/internal/wire"
)

func days(n int32) *int32 { return &n }

func (h *harness) rules(rules ...s3.LifecycleRule) {
	h.t.Helper()
	for i := range rules {
		rules[i].Status = wire.Ptr("Enabled")
		if rules[i].Filter == nil {
			rules[i].Filter = &s3.LifecycleRuleFilter{Prefix: wire.Ptr("")}
		}
	}
	do[s3.PutBucketLifecycleConfigurationOutput](h, h.root, &s3.PutBucketLifecycleConfigurationInput{Bucket: wire.Ptr("bucket"),
		LifecycleConfiguration: &s3.BucketLifecycleConfiguration{Rules: rules}})
}

func (h *harness) expire() {
	h.t.Helper()
	if _, err := h.runLifecycle(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

// chain describes the versions of the bucket, in the order of a listing.
func (h *harness) chain() string {
	h.t.Helper()
	out := do[s3.ListObjectVersionsOutput](h, h.root, &s3.ListObjectVersionsInput{Bucket: wire.Ptr("bucket")})
	var all []string
	for _, v := range out.Versions {
		all = append(all, fmt.Sprintf("%s:%d", *v.Key, *v.Size))
	}
	for _, m := range out.DeleteMarkers {
		all = append(all, *m.Key+":marker")
	}
	return strings.Join(all, " ")
}

const day = 24 * time.Hour

func TestLifecycleExpires(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", false)
	h.rules(
		s3.LifecycleRule{ID: wire.Ptr("tmp"), Filter: &s3.LifecycleRuleFilter{Prefix: wire.Ptr("tmp/")}, Expiration: &s3.LifecycleExpiration{Days: days(2)}},
		s3.LifecycleRule{ID: wire.Ptr("tag"), Filter: &s3.LifecycleRuleFilter{Tag: &s3.Tag{Key: wire.Ptr("a"), Value: wire.Ptr("b")}}, Expiration: &s3.LifecycleExpiration{Days: days(1)}},
		s3.LifecycleRule{ID: wire.Ptr("big"), Filter: &s3.LifecycleRuleFilter{ObjectSizeGreaterThan: wire.Ptr(int64(10))}, Expiration: &s3.LifecycleExpiration{Days: days(3)}},
	)
	out := h.put("bucket", "tmp/x", "x")
	if got := value(out.Expiration); got != `expiry-date="Tue, 24 Nov 2026 00:00:00 GMT", rule-id="tmp"` {
		t.Errorf("expiration %s", got)
	}
	tagged := putObject("bucket", "t")
	tagged.Tagging = wire.Ptr("a=b")
	do[s3.PutObjectOutput](h, h.root, tagged)
	h.put("bucket", "long", "01234567890")
	h.put("bucket", "keep", "x")
	for _, c := range []struct {
		after time.Duration
		want  string
	}{
		{day, "keep:1 long:11 t:1 tmp/x:1"}, // at the midnight after a day, not before
		{day, "keep:1 long:11 tmp/x:1"},
		{day, "keep:1 long:11"},
		{day, "keep:1"},
	} {
		h.clock.Advance(c.after)
		h.expire()
		if got := h.chain(); got != c.want {
			t.Errorf("after %v: %s, want %s", c.after, got, c.want)
		}
	}
}

func TestLifecycleVersions(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", true)
	h.rules(s3.LifecycleRule{
		Expiration:                  &s3.LifecycleExpiration{Days: days(10)},
		NoncurrentVersionExpiration: &s3.NoncurrentVersionExpiration{NoncurrentDays: days(2), NewerNoncurrentVersions: days(1)},
	})
	for i := 1; i <= 4; i++ {
		h.put("bucket", "k", strings.Repeat("x", i))
	}
	h.expire()
	h.clock.Advance(3 * day)
	h.expire()
	if got := h.chain(); got != "k:4 k:3" { // the current one and one more
		t.Errorf("after three days %s", got)
	}
	h.clock.Advance(8 * day)
	h.expire()
	if got := h.chain(); got != "k:4 k:3 k:marker" {
		t.Errorf("after eleven days %s", got)
	}
	h.clock.Advance(3 * day)
	h.expire() // k:3 is the second noncurrent one now
	if got := h.chain(); got != "k:4 k:marker" {
		t.Errorf("after fourteen days %s", got)
	}
	h.rules(s3.LifecycleRule{Expiration: &s3.LifecycleExpiration{ExpiredObjectDeleteMarker: wire.Ptr(true)}, NoncurrentVersionExpiration: &s3.NoncurrentVersionExpiration{NoncurrentDays: days(1)}})
	h.expire() // the last version
	h.expire() // and the marker that stood alone
	if got := h.chain(); got != "" {
		t.Errorf("in the end %s", got)
	}
}

func TestLifecycleSparesLocked(t *testing.T) {
	h := newHarness(t)
	do[s3.CreateBucketOutput](h, h.root, &s3.CreateBucketInput{Bucket: wire.Ptr("bucket"), ObjectLockEnabledForBucket: wire.Ptr(true)})
	h.rules(s3.LifecycleRule{NoncurrentVersionExpiration: &s3.NoncurrentVersionExpiration{NoncurrentDays: days(1)}})
	v := h.put("bucket", "k", "held").VersionId
	do[s3.PutObjectLegalHoldOutput](h, h.root, &s3.PutObjectLegalHoldInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k"), VersionId: v, LegalHold: &s3.ObjectLockLegalHold{Status: wire.Ptr("ON")}})
	h.put("bucket", "k", "x")
	h.clock.Advance(5 * day)
	h.expire()
	if got := h.chain(); got != "k:1 k:4" {
		t.Errorf("versions %s", got)
	}
}

func TestLifecycleAbortsUploads(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", false)
	h.rules(s3.LifecycleRule{ID: wire.Ptr("abort"), AbortIncompleteMultipartUpload: &s3.AbortIncompleteMultipartUpload{DaysAfterInitiation: days(1)}})
	id, _ := h.begin("k", nil, nil, noise(100_000, 1))
	in := &s3.ListPartsInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k"), UploadId: id}
	out := do[s3.ListPartsOutput](h, h.root, in)
	if value(out.AbortRuleId) != "abort" || !out.AbortDate.Equal(time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("abort %v by %s", out.AbortDate, value(out.AbortRuleId))
	}
	h.clock.Advance(day)
	h.expire()
	do[s3.ListPartsOutput](h, h.root, in)
	h.clock.Advance(day)
	h.expire()
	refuse(h, h.root, in, "NoSuchUpload")
	h.sweep()
	if n := h.blobs(); n != 0 {
		t.Errorf("%d blobs are left", n)
	}
}

func TestLifecycleRules(t *testing.T) {
	for i, c := range []struct {
		rule s3.LifecycleRule
		ok   bool
	}{
		{s3.LifecycleRule{Prefix: wire.Ptr(""), Expiration: &s3.LifecycleExpiration{Days: days(1)}}, true},
		{s3.LifecycleRule{Prefix: wire.Ptr(""), Expiration: &s3.LifecycleExpiration{Days: days(0)}}, false},
		{s3.LifecycleRule{Expiration: &s3.LifecycleExpiration{Days: days(1)}}, false},
		{s3.LifecycleRule{Prefix: wire.Ptr(""), Filter: &s3.LifecycleRuleFilter{}, Expiration: &s3.LifecycleExpiration{Days: days(1)}}, false},
		{s3.LifecycleRule{Prefix: wire.Ptr("")}, false},
		{s3.LifecycleRule{Prefix: wire.Ptr(""), Expiration: &s3.LifecycleExpiration{Days: days(1), ExpiredObjectDeleteMarker: wire.Ptr(true)}}, false},
		{s3.LifecycleRule{Prefix: wire.Ptr(""), Expiration: &s3.LifecycleExpiration{Date: wire.Ptr(time.Date(2026, 1, 1, 1, 0, 0, 0, time.UTC))}}, false},
		{s3.LifecycleRule{Prefix: wire.Ptr(""), Transitions: []s3.Transition{{Days: days(29), StorageClass: wire.Ptr("STANDARD_IA")}}}, false},
		{s3.LifecycleRule{Prefix: wire.Ptr(""), Transitions: []s3.Transition{{Days: days(30), StorageClass: wire.Ptr("STANDARD_IA")}}}, true},
		{s3.LifecycleRule{Prefix: wire.Ptr(""), Transitions: []s3.Transition{{Days: days(30), StorageClass: wire.Ptr("GLACIER")}}}, false},
	} {
		c.rule.Status = wire.Ptr("Enabled")
		if err := checkLifecycleRule(&c.rule); (err == nil) != c.ok {
			t.Errorf("case %d: %v", i, err)
		}
	}
}

func TestLifecycleMoves(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", false)
	h.rules(s3.LifecycleRule{Transitions: []s3.Transition{{Days: days(30), StorageClass: wire.Ptr("STANDARD_IA")}}})
	h.put("bucket", "big", string(noise(smallObject, 1)))
	h.put("bucket", "small", "x")
	h.clock.Advance(31 * day)
	h.expire()
	for key, want := range map[string]string{"big": "STANDARD_IA", "small": ""} {
		if got := value(do[s3.HeadObjectOutput](h, h.root, &s3.HeadObjectInput{Bucket: wire.Ptr("bucket"), Key: &key}).StorageClass); got != want {
			t.Errorf("%s is %s", key, got)
		}
	}
}

func TestObjectLock(t *testing.T) {
	h := newHarness(t)
	h.make("plain", false)
	locked := putObject("plain", "k")
	locked.ObjectLockLegalHoldStatus, locked.ContentMD5 = wire.Ptr("ON"), wire.Ptr("nUzUxhFyr6lrSQSQ9CvyWQ==")
	refuse(h, h.root, locked, "InvalidRequest")
	do[s3.CreateBucketOutput](h, h.root, &s3.CreateBucketInput{Bucket: wire.Ptr("bucket"), ObjectLockEnabledForBucket: wire.Ptr(true)})
	refuse(h, h.root, &s3.PutBucketVersioningInput{Bucket: wire.Ptr("bucket"), VersioningConfiguration: &s3.VersioningConfiguration{Status: wire.Ptr("Suspended")}}, "InvalidBucketState")
	v := h.put("bucket", "k", "x").VersionId
	retain := func(mode string, after time.Duration, bypass bool) *s3.PutObjectRetentionInput {
		return &s3.PutObjectRetentionInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k"), VersionId: v, BypassGovernanceRetention: &bypass,
			Retention: &s3.ObjectLockRetention{Mode: &mode, RetainUntilDate: wire.Ptr(h.clock.Now().Add(after))}}
	}
	remove := func(bypass bool) *s3.DeleteObjectInput {
		return &s3.DeleteObjectInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k"), VersionId: v, BypassGovernanceRetention: &bypass}
	}
	do[s3.PutObjectRetentionOutput](h, h.root, retain(governance, day, false))
	refuse(h, h.root, remove(false), "AccessDenied")
	refuse(h, h.root, retain(governance, time.Hour, false), "AccessDenied")
	do[s3.PutObjectRetentionOutput](h, h.root, retain(governance, 2*day, false))
	do[s3.PutObjectRetentionOutput](h, h.root, retain(governance, day, true))
	// Without the permission the bypass is denied before anything is looked at.
	plain := h.user(account, "plain", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:DeleteObjectVersion","s3:PutObjectRetention"],"Resource":"*"}]}`)
	refuse(h, plain, remove(true), "AccessDenied")
	refuse(h, plain, retain(governance, time.Hour, true), "AccessDenied")
	refuse(h, h.root, retain(compliance, 2*day, false), "AccessDenied")
	do[s3.PutObjectRetentionOutput](h, h.root, retain(compliance, day, true))
	refuse(h, h.root, remove(true), "AccessDenied")
	refuse(h, h.root, retain(compliance, time.Hour, true), "AccessDenied")
	refuse(h, h.root, retain(governance, 2*day, true), "AccessDenied")
	// A delete marker may hide it meanwhile.
	do[s3.DeleteObjectOutput](h, h.root, &s3.DeleteObjectInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k")})
	h.clock.Advance(2 * day)
	do[s3.DeleteObjectOutput](h, h.root, remove(false))
}
