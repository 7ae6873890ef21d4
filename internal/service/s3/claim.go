package s3

import (
	"crypto/md5"
	"encoding/base64"
	"hash"
	"io"
	"strings"

	"skerry/internal/base/awserr"
	"skerry/internal/service/s3/checksum"
)

// sums are the ten checksum members that many inputs and outputs have, in the
// order of checksum.All.
type sums [10]*string

// given returns the one checksum that a client sent, if it sent one.
func (v sums) given() (checksum.Algorithm, string, error) {
	var alg checksum.Algorithm
	for i, a := range checksum.All() {
		if v[i] == nil {
			continue
		}
		if alg != "" {
			return "", "", invalidRequest("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
		}
		alg = a
	}
	if alg == "" {
		return "", "", nil
	}
	return alg, *v[at(alg)], nil
}

// at returns the place of an algorithm in sums.
func at(a checksum.Algorithm) int {
	for i, b := range checksum.All() {
		if a == b {
			return i
		}
	}
	return 0
}

// sumsOf returns the members with one of them set.
func sumsOf(a checksum.Algorithm, text string) (v sums) {
	if a != "" && text != "" {
		v[at(a)] = &text
	}
	return v
}

// claim is what a client says about a body, and which checksum is computed and
// kept whatever it says.
type claim struct {
	md5       []byte // Content-MD5; nil if not sent
	algorithm checksum.Algorithm
	asked     bool   // the client named the algorithm
	value     string // empty if not sent in a header
	// also is the algorithm whose digest is kept, where that is another one than
	// the client's; empty if not.
	also checksum.Algorithm
}

// trailing is what a body is whose request announced checksums that follow it
// (x-amz-trailer).
type trailing interface {
	// Trailers returns the announced names, in lower case.
	Trailers() []string
	// Trailer returns a value, which is known at the end of the body.
	Trailer(name string) string
}

// newClaim reads the headers of a body. named is x-amz-sdk-checksum-algorithm;
// fallback is the algorithm to use if the client names none.
func newClaim(contentMD5 *string, v sums, named *string, body io.Reader, fallback checksum.Algorithm) (claim, error) {
	c := claim{algorithm: fallback}
	if contentMD5 != nil {
		raw, err := base64.StdEncoding.DecodeString(*contentMD5)
		if err != nil || len(raw) != md5.Size {
			return c, awserr.New(400, "InvalidDigest", "The Content-MD5 you specified was invalid.").With("Content-MD5", *contentMD5)
		}
		c.md5 = raw
	}
	alg, text, err := v.given()
	if err != nil {
		return c, err
	}
	if named != nil {
		a, ok := checksum.Parse(*named)
		if !ok {
			return c, invalidRequest("Checksum algorithm provided is unsupported. Please try again with any of the valid types: [" + algorithmNames() + "]")
		}
		if alg != "" && alg != a {
			return c, invalidRequest("Value for x-amz-sdk-checksum-algorithm header is invalid.")
		}
		c.algorithm, c.asked = a, true
	}
	if alg != "" {
		if !alg.Valid(text) {
			return c, invalidRequest("Value for " + alg.Header() + " header is invalid.")
		}
		c.algorithm, c.value, c.asked = alg, text, true
		return c, nil
	}
	if t, ok := body.(trailing); ok {
		for _, name := range t.Trailers() {
			if a, ok := checksum.FromHeader(name); ok {
				c.algorithm, c.asked = a, true
			}
		}
	}
	return c, nil
}

func algorithmNames() string {
	var names []string
	for _, a := range checksum.All() {
		names = append(names, string(a))
	}
	return strings.Join(names, ", ")
}

// digester computes the MD5 and the additional checksums of a body.
type digester struct {
	md5, sum, kept hash.Hash // sum and kept are md5, or each other, where they can be
}

func (c claim) digester() digester {
	d := digester{md5: md5.New()}
	d.sum = d.md5
	if c.algorithm != checksum.MD5 {
		d.sum = c.algorithm.New()
	}
	switch d.kept = d.sum; {
	case c.also == checksum.MD5:
		d.kept = d.md5
	case c.also != "" && c.also != c.algorithm:
		d.kept = c.also.New()
	}
	return d
}

func (d digester) Write(p []byte) (int, error) {
	d.md5.Write(p)
	if d.sum != d.md5 {
		d.sum.Write(p)
	}
	if d.kept != d.sum && d.kept != d.md5 {
		d.kept.Write(p)
	}
	return len(p), nil
}

// verify compares what the client said with what came, once the body has ended.
func (c claim) verify(sum5, sum []byte, body io.Reader) error {
	if c.md5 != nil && string(c.md5) != string(sum5) {
		return awserr.New(400, "BadDigest", "The Content-MD5 you specified did not match what we received.").
			With("ExpectedDigest", base64.StdEncoding.EncodeToString(c.md5)).
			With("CalculatedDigest", base64.StdEncoding.EncodeToString(sum5))
	}
	want := c.value
	if t, ok := body.(trailing); ok && want == "" {
		want = t.Trailer(c.algorithm.Header())
		if want != "" && !c.algorithm.Valid(want) {
			return invalidRequest("Value for " + c.algorithm.Header() + " trailing header is invalid.")
		}
	}
	if want != "" && want != checksum.Encode(sum) {
		return badDigest(string(c.algorithm))
	}
	return nil
}
