package s3

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"skerry/internal/api/s3"
	"skerry/internal/blob"
	"skerry/internal/service/s3/checksum"
	"skerry/internal/wire"
)

func TestPutGet(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", false)
	for _, size := range []int{0, 1, 1024, blob.InlineMax - 1, blob.InlineMax, blob.InlineMax + 1, 3*copyUnit + 17} {
		for _, told := range []bool{true, false} {
			body := noise(size, byte(size))
			in := &s3.PutObjectInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("key"), Body: iotest.HalfReader(bytes.NewReader(body)), ContentType: wire.Ptr("text/x"),
				Metadata: map[string]string{"a": "b"}}
			if told {
				in.ContentLength = wire.Ptr(int64(size))
			}
			out := do[s3.PutObjectOutput](h, h.root, in)
			sum := md5.Sum(body)
			if want := quote(hex.EncodeToString(sum[:])); *out.ETag != want || out.VersionId != nil || *out.ServerSideEncryption != "AES256" {
				t.Errorf("%d bytes: ETag %s, want %s", size, *out.ETag, want)
			}
			got := do[s3.GetObjectOutput](h, h.root, &s3.GetObjectInput{Bucket: in.Bucket, Key: in.Key})
			if s := h.read(got); s != string(body) || *got.ContentLength != int64(size) || *got.ContentType != "text/x" || got.Metadata["a"] != "b" || *got.ETag != *out.ETag {
				t.Errorf("%d bytes: got %d bytes back, %+v", size, len(s), got)
			}
		}
	}
	h.sweep()
	if n := h.blobs(); n != 1 {
		t.Errorf("%d blobs are left of one object", n)
	}
	if n := h.contentRows(); n != 1 {
		t.Errorf("%d contents are left of one object", n)
	}
}

// What is on disk must not hold the plain text.
func TestBytesAreEncrypted(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", false)
	secret := strings.Repeat("the plain text ", 4000)
	h.put("bucket", "big", secret)
	for info, err := range h.Blobs.List(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Blobs.Open(t.Context(), info.Ref, blob.OpenOptions{}); err == nil {
			t.Error("a blob opens without a key")
		}
		r, err := h.Blobs.Open(t.Context(), info.Ref, blob.OpenOptions{Key: random(32)})
		if err == nil {
			_, err = io.ReadAll(r)
			r.Close()
		}
		if err == nil {
			t.Error("a blob is read with a wrong key")
		}
	}
	if h.get("bucket", "big") != secret {
		t.Error("the text came back changed")
	}
}

func TestFailedBodyLeavesOldObject(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", false)
	h.put("bucket", "key", "old")
	broken := errors.New("the connection is gone")
	big := noise(copyUnit+5, 1)
	for name, in := range map[string]*s3.PutObjectInput{
		"BadDigest":               {Body: bytes.NewReader(big), ContentMD5: wire.Ptr(base64.StdEncoding.EncodeToString(make([]byte, 16)))},
		"InvalidDigest":           {Body: bytes.NewReader(big), ContentMD5: wire.Ptr("nonsense")},
		"RequestTimeout":          {Body: io.MultiReader(bytes.NewReader(big), iotest.ErrReader(broken))},
		"IncompleteBody":          {Body: bytes.NewReader(big), ContentLength: wire.Ptr(int64(len(big) + 1))},
		"InvalidRequest":          {Body: bytes.NewReader(big), ChecksumCRC32: wire.Ptr("xx")},
		"EntityTooLarge":          {Body: bytes.NewReader(big), ContentLength: wire.Ptr(int64(maxPut + 1))},
		"MetadataTooLarge":        {Body: bytes.NewReader(big), Metadata: map[string]string{"a": strings.Repeat("x", maxMeta)}},
		"KeyTooLongError":         {Body: bytes.NewReader(big), Key: wire.Ptr(strings.Repeat("k", maxKey+1))},
		"InvalidArgument":         {Body: bytes.NewReader(big), Tagging: wire.Ptr("a=1&a=2")},
		"NotImplemented":          {Body: bytes.NewReader(big), ServerSideEncryption: wire.Ptr("aws:kms")},
		"NoSuchBucket":            {Body: bytes.NewReader(big), Bucket: wire.Ptr("nowhere")},
		"InvalidRedirectLocation": {Body: bytes.NewReader(big), WebsiteRedirectLocation: wire.Ptr("elsewhere")},
		"PreconditionFailed":      {Body: bytes.NewReader(big), IfNoneMatch: wire.Ptr("*")},
	} {
		if in.Bucket == nil {
			in.Bucket = wire.Ptr("bucket")
		}
		if in.Key == nil {
			in.Key = wire.Ptr("key")
		}
		refuse(h, h.root, in, name)
		if got := h.get("bucket", "key"); got != "old" {
			t.Errorf("after %s the object is %d bytes", name, len(got))
		}
	}
	if n := h.blobs(); n != 0 {
		t.Errorf("%d blobs are left of failed writes", n)
	}
}

