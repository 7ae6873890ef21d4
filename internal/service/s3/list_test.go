package s3

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"skerry/internal/api/s3"
	"skerry/internal/wire"
)

// walk lists a bucket page by page and returns keys and common prefixes in order.
func (h *harness) walk(in s3.ListObjectsV2Input) (got []string) {
	h.t.Helper()
	in.Bucket = wire.Ptr("bucket")
	for {
		out := do[s3.ListObjectsV2Output](h, h.root, &in)
		for _, o := range out.Contents {
			got = append(got, *o.Key)
		}
		for _, p := range out.CommonPrefixes {
			got = append(got, *p.Prefix)
		}
		if int(*out.KeyCount) != len(out.Contents)+len(out.CommonPrefixes) {
			h.t.Errorf("KeyCount %d", *out.KeyCount)
		}
		if !*out.IsTruncated {
			return got
		}
		in.ContinuationToken = out.NextContinuationToken
	}
}

func TestList(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", false)
	for _, k := range []string{"a", "a/", "a/b", "a/b/c", "b//x", "b//y", "c~1", "c~2", "d\x01", "é", "é/1"} {
		h.put("bucket", k, "")
	}
	for _, c := range []struct {
		in   s3.ListObjectsV2Input
		want string
	}{
		{s3.ListObjectsV2Input{}, "a a/ a/b a/b/c b//x b//y c~1 c~2 d\x01 é é/1"},
		{s3.ListObjectsV2Input{Delimiter: wire.Ptr("/")}, "a a/ b/ c~1 c~2 d\x01 é é/"},
		{s3.ListObjectsV2Input{Delimiter: wire.Ptr("//")}, "a a/ a/b a/b/c b// c~1 c~2 d\x01 é é/1"},
		{s3.ListObjectsV2Input{Delimiter: wire.Ptr("~")}, "a a/ a/b a/b/c b//x b//y c~ d\x01 é é/1"},
		{s3.ListObjectsV2Input{Prefix: wire.Ptr("a/")}, "a/ a/b a/b/c"},
		{s3.ListObjectsV2Input{Prefix: wire.Ptr("a/"), Delimiter: wire.Ptr("/")}, "a/ a/b a/b/"},
		{s3.ListObjectsV2Input{Prefix: wire.Ptr("a"), Delimiter: wire.Ptr("/")}, "a a/"},
		{s3.ListObjectsV2Input{Prefix: wire.Ptr("b/"), Delimiter: wire.Ptr("/")}, "b//"},
		{s3.ListObjectsV2Input{Prefix: wire.Ptr("x")}, ""},
		{s3.ListObjectsV2Input{StartAfter: wire.Ptr("b")}, "b//x b//y c~1 c~2 d\x01 é é/1"},
		{s3.ListObjectsV2Input{StartAfter: wire.Ptr("b//x")}, "b//y c~1 c~2 d\x01 é é/1"},
		{s3.ListObjectsV2Input{StartAfter: wire.Ptr("zz")}, "é é/1"},
		{s3.ListObjectsV2Input{StartAfter: wire.Ptr("a/"), Delimiter: wire.Ptr("/")}, "b/ c~1 c~2 d\x01 é é/"},
	} {
		for _, page := range []int32{1, 2, 3, 1000} {
			c.in.MaxKeys = &page
			got := h.walk(c.in)
			slices.Sort(got) // keys and prefixes of a page come apart
			if strings.Join(got, " ") != c.want {
				t.Errorf("prefix %q delimiter %q after %q page %d: %q, want %q", value(c.in.Prefix), value(c.in.Delimiter), value(c.in.StartAfter), page, got, c.want)
			}
		}
	}
	none := do[s3.ListObjectsV2Output](h, h.root, &s3.ListObjectsV2Input{Bucket: wire.Ptr("bucket"), MaxKeys: wire.Ptr(int32(0))})
	if *none.IsTruncated || len(none.Contents) > 0 {
		t.Error("no keys were asked for")
	}
	refuse(h, h.root, &s3.ListObjectsV2Input{Bucket: wire.Ptr("bucket"), ContinuationToken: wire.Ptr("no token")}, "InvalidArgument")
	refuse(h, h.root, &s3.ListObjectsInput{Bucket: wire.Ptr("bucket"), EncodingType: wire.Ptr("rot13")}, "InvalidArgument")
	enc := do[s3.ListObjectsOutput](h, h.root, &s3.ListObjectsInput{Bucket: wire.Ptr("bucket"), EncodingType: wire.Ptr("url"), Prefix: wire.Ptr("d")})
	if *enc.Contents[0].Key != "d%01" {
		t.Errorf("encoded %q", *enc.Contents[0].Key)
	}
	v1 := do[s3.ListObjectsOutput](h, h.root, &s3.ListObjectsInput{Bucket: wire.Ptr("bucket"), Delimiter: wire.Ptr("/"), MaxKeys: wire.Ptr(int32(2))})
	if value(v1.NextMarker) != "a/" {
		t.Errorf("next marker %q", value(v1.NextMarker))
	}
}

