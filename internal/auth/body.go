package auth

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"

	"skerry/internal/base/awserr"
)

// Body is the body of an authenticated request without the signature's framing.
// Read returns an *awserr.Error where the content is not what was signed, so only
// after io.EOF may a writer commit what it read.
type Body struct {
	reader io.Reader
	length int64
	whole  []byte
	chunks *chunkReader
}

// Read implements io.Reader.
func (b *Body) Read(p []byte) (int, error) { return b.reader.Read(p) }

// Length returns the number of bytes that the body will have, -1 if the client
// doesn't say.
func (b *Body) Length() int64 { return b.length }

// Bytes returns the body if it has been read whole (of all services but S3).
func (b *Body) Bytes() []byte { return b.whole }

// Trailer returns a header that came after the body, such as
// x-amz-checksum-crc32, given in lower case. There is none before io.EOF.
func (b *Body) Trailer(name string) (string, bool) {
	if b.chunks != nil {
		for _, t := range b.chunks.trailers {
			if t.name == name {
				return t.value, true
			}
		}
	}
	return "", false
}

// readBody prepares the body and returns the payload hash for the canonical
// request. seal is nil for requests without a signature of version 4.
func readBody(r *http.Request, o Options, seal *chunkSeal) (*Body, string, error) {
	if o.Family != S3 {
		whole, err := readWhole(r, o.MaxBody)
		if err != nil {
			return nil, "", err
		}
		payload := r.Header.Get("X-Amz-Content-Sha256")
		if payload != "UNSIGNED-PAYLOAD" && !strings.HasPrefix(payload, "STREAMING-") && seal != nil {
			sum := sha256.Sum256(whole)
			payload = hex.EncodeToString(sum[:])
		}
		return &Body{reader: bytes.NewReader(whole), length: int64(len(whole)), whole: whole}, payload, nil
	}
	payload := r.Header.Get("X-Amz-Content-Sha256")
	in := &bodyReader{r.Body, r.ContentLength}
	b := &Body{reader: in, length: r.ContentLength}
	switch {
	case payload == "" || payload == "UNSIGNED-PAYLOAD":
	case strings.HasPrefix(payload, "STREAMING-"):
		c, err := newChunkReader(r, in, payload, seal)
		if err != nil {
			return nil, "", err
		}
		b.reader, b.length, b.chunks = c, c.total, c
	case len(payload) == 64 && strings.Trim(payload, "0123456789abcdefABCDEF") == "":
		b.reader = &hashReader{in: in, want: strings.ToLower(payload), hash: sha256.New()}
	default:
		return nil, "", invalidArgument("x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER, STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD, STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER or a valid sha256 value.",
			"x-amz-content-sha256", payload)
	}
	return b, payload, nil
}

// readWhole reads a body of at most limit bytes.
func readWhole(r *http.Request, limit int64) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil, nil
	}
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	if r.ContentLength > 0 {
		whole := make([]byte, r.ContentLength)
		_, err := io.ReadFull(r.Body, whole)
		return whole, incomplete(err)
	}
	whole, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if int64(len(whole)) > limit {
		return nil, tooLarge(limit)
	}
	return whole, incomplete(err)
}

func tooLarge(limit int64) error {
	return awserr.New(http.StatusRequestEntityTooLarge, "RequestEntityTooLargeException", "Request is larger than %d bytes", limit)
}

// incomplete turns a broken connection into the error that S3 has for it. What is
// told as an error of AWS already stays so.
func incomplete(err error) error {
	if _, ok := errors.AsType[awserr.API](err); ok {
		return err
	}
	if err == nil || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return awserr.New(http.StatusBadRequest, "IncompleteBody", "You did not provide the number of bytes specified by the Content-Length HTTP header")
}

// bodyReader is the connection's body with its faults as AWS errors.
type bodyReader struct {
	in     io.Reader
	length int64
}

func (b *bodyReader) Read(p []byte) (int, error) {
	if b.in == nil {
		return 0, io.EOF
	}
	n, err := b.in.Read(p)
	if err != nil && err != io.EOF {
		err = incomplete(err)
	}
	return n, err
}

// hashReader compares a body with its signed SHA-256 at the end.
type hashReader struct {
	in   io.Reader
	hash hash.Hash
	want string
	err  error
}

func (h *hashReader) Read(p []byte) (int, error) {
	if h.err != nil {
		return 0, h.err
	}
	n, err := h.in.Read(p)
	h.hash.Write(p[:n])
	if err == io.EOF {
		if got := hex.EncodeToString(h.hash.Sum(nil)); got != h.want {
			err = awserr.New(http.StatusBadRequest, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed.").
				With("ClientComputedContentSHA256", h.want).With("S3ComputedContentSHA256", got)
		}
	}
	h.err = err
	return n, err
}

// decodedLength reads x-amz-decoded-content-length. Of a stream whose length the
// client itself doesn't know it is -1: boto3 and the Go SDK send neither length.
func decodedLength(r *http.Request) (int64, error) {
	text := r.Header.Get("X-Amz-Decoded-Content-Length")
	if text == "" && r.ContentLength < 0 {
		return -1, nil
	}
	if text == "" {
		return 0, awserr.New(http.StatusLengthRequired, "MissingContentLength", "You must provide the Content-Length HTTP header.")
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, invalidArgument("The value of x-amz-decoded-content-length is not a length.", "x-amz-decoded-content-length", text)
	}
	return n, nil
}