type trailed struct {
	io.Reader
	name, value string
}

func (r trailed) Trailers() []string         { return []string{r.name} }
func (r trailed) Trailer(name string) string { return map[string]string{r.name: r.value}[name] }

func TestChecksums(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", false)
	body := noise(20_000, 3)
	for _, alg := range checksum.All() {
		sum := alg.New()
		sum.Write(body)
		want := checksum.Encode(sum.Sum(nil))
		wrong := checksum.Encode(make([]byte, sum.Size()))
		put := func(header, trailer string) *s3.PutObjectInput {
			in := &s3.PutObjectInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr(string(alg)), Body: bytes.NewReader(body)}
			if trailer != "" {
				in.Body = trailed{in.Body, alg.Header(), trailer}
				return in
			}
			v := sumsOf(alg, header)
			in.ChecksumCRC32, in.ChecksumCRC32C, in.ChecksumCRC64NVME, in.ChecksumSHA1, in.ChecksumSHA256 = v[0], v[1], v[2], v[3], v[4]
			in.ChecksumSHA512, in.ChecksumMD5, in.ChecksumXXHASH64, in.ChecksumXXHASH3, in.ChecksumXXHASH128 = v[5], v[6], v[7], v[8], v[9]
			return in
		}
		refuse(h, h.root, put(wrong, ""), "BadDigest")
		refuse(h, h.root, put("", wrong), "BadDigest")
		do[s3.PutObjectOutput](h, h.root, put(want, ""))
		do[s3.PutObjectOutput](h, h.root, put("", want))
		in := &s3.HeadObjectInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr(string(alg))}
		if out := do[s3.HeadObjectOutput](h, h.root, in); out.ChecksumType != nil {
			t.Errorf("%s is told without being asked for", alg)
		}
		in.ChecksumMode = wire.Ptr("ENABLED")
		out := do[s3.HeadObjectOutput](h, h.root, in)
		v := sums{out.ChecksumCRC32, out.ChecksumCRC32C, out.ChecksumCRC64NVME, out.ChecksumSHA1, out.ChecksumSHA256,
			out.ChecksumSHA512, out.ChecksumMD5, out.ChecksumXXHASH64, out.ChecksumXXHASH3, out.ChecksumXXHASH128}
		if got, text, err := v.given(); got != alg || text != want || err != nil || *out.ChecksumType != "FULL_OBJECT" {
			t.Errorf("%s: %s %s %v", alg, got, text, err)
		}
	}
	two := &s3.PutObjectInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("two"), Body: bytes.NewReader(body), ChecksumCRC32: wire.Ptr("AAAAAA=="), ChecksumCRC32C: wire.Ptr("AAAAAA==")}
	refuse(h, h.root, two, "InvalidRequest")
}

