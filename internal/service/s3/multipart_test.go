package s3

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"skerry/internal/api/s3"
	"skerry/internal/service/s3/checksum"
	"skerry/internal/wire"
)

// upload begins an upload and sends its parts.
func (h *harness) begin(key string, alg, kind *string, parts ...[]byte) (*string, []s3.CompletedPart) {
	h.t.Helper()
	id := do[s3.CreateMultipartUploadOutput](h, h.root, &s3.CreateMultipartUploadInput{Bucket: wire.Ptr("bucket"), Key: &key, ChecksumAlgorithm: alg, ChecksumType: kind}).UploadId
	var list []s3.CompletedPart
	for i, body := range parts {
		n := int32(i + 1)
		out := do[s3.UploadPartOutput](h, h.root, &s3.UploadPartInput{Bucket: wire.Ptr("bucket"), Key: &key, UploadId: id, PartNumber: &n, Body: bytes.NewReader(body)})
		p := s3.CompletedPart{PartNumber: &n, ETag: out.ETag}
		if alg != nil {
			p.ChecksumCRC32, p.ChecksumCRC32C, p.ChecksumCRC64NVME, p.ChecksumSHA1, p.ChecksumSHA256 = out.ChecksumCRC32, out.ChecksumCRC32C, out.ChecksumCRC64NVME, out.ChecksumSHA1, out.ChecksumSHA256
			p.ChecksumSHA512, p.ChecksumMD5, p.ChecksumXXHASH64, p.ChecksumXXHASH3, p.ChecksumXXHASH128 = out.ChecksumSHA512, out.ChecksumMD5, out.ChecksumXXHASH64, out.ChecksumXXHASH3, out.ChecksumXXHASH128
		}
		list = append(list, p)
	}
	return id, list
}

func complete(key string, id *string, parts []s3.CompletedPart) *s3.CompleteMultipartUploadInput {
	return &s3.CompleteMultipartUploadInput{Bucket: wire.Ptr("bucket"), Key: &key, UploadId: id, MultipartUpload: &s3.CompletedMultipartUpload{Parts: parts}}
}

