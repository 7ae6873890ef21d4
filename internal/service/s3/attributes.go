package s3

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"skerry/internal/auth"
	"skerry/internal/base/awserr"
)

const (
	maxKey  = 1024     // bytes of a key
	maxMeta = 2 * 1024 // bytes of all user metadata, names and values
)

// attributes are what PutObject, CopyObject and CreateMultipartUpload say about
// the object to come.
type attributes struct {
	acl        aclRequest
	headers    headerRow
	meta       map[string]string
	encryption *string
	customer   [3]*string // algorithm, key, MD5
	class      *string
	tagging    *string
	lockMode   *string
	retain     *time.Time
	hold       *string
}

// checkKey checks the name of an object to be written.
func checkKey(key *string) error {
	k := value(key)
	if len(k) > maxKey {
		return awserr.New(400, "KeyTooLongError", "Your key is too long").With("Size", itoa(len(k))).With("MaxSizeAllowed", itoa(maxKey))
	}
	if k == "" || !utf8.ValidString(k) {
		return awserr.New(400, "InvalidURI", "Couldn't parse the specified URI.").With("URI", url.PathEscape(k))
	}
	return nil
}

// newObject makes the row of an object to be written, all but its content, and
// returns its data key.
func (s *Service) newObject(ctx context.Context, sc auth.Scope, b *bucketRow, key *string, a attributes) (*objectRow, []byte, error) {
	if err := checkKey(key); err != nil {
		return nil, nil, err
	}
	o := &objectRow{Key: value(key), Headers: a.headers, Owner: sc.Account}
	if sc.Account == "" {
		o.Owner = b.Account // written by an anonymous caller
	}
	o.Headers.ContentEncoding = storedEncoding(o.Headers.ContentEncoding)
	if o.Headers.ContentType == "" {
		o.Headers.ContentType = "binary/octet-stream"
	}
	if to := o.Headers.Redirect; to != "" && !strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "http://") && !strings.HasPrefix(to, "https://") {
		return nil, nil, awserr.New(400, "InvalidRedirectLocation", "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.")
	}
	var err error
	if o.Meta, err = checkMeta(a.meta); err != nil {
		return nil, nil, err
	}
	if o.Class, err = storageClass(a.class); err != nil {
		return nil, nil, err
	}
	if o.Tags, err = parseTagging(a.tagging); err != nil {
		return nil, nil, err
	}
	if o.ACL, err = s.parseACL(b, sc, a.acl); err != nil {
		return nil, nil, err
	}
	if b.Owner == ownerEnforced || b.Owner == ownerPreferred && value(a.acl.canned) == "bucket-owner-full-control" {
		o.Owner = b.Account
	}
	if err = s.lockNew(b, o, a); err != nil {
		return nil, nil, err
	}
	dataKey, err := s.sealNew(ctx, b, o, a)
	return o, dataKey, err
}

// storedEncoding returns the content encoding without aws-chunked, which is of the
// transfer and not of the object.
func storedEncoding(header string) string {
	if !strings.Contains(header, "aws-chunked") {
		return header
	}
	var kept []string
	for part := range strings.SplitSeq(header, ",") {
		if part = strings.TrimSpace(part); part != "" && part != "aws-chunked" {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, ",")
}

// sealNew decides how a new object is encrypted and makes its data key.
func (s *Service) sealNew(ctx context.Context, b *bucketRow, o *objectRow, a attributes) ([]byte, error) {
	c, err := parseCustomerKey(a.customer[0], a.customer[1], a.customer[2])
	if err != nil {
		return nil, err
	}
	switch alg := value(a.encryption); {
	case alg != "" && c != nil:
		return nil, invalidArgument("x-amz-server-side-encryption", alg, "Server Side Encryption with Customer provided key is incompatible with the encryption method specified")
	case alg == "aws:kms" || alg == "aws:kms:dsse" || alg == "aws:fsx" || alg == "aws:backup":
		return nil, notImplemented("x-amz-server-side-encryption")
	case alg != "" && alg != "AES256":
		return nil, awserr.New(400, "InvalidEncryptionAlgorithmError", "The encryption request that you specified is not valid. The valid value is AES256.").
			With("ArgumentName", "x-amz-server-side-encryption").With("ArgumentValue", alg)
	case c != nil && b.Encrypt != nil && slices.Contains(b.Encrypt.Blocked, "SSE-C"):
		return nil, accessDenied()
	}
	var dataKey []byte
	o.Seal, dataKey, err = s.newSeal(ctx, c)
	return dataKey, err
}

func checkMeta(meta map[string]string) (map[string]string, error) {
	size := 0
	for k, v := range meta {
		size += len(k) + len(v)
	}
	if size > maxMeta {
		return nil, awserr.New(400, "MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size").
			With("Size", itoa(size)).With("MaxSizeAllowed", itoa(maxMeta))
	}
	if len(meta) == 0 {
		return nil, nil
	}
	return meta, nil
}

// storageClass checks a storage class and returns what is stored of it. Archives,
// from which objects must first be restored, do not exist here.
func storageClass(class *string) (string, error) {
	switch c := value(class); c {
	case "", "STANDARD":
		return "", nil
	case "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR":
		return c, nil
	case "GLACIER", "DEEP_ARCHIVE", "OUTPOSTS", "SNOW", "EXPRESS_ONEZONE":
		return "", notImplemented("x-amz-storage-class")
	}
	return "", awserr.New(400, "InvalidStorageClass", "The storage class you specified is not valid").With("StorageClassRequested", *class)
}

// class returns the storage class as listings tell it.
func (o *objectRow) class() string {
	if o.Class == "" {
		return "STANDARD"
	}
	return o.Class
}