// A listing with a delimiter must not read what a common prefix hides.
func TestListSeeks(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", false)
	for i := range 300 {
		h.put("bucket", fmt.Sprintf("dir/%03d", i), "")
	}
	h.put("bucket", "z", "")
	got := h.walk(s3.ListObjectsV2Input{Delimiter: wire.Ptr("/")})
	if !slices.Equal(got, []string{"z", "dir/"}) {
		t.Errorf("got %q", got)
	}
}

func TestListBuckets(t *testing.T) {
	h := newHarness(t)
	for _, n := range []string{"aaa", "bbb", "bbc"} {
		h.make(n, false)
	}
	in := &s3.ListBucketsInput{MaxBuckets: wire.Ptr(int32(1))}
	var got []string
	for {
		out := do[s3.ListBucketsOutput](h, h.root, in)
		for _, b := range out.Buckets {
			got = append(got, *b.Name)
		}
		if out.ContinuationToken == nil {
			break
		}
		in.ContinuationToken = out.ContinuationToken
	}
	if strings.Join(got, " ") != "aaa bbb bbc" {
		t.Errorf("got %q", got)
	}
	if out := do[s3.ListBucketsOutput](h, h.root, &s3.ListBucketsInput{Prefix: wire.Ptr("bb")}); len(out.Buckets) != 2 {
		t.Errorf("%d buckets begin with bb", len(out.Buckets))
	}
}

func TestBucketNames(t *testing.T) {
	for name, want := range map[string]bool{
		"abc": true, "a.b-c": true, "123": true, strings.Repeat("a", 63): true,
		"ab": false, strings.Repeat("a", 64): false, "Abc": false, "a_b": false, "-ab": false, "ab-": false, "a..b": false,
		"10.0.0.1": false, "xn--a": false, "sthree-x": false, "a-s3alias": false, "a--ol-s3": false, "a.mrap": false,
	} {
		if validBucketName(name) != want {
			t.Errorf("%s: %t", name, !want)
		}
	}
}

func TestCreateBucket(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", false)
	h.make("bucket", false) // one's own again, in us-east-1
	alien := h.scope(h.root.Principal)
	alien.Account, alien.Principal.Account = other, other
	refuse(h, alien, &s3.CreateBucketInput{Bucket: wire.Ptr("bucket")}, "BucketAlreadyExists")
	west := h.root
	west.Region = "eu-west-1"
	at := func(name, region string) *s3.CreateBucketInput {
		return &s3.CreateBucketInput{Bucket: &name, CreateBucketConfiguration: &s3.CreateBucketConfiguration{LocationConstraint: &region}}
	}
	refuse(h, west, &s3.CreateBucketInput{Bucket: wire.Ptr("west")}, "IllegalLocationConstraintException")
	refuse(h, west, at("west", "eu-central-1"), "IllegalLocationConstraintException")
	nowhere := h.root
	nowhere.Region = "US"
	refuse(h, nowhere, &s3.CreateBucketInput{Bucket: wire.Ptr("nowhere")}, "AuthorizationHeaderMalformed")
	refuse(h, west, at("west", "moon-1"), "InvalidLocationConstraint")
	refuse(h, h.root, at("west", "us-east-1"), "InvalidLocationConstraint")
	refuse(h, h.root, at("W", "eu-west-1"), "InvalidBucketName")
	do[s3.CreateBucketOutput](h, west, at("west", "eu-west-1"))
	refuse(h, west, at("west", "eu-west-1"), "BucketAlreadyOwnedByYou")
	if out := do[s3.GetBucketLocationOutput](h, west, &s3.GetBucketLocationInput{Bucket: wire.Ptr("west")}); value(out.LocationConstraint) != "eu-west-1" {
		t.Errorf("location %v", out.LocationConstraint)
	}
	refuse(h, h.root, &s3.HeadBucketInput{Bucket: wire.Ptr("west"), ExpectedBucketOwner: wire.Ptr(other)}, "AccessDenied")
}
