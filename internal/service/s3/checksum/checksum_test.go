package checksum_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"skerry/internal/service/s3/checksum"
)

// The values are the published check values of each algorithm ("123456789"),
// as base64 of their big-endian bytes.
func TestKnownValues(t *testing.T) {
	for _, tc := range []struct {
		alg  checksum.Algorithm
		want string
	}{
		{checksum.CRC32, "cbf43926"},
		{checksum.CRC32C, "e3069283"},
		{checksum.CRC64NVME, "ae8b14860a799888"},
		{checksum.SHA1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441"},
		{checksum.SHA256, "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"},
		{checksum.MD5, "25f9e794323b453885f5181f1b624d0b"},
		{checksum.XXHash64, "8cb841db40e6ae83"},
	} {
		h := tc.alg.New()
		h.Write([]byte("123456789"))
		if got := fmt.Sprintf("%x", h.Sum(nil)); got != tc.want {
			t.Errorf("%s = %s, want %s", tc.alg, got, tc.want)
		}
	}
	// The empty input, from the reference implementation's own tests.
	for alg, want := range map[checksum.Algorithm]string{
		checksum.XXHash3:   "2d06800538d394c2",
		checksum.XXHash128: "99aa06d3014798d86001c324468d497f",
	} {
		if got := fmt.Sprintf("%x", alg.New().Sum(nil)); got != want {
			t.Errorf("%s of nothing = %s, want %s", alg, got, want)
		}
	}
}

func TestFullObjectEqualsHashOfAll(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, alg := range checksum.All() {
		if !alg.Allows(checksum.FullObject) {
			continue
		}
		for round := range 50 {
			var parts []checksum.Part
			whole := alg.New()
			for range 1 + rnd.IntN(6) {
				body := make([]byte, rnd.IntN(9000))
				for i := range body {
					body[i] = byte(rnd.Uint32())
				}
				h := alg.New()
				h.Write(body)
				whole.Write(body)
				parts = append(parts, checksum.Part{Digest: h.Sum(nil), Size: int64(len(body))})
			}
			got, ok := alg.OfParts(checksum.FullObject, parts)
			if want := checksum.Encode(whole.Sum(nil)); !ok || got != want {
				t.Fatalf("%s round %d: %s %t, want %s", alg, round, got, ok, want)
			}
		}
	}
}

func TestComposite(t *testing.T) {
	a, b := checksum.SHA256.New(), checksum.SHA256.New()
	a.Write([]byte("one"))
	b.Write([]byte("two"))
	all := checksum.SHA256.New()
	all.Write(bytes.Join([][]byte{a.Sum(nil), b.Sum(nil)}, nil))
	got, ok := checksum.SHA256.OfParts(checksum.Composite, []checksum.Part{{Digest: a.Sum(nil)}, {Digest: b.Sum(nil)}})
	if want := checksum.Encode(all.Sum(nil)) + "-2"; !ok || got != want {
		t.Errorf("composite = %s %t, want %s", got, ok, want)
	}
	if _, ok := checksum.CRC64NVME.OfParts(checksum.Composite, []checksum.Part{{Digest: make([]byte, 8)}}); ok {
		t.Error("CRC64NVME has a composite")
	}
	if _, ok := checksum.SHA1.OfParts(checksum.FullObject, []checksum.Part{{Digest: make([]byte, 20)}}); ok {
		t.Error("SHA1 has a full object type")
	}
}

func TestValid(t *testing.T) {
	if !checksum.CRC32.Valid("AAAAAA==") || checksum.CRC32.Valid("AAAA") || checksum.CRC32.Valid("!") {
		t.Error("form of CRC32 is misjudged")
	}
	if a, ok := checksum.FromHeader("X-Amz-Checksum-Crc64nvme"); !ok || a != checksum.CRC64NVME {
		t.Errorf("header names %q", a)
	}
}
