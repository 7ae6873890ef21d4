package auth

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"skerry/internal/base/awserr"
)

// chunkSeal verifies a chain of signatures: the request's, then each chunk's
// with the one before in it. Page: "Signature Calculations for the Authorization
// Header: Transferring Payload in Multiple Chunks".
type chunkSeal struct {
	algorithm, stamp, scope string
	previous                string
	secret                  []byte           // version 4
	public                  *ecdsa.PublicKey // version 4A
}

// valid tells whether a signature is over a text.
func (c *chunkSeal) valid(text, signature string) bool {
	if c.algorithm == algorithm4A {
		return verifyECDSA(c.public, text, signature)
	}
	h := hmac.New(sha256.New, c.secret)
	h.Write([]byte(text))
	var want [64]byte
	return sameText(string(appendHex(want[:0], h.Sum(nil))), signature)
}

// next verifies the signature of a chunk or of the trailers. hashes are the last
// lines of the string to sign.
func (c *chunkSeal) next(suffix, signature string, hashes ...string) bool {
	signature = strings.TrimRight(signature, "*") // 4A's are padded to one length
	text := strings.Join(append([]string{c.algorithm + suffix, c.stamp, c.scope, c.previous}, hashes...), "\n")
	c.previous = signature
	return c.valid(text, signature)
}

// chunkReader reads aws-chunked bodies.
type chunkReader struct {
	in       *bufio.Reader
	seal     *chunkSeal // nil: chunks are not signed
	hash     hash.Hash
	trailing bool
	declared []string // names in x-amz-trailer
	trailers []pair
	total    int64 // x-amz-decoded-content-length; -1 if unknown
	left     int64 // of the total
	chunk    int64 // left of the current chunk
	last     int64 // size of the current chunk
	began    bool
	sign     string // the current chunk's signature
	err      error
}

const (
	maxLine      = 4096 // bytes in a chunk's header or a trailer
	maxTrailers  = 32
	minChunkSize = 8192 // of all signed chunks but the last
)

func newChunkReader(r *http.Request, in io.Reader, payload string, seal *chunkSeal) (*chunkReader, error) {
	c := &chunkReader{in: bufio.NewReaderSize(in, 32<<10)}
	name, trailing := strings.CutSuffix(payload, "-TRAILER")
	c.trailing = trailing
	switch {
	case name == "STREAMING-UNSIGNED-PAYLOAD" && trailing:
	case seal != nil && name == "STREAMING-"+seal.algorithm+"-PAYLOAD":
		c.seal, c.hash = seal, sha256.New()
	default:
		return nil, invalidArgument("The value of x-amz-content-sha256 does not go with the request's signature.", "x-amz-content-sha256", payload)
	}
	total, err := decodedLength(r)
	if err != nil {
		return nil, err
	}
	c.total, c.left = total, total
	for _, list := range r.Header["X-Amz-Trailer"] {
		for _, name := range strings.Split(list, ",") {
			c.declared = append(c.declared, strings.ToLower(strings.TrimSpace(name)))
		}
	}
	return c, nil
}

// Read implements io.Reader.
func (c *chunkReader) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if c.chunk == 0 {
		if c.err = c.nextChunk(); c.err != nil {
			return 0, c.err
		}
	}
	n, err := c.in.Read(p[:min(int64(len(p)), c.chunk)])
	c.chunk -= int64(n)
	c.left -= int64(n)
	if c.hash != nil {
		c.hash.Write(p[:n])
	}
	if err == io.EOF {
		err = shortBody()
	}
	c.err = err
	return n, err
}