func TestRanges(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", false)
	body := string(noise(copyUnit+100, 9))
	h.put("bucket", "big", body)
	h.put("bucket", "small", "0123456789")
	h.put("bucket", "empty", "")
	n := len(body)
	for _, c := range []struct {
		key, header, want, content string
	}{
		{"small", "bytes=0-0", "0", "bytes 0-0/10"},
		{"small", "bytes=3-5", "345", "bytes 3-5/10"},
		{"small", "bytes=7-", "789", "bytes 7-9/10"},
		{"small", "bytes=-4", "6789", "bytes 6-9/10"},
		{"small", "bytes=-40", "0123456789", "bytes 0-9/10"},
		{"small", "bytes=5-400", "56789", "bytes 5-9/10"},
		{"small", "bytes=5-4", "0123456789", ""},
		{"small", "bytes=0-1,3-4", "0123456789", ""},
		{"small", "lines=1-2", "0123456789", ""},
		{"empty", "bytes=5-4", "", ""},
		{"big", "bytes=70000-70009", body[70000:70010], "bytes 70000-70009/262244"},
		{"big", "bytes=-3", body[n-3:], "bytes 262241-262243/262244"},
	} {
		out := do[s3.GetObjectOutput](h, h.root, &s3.GetObjectInput{Bucket: wire.Ptr("bucket"), Key: &c.key, Range: &c.header})
		if got := h.read(out); got != c.want || value(out.ContentRange) != c.content || *out.ContentLength != int64(len(c.want)) {
			t.Errorf("%s %s: %d bytes, %s", c.key, c.header, len(got), value(out.ContentRange))
		}
	}
	for _, c := range [][2]string{{"small", "bytes=10-"}, {"small", "bytes=99-100"}, {"small", "bytes=-0"}, {"empty", "bytes=0-"}, {"empty", "bytes=-1"}} {
		refuse(h, h.root, &s3.GetObjectInput{Bucket: wire.Ptr("bucket"), Key: &c[0], Range: &c[1]}, "InvalidRange")
	}
}

func TestConditionalReads(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", false)
	etag := h.put("bucket", "key", "body").ETag
	now := h.clock.Now()
	h.clock.Advance(10 * time.Second)
	no, star := wire.Ptr(`"no"`), wire.Ptr("*")
	before, after, future := now.Add(-time.Second), now.Add(time.Second), now.Add(time.Hour)
	for i, c := range []struct {
		in   s3.GetObjectInput
		want string
	}{
		{s3.GetObjectInput{IfMatch: etag}, ""},
		{s3.GetObjectInput{IfMatch: star}, ""},
		{s3.GetObjectInput{IfMatch: no}, "PreconditionFailed"},
		{s3.GetObjectInput{IfNoneMatch: no}, ""},
		{s3.GetObjectInput{IfNoneMatch: etag}, "NotModified"},
		{s3.GetObjectInput{IfModifiedSince: &before}, ""},
		{s3.GetObjectInput{IfModifiedSince: &now}, "NotModified"},
		{s3.GetObjectInput{IfModifiedSince: &after}, "NotModified"},
		{s3.GetObjectInput{IfModifiedSince: &future}, ""},
		{s3.GetObjectInput{IfUnmodifiedSince: &after}, ""},
		{s3.GetObjectInput{IfUnmodifiedSince: &before}, "PreconditionFailed"},
		{s3.GetObjectInput{IfMatch: etag, IfUnmodifiedSince: &before}, ""},
		{s3.GetObjectInput{IfNoneMatch: no, IfModifiedSince: &after}, ""},
		{s3.GetObjectInput{IfNoneMatch: etag, IfModifiedSince: &before}, "NotModified"},
	} {
		c.in.Bucket, c.in.Key = wire.Ptr("bucket"), wire.Ptr("key")
		if c.want != "" {
			refuse(h, h.root, &c.in, c.want)
		} else if got := h.read(do[s3.GetObjectOutput](h, h.root, &c.in)); got != "body" {
			t.Errorf("case %d: %q", i, got)
		}
	}
}

