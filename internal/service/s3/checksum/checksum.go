// Package checksum computes the additional checksums of Amazon S3 ("Checking
// object integrity"): of a whole body, of the parts of a multipart upload taken
// together, and of a composite of parts.
//
// A value is written as standard base64 of the big-endian digest; a composite
// one has "-N" behind it, N being the number of parts.
package checksum

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"hash"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/minio/crc64nvme"
	"github.com/zeebo/xxh3"
)

// Algorithm is the name of an algorithm as in x-amz-checksum-algorithm.
type Algorithm string

// The algorithms.
const (
	CRC32     Algorithm = "CRC32"
	CRC32C    Algorithm = "CRC32C"
	CRC64NVME Algorithm = "CRC64NVME"
	SHA1      Algorithm = "SHA1"
	SHA256    Algorithm = "SHA256"
	SHA512    Algorithm = "SHA512"
	MD5       Algorithm = "MD5"
	XXHash64  Algorithm = "XXHASH64"
	XXHash3   Algorithm = "XXHASH3"
	XXHash128 Algorithm = "XXHASH128"
)

// The types of a multipart object's checksum.
const (
	Composite  = "COMPOSITE"
	FullObject = "FULL_OBJECT"
)

// All lists the algorithms in the order of the service model.
func All() []Algorithm {
	return []Algorithm{CRC32, CRC32C, CRC64NVME, SHA1, SHA256, SHA512, MD5, XXHash64, XXHash3, XXHash128}
}

// Parse returns the algorithm of that name, in any case.
func Parse(name string) (Algorithm, bool) {
	a := Algorithm(strings.ToUpper(name))
	return a, slices.Contains(All(), a)
}

// Header returns the name of the header that carries a value, in lower case.
func (a Algorithm) Header() string { return "x-amz-checksum-" + strings.ToLower(string(a)) }

// FromHeader returns the algorithm whose value a header of that name carries.
func FromHeader(name string) (Algorithm, bool) {
	rest, ok := strings.CutPrefix(strings.ToLower(name), "x-amz-checksum-")
	if !ok {
		return "", false
	}
	return Parse(rest)
}

// Allows says whether a multipart upload may ask for a checksum of that type.
// The cyclic redundancy checks can be combined to that of the full object; only
// they can, and CRC64NVME is never a composite.
func (a Algorithm) Allows(kind string) bool {
	switch a {
	case CRC64NVME:
		return kind == FullObject
	case CRC32, CRC32C:
		return kind == FullObject || kind == Composite
	default:
		return kind == Composite
	}
}

// DefaultType is the type of a multipart upload that names only the algorithm.
func (a Algorithm) DefaultType() string {
	if a == CRC64NVME {
		return FullObject
	}
	return Composite
}

// New returns a fresh hash of the algorithm. It panics for an algorithm that
// Parse does not return.
func (a Algorithm) New() hash.Hash {
	switch a {
	case CRC32:
		return crc32.NewIEEE()
	case CRC32C:
		return crc32.New(crc32.MakeTable(crc32.Castagnoli))
	case CRC64NVME:
		return crc64nvme.New()
	case SHA1:
		return sha1.New()
	case SHA256:
		return sha256.New()
	case SHA512:
		return sha512.New()
	case MD5:
		return md5.New()
	case XXHash64:
		return xxhash.New()
	case XXHash3:
		return xxh3.New()
	case XXHash128:
		return &wide{xxh3.New()}
	}
	panic("checksum: unknown algorithm " + string(a))
}

// wide is XXH3 with its 128-bit result, high half first, the canonical form.
type wide struct{ *xxh3.Hasher }

func (w *wide) Size() int { return 16 }

func (w *wide) Sum(b []byte) []byte {
	sum := w.Sum128().Bytes()
	return append(b, sum[:]...)
}

// Encode writes a digest as S3 does.
func Encode(digest []byte) string { return base64.StdEncoding.EncodeToString(digest) }

// Valid says whether value has the form of a checksum of the algorithm: base64
// of the right length. A composite's "-N" is not part of the form.
func (a Algorithm) Valid(value string) bool {
	raw, err := base64.StdEncoding.DecodeString(value)
	return err == nil && len(raw) == a.New().Size()
}

// A Part is a part's digest and its length in bytes.
type Part struct {
	Digest []byte
	Size   int64
}

// OfParts returns the value of an object made of parts, of the given type, and
// false if a part's digest has the wrong length or the type does not exist for
// the algorithm.
func (a Algorithm) OfParts(kind string, parts []Part) (string, bool) {
	if !a.Allows(kind) || len(parts) == 0 {
		return "", false
	}
	size := a.New().Size()
	for _, p := range parts {
		if len(p.Digest) != size {
			return "", false
		}
	}
	if kind == FullObject {
		return Encode(a.combine(parts)), true
	}
	h := a.New()
	for _, p := range parts {
		h.Write(p.Digest)
	}
	return Encode(h.Sum(nil)) + "-" + strconv.Itoa(len(parts)), true
}