// nextChunk closes the current chunk and opens the next one; io.EOF after the
// last.
func (c *chunkReader) nextChunk() error {
	if c.began {
		if line, err := c.line(); err != nil || line != "" {
			return badChunk(err)
		}
		if err := c.verifyChunk(); err != nil {
			return err
		}
	}
	line, err := c.line()
	if err != nil {
		return badChunk(err)
	}
	size, extension, _ := strings.Cut(line, ";")
	n, err := strconv.ParseInt(strings.TrimSpace(size), 16, 64)
	if err != nil || n < 0 {
		return badChunk(nil)
	}
	if c.seal != nil {
		sign, ok := strings.CutPrefix(extension, "chunk-signature=")
		if !ok {
			return badChunk(nil)
		}
		if n > 0 && c.began && c.last < minChunkSize {
			return awserr.New(http.StatusForbidden, "InvalidChunkSizeError", "Only the last chunk is allowed to have a size less than 8192 bytes").
				With("BadChunkSize", strconv.FormatInt(c.last, 10))
		}
		c.sign = sign
	}
	if c.total >= 0 && n > c.left {
		return awserr.New(http.StatusBadRequest, "IncompleteBody", "The request body has more bytes than x-amz-decoded-content-length says")
	}
	c.chunk, c.last, c.began = n, n, true
	if n > 0 {
		return nil
	}
	return c.finish()
}

// verifyChunk verifies the signature of the chunk just read.
func (c *chunkReader) verifyChunk() error {
	if c.seal == nil {
		return nil
	}
	var sum [32]byte
	text := hex.EncodeToString(c.hash.Sum(sum[:0]))
	c.hash.Reset()
	if !c.seal.next("-PAYLOAD", c.sign, emptySHA, text) {
		return awserr.New(http.StatusForbidden, "SignatureDoesNotMatch", "%s", mismatch+" Check your key and signing method.")
	}
	return nil
}

// finish reads what follows the last chunk.
func (c *chunkReader) finish() error {
	if err := c.verifyChunk(); err != nil {
		return err
	}
	if c.total >= 0 && c.left != 0 {
		return shortBody()
	}
	if c.trailing {
		if err := c.readTrailers(); err != nil {
			return err
		}
	} else if line, err := c.line(); err != nil && err != io.EOF || line != "" {
		return badChunk(err)
	}
	if _, err := io.CopyN(io.Discard, c.in, 1); err != io.EOF {
		return badChunk(nil)
	}
	return io.EOF
}

func (c *chunkReader) readTrailers() error {
	signature, signed := "", sha256.New()
	for {
		line, err := c.line()
		if err == io.EOF || err == nil && line == "" && (c.seal == nil || signature != "") {
			break
		}
		if err != nil {
			return badChunk(err)
		}
		if line == "" { // between the trailers and their signature
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		if !ok || len(c.trailers) >= maxTrailers {
			return badTrailer()
		}
		if name == "x-amz-trailer-signature" {
			signature = value
			continue
		}
		if !slices.Contains(c.declared, name) {
			return badTrailer()
		}
		_, _ = io.WriteString(signed, name+":"+value+"\n") // a hash never fails
		c.trailers = append(c.trailers, pair{name, value})
	}
	if len(c.trailers) < len(c.declared) {
		return badTrailer()
	}
	if c.seal != nil && !c.seal.next("-TRAILER", signature, hex.EncodeToString(signed.Sum(nil))) {
		return awserr.New(http.StatusForbidden, "SignatureDoesNotMatch", "%s", mismatch+" Check your key and signing method.")
	}
	return nil
}

// line reads a line without its end; io.EOF only if there is nothing at all.
func (c *chunkReader) line() (string, error) {
	var line []byte
	for {
		part, err := c.in.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxLine:
			return "", badTrailer()
		case err == bufio.ErrBufferFull:
			continue
		case err == io.EOF && len(line) == 0:
			return "", io.EOF
		case err == io.EOF:
			return strings.TrimRight(string(line), "\r"), nil
		case err != nil:
			return "", err
		}
		return strings.TrimRight(string(line), "\r\n"), nil
	}
}

// badChunk is the fault of a broken frame, or the reason that reading it failed.
func badChunk(err error) error {
	if err != nil && err != io.EOF {
		return err
	}
	return shortBody()
}

func shortBody() error {
	return awserr.New(http.StatusBadRequest, "IncompleteBody", "The request body terminated unexpectedly")
}

func badTrailer() error {
	return awserr.New(http.StatusBadRequest, "MalformedTrailerError",
		"The request contained trailing data that was not well-formed or did not conform to our published schema.")
}