func TestMultipart(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", false)
	a, b, c := noise(minPartSize, 1), noise(minPartSize, 2), noise(1000, 3)
	whole := string(a) + string(b) + string(c)
	kinds := []string{checksum.Composite, checksum.FullObject}
	for _, alg := range checksum.All() {
		for _, kind := range kinds {
			if !alg.Allows(kind) {
				in := &s3.CreateMultipartUploadInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k"), ChecksumAlgorithm: wire.Ptr(string(alg)), ChecksumType: &kind}
				refuse(h, h.root, in, "InvalidRequest")
				continue
			}
			id, parts := h.begin("k", wire.Ptr(string(alg)), &kind, a, b, c)
			out := do[s3.CompleteMultipartUploadOutput](h, h.root, complete("k", id, parts))
			v := sums{out.ChecksumCRC32, out.ChecksumCRC32C, out.ChecksumCRC64NVME, out.ChecksumSHA1, out.ChecksumSHA256,
				out.ChecksumSHA512, out.ChecksumMD5, out.ChecksumXXHASH64, out.ChecksumXXHASH3, out.ChecksumXXHASH128}
			got, text, err := v.given()
			sum := alg.New()
			sum.Write([]byte(whole))
			if full := checksum.Encode(sum.Sum(nil)); err != nil || got != alg || *out.ChecksumType != kind ||
				kind == checksum.FullObject && text != full || kind == checksum.Composite && !strings.HasSuffix(text, "-3") {
				t.Errorf("%s %s: %s %s %v", alg, kind, got, text, err)
			}
		}
	}
	all := md5.New()
	for _, p := range [][]byte{a, b, c} {
		d := md5.Sum(p)
		all.Write(d[:])
	}
	out := do[s3.GetObjectOutput](h, h.root, &s3.GetObjectInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k")})
	if got := h.read(out); got != whole || *out.ETag != quote(hex.EncodeToString(all.Sum(nil))+"-3") {
		t.Errorf("%d bytes, ETag %s", len(got), *out.ETag)
	}
	for _, r := range [][2]int{{0, 10}, {minPartSize - 5, minPartSize + 5}, {minPartSize, 2 * minPartSize}, {2*minPartSize - 1, len(whole)}} {
		out := do[s3.GetObjectOutput](h, h.root, &s3.GetObjectInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k"), Range: wire.Ptr(fmt.Sprintf("bytes=%d-%d", r[0], r[1]-1))})
		if got := h.read(out); got != whole[r[0]:r[1]] {
			t.Errorf("range %v differs", r)
		}
	}
	part := do[s3.GetObjectOutput](h, h.root, &s3.GetObjectInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k"), PartNumber: wire.Ptr(int32(3))})
	if got := h.read(part); got != string(c) || *part.PartsCount != 3 {
		t.Errorf("part 3 has %d bytes of %d parts", len(got), *part.PartsCount)
	}
	refuse(h, h.root, &s3.GetObjectInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k"), PartNumber: wire.Ptr(int32(4))}, "InvalidPartNumber")
	h.sweep()
	if n := h.blobs(); n != 2 { // the third part is short and inline
		t.Errorf("%d blobs are left of one object", n)
	}
}

// Whoever reads an object has it to its end, however long that takes, though it be
// overwritten.
func TestSlowReaderOfParts(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", false)
	a, b := noise(minPartSize, 1), noise(minPartSize, 2)
	id, parts := h.begin("k", nil, nil, a, b)
	do[s3.CompleteMultipartUploadOutput](h, h.root, complete("k", id, parts))
	out := do[s3.GetObjectOutput](h, h.root, &s3.GetObjectInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k")})
	h.put("bucket", "k", "short")
	h.sweep()
	h.sweep()
	if got := h.read(out); got != string(a)+string(b) {
		t.Errorf("%d bytes", len(got))
	}
	h.sweep()
	if n := h.blobs(); n != 0 {
		t.Errorf("%d blobs are left", n)
	}
}

func TestMultipartFaults(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", false)
	id, parts := h.begin("k", nil, nil, noise(10, 1), noise(10, 2))
	swapped := []s3.CompletedPart{parts[1], parts[0]}
	wrong := []s3.CompletedPart{{PartNumber: wire.Ptr(int32(1)), ETag: wire.Ptr(`"x"`)}}
	missing := []s3.CompletedPart{parts[0], {PartNumber: wire.Ptr(int32(9)), ETag: parts[1].ETag}}
	refuse(h, h.root, complete("k", id, parts), "EntityTooSmall")
	refuse(h, h.root, complete("k", id, swapped), "InvalidPartOrder")
	refuse(h, h.root, complete("k", id, wrong), "InvalidPart")
	refuse(h, h.root, complete("k", id, missing), "EntityTooSmall")
	refuse(h, h.root, complete("k", id, nil), "MalformedXML")
	refuse(h, h.root, complete("other", id, parts), "NoSuchUpload")
	sized := complete("k", id, parts[1:])
	sized.MpuObjectSize = wire.Ptr(int64(11))
	refuse(h, h.root, sized, "InvalidRequest")
	refuse(h, h.root, &s3.UploadPartInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k"), UploadId: id, PartNumber: wire.Ptr(int32(maxParts + 1)), Body: bytes.NewReader(nil)}, "InvalidArgument")

	// The last part alone is an object; the other one is given up.
	do[s3.CompleteMultipartUploadOutput](h, h.root, complete("k", id, parts[1:]))
	if got := h.get("bucket", "k"); got != string(noise(10, 2)) {
		t.Errorf("got %d bytes", len(got))
	}
	// Asked again, it answers the same.
	do[s3.CompleteMultipartUploadOutput](h, h.root, complete("k", id, parts[1:]))
	refuse(h, h.root, &s3.AbortMultipartUploadInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k"), UploadId: id}, "NoSuchUpload")

	aborted, _ := h.begin("k", nil, nil, noise(minPartSize, 1))
	do[s3.AbortMultipartUploadOutput](h, h.root, &s3.AbortMultipartUploadInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k"), UploadId: aborted})
	refuse(h, h.root, &s3.ListPartsInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k"), UploadId: aborted}, "NoSuchUpload")
	h.sweep()
	if b, c := h.blobs(), h.contentRows(); b != 0 || c != 2 {
		t.Errorf("%d blobs and %d contents are left of one small object of one part", b, c)
	}
}

func TestPartSentAgain(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", false)
	id, _ := h.begin("k", nil, nil, noise(100_000, 1))
	again := do[s3.UploadPartOutput](h, h.root, &s3.UploadPartInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k"), UploadId: id, PartNumber: wire.Ptr(int32(1)), Body: strings.NewReader("again")})
	do[s3.CompleteMultipartUploadOutput](h, h.root, complete("k", id, []s3.CompletedPart{{PartNumber: wire.Ptr(int32(1)), ETag: again.ETag}}))
	if got := h.get("bucket", "k"); got != "again" {
		t.Errorf("got %d bytes", len(got))
	}
	h.sweep()
	if n := h.blobs(); n != 0 {
		t.Errorf("%d blobs are left", n)
	}
}

func TestUploadPartCopy(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", false)
	body := string(noise(minPartSize+100, 5))
	h.put("bucket", "src", body)
	id, _ := h.begin("k", nil, nil)
	var parts []s3.CompletedPart
	for i, r := range []string{fmt.Sprintf("bytes=0-%d", minPartSize-1), "bytes=10-19"} {
		n := int32(i + 1)
		out := do[s3.UploadPartCopyOutput](h, h.root, &s3.UploadPartCopyInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k"), UploadId: id, PartNumber: &n, CopySource: wire.Ptr("/bucket/src"), CopySourceRange: &r})
		parts = append(parts, s3.CompletedPart{PartNumber: &n, ETag: out.CopyPartResult.ETag})
	}
	for _, r := range []string{"bytes=0-", "bytes=-5", "0-5", "bytes=0-99999999"} {
		refuse(h, h.root, &s3.UploadPartCopyInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k"), UploadId: id, PartNumber: wire.Ptr(int32(3)), CopySource: wire.Ptr("bucket/src"), CopySourceRange: &r}, "InvalidArgument")
	}
	do[s3.CompleteMultipartUploadOutput](h, h.root, complete("k", id, parts))
	if h.get("bucket", "k") != body[:minPartSize]+body[10:20] {
		t.Error("the parts differ from what was copied")
	}
}