func TestCustomerKeys(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", false)
	key := func(b byte) (alg, k, sum *string) {
		raw := bytes.Repeat([]byte{b}, 32)
		d := md5.Sum(raw)
		return wire.Ptr("AES256"), wire.Ptr(base64.StdEncoding.EncodeToString(raw)), wire.Ptr(base64.StdEncoding.EncodeToString(d[:]))
	}
	alg, k, sum := key(1)
	_, k2, sum2 := key(2)
	for _, size := range []int{10, 100_000} {
		body := noise(size, 1)
		out := do[s3.PutObjectOutput](h, h.root, &s3.PutObjectInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k"), Body: bytes.NewReader(body),
			SSECustomerAlgorithm: alg, SSECustomerKey: k, SSECustomerKeyMD5: sum})
		plain := md5.Sum(body)
		if value(out.SSECustomerKeyMD5) != *sum || out.ServerSideEncryption != nil || *out.ETag == quote(hex.EncodeToString(plain[:])) {
			t.Errorf("put answers %+v", out)
		}
		in := func() *s3.GetObjectInput { return &s3.GetObjectInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k")} }
		refuse(h, h.root, in(), "InvalidRequest")
		wrong := in()
		wrong.SSECustomerAlgorithm, wrong.SSECustomerKey, wrong.SSECustomerKeyMD5 = alg, k2, sum2
		refuse(h, h.root, wrong, "AccessDenied")
		mixed := in()
		mixed.SSECustomerAlgorithm, mixed.SSECustomerKey, mixed.SSECustomerKeyMD5 = alg, k, sum2
		refuse(h, h.root, mixed, "InvalidArgument")
		right := in()
		right.SSECustomerAlgorithm, right.SSECustomerKey, right.SSECustomerKeyMD5 = alg, k, sum
		if got := h.read(do[s3.GetObjectOutput](h, h.root, right)); got != string(body) {
			t.Errorf("%d bytes came back as %d", size, len(got))
		}
	}
	h.put("bucket", "plain", "x")
	// an upload with a chosen checksum wants the key to the end
	id := do[s3.CreateMultipartUploadOutput](h, h.root, &s3.CreateMultipartUploadInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("parts"),
		ChecksumAlgorithm: wire.Ptr("CRC32"), SSECustomerAlgorithm: alg, SSECustomerKey: k, SSECustomerKeyMD5: sum}).UploadId
	part := do[s3.UploadPartOutput](h, h.root, &s3.UploadPartInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("parts"), UploadId: id, PartNumber: wire.Ptr(int32(1)),
		Body: strings.NewReader("part"), SSECustomerAlgorithm: alg, SSECustomerKey: k, SSECustomerKeyMD5: sum})
	end := complete("parts", id, []s3.CompletedPart{{PartNumber: wire.Ptr(int32(1)), ETag: part.ETag, ChecksumCRC32: part.ChecksumCRC32}})
	refuse(h, h.root, end, "InvalidRequest")
	end.SSECustomerAlgorithm, end.SSECustomerKey, end.SSECustomerKeyMD5 = alg, k2, sum2
	refuse(h, h.root, end, "InvalidRequest")
	end.SSECustomerKey, end.SSECustomerKeyMD5 = k, sum
	do[s3.CompleteMultipartUploadOutput](h, h.root, end)
	refuse(h, h.root, &s3.GetObjectInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("plain"), SSECustomerAlgorithm: alg, SSECustomerKey: k, SSECustomerKeyMD5: sum}, "InvalidRequest")
	// Copied out of the customer's key, it is an object like any other.
	do[s3.CopyObjectOutput](h, h.root, &s3.CopyObjectInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("copy"), CopySource: wire.Ptr("bucket/k"),
		CopySourceSSECustomerAlgorithm: alg, CopySourceSSECustomerKey: k, CopySourceSSECustomerKeyMD5: sum})
	if got := h.get("bucket", "copy"); got != string(noise(100_000, 1)) {
		t.Error("the copy differs")
	}
}

// The sweep of what a crash leaves behind takes only blobs without a row.
func TestOrphansAreSwept(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", false)
	body := string(noise(100_000, 1))
	h.put("bucket", "k", body)
	w, err := h.Blobs.Create(t.Context(), blob.CreateOptions{Key: random(32)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("as left by a crash between blob and row")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	n, _, err := blob.Sweep(t.Context(), h.Blobs, time.Now().Add(time.Hour), h.Referenced)
	if err != nil || n != 1 {
		t.Errorf("%d blobs swept: %v", n, err)
	}
	if h.get("bucket", "k") != body {
		t.Error("the sweep took an object's bytes")
	}
}
