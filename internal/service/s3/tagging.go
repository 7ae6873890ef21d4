package s3

import (
	"context"
	"net/url"
	"strings"
	"unicode/utf8"

	"skerry/internal/api/s3"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/store"
)

const (
	maxObjectTags = 10
	maxBucketTags = 50
	maxTagKey     = 128 // characters
	maxTagValue   = 256
)

// parseTags checks a list of tags.
func parseTags(set []s3.Tag, limit int) ([]tag, error) {
	var out []tag
	seen := map[string]bool{}
	for _, t := range set {
		k, v := value(t.Key), value(t.Value)
		switch {
		case k == "" || utf8.RuneCountInString(k) > maxTagKey:
			return nil, awserr.New(400, "InvalidTag", "The TagKey you have provided is invalid").With("TagKey", k)
		case utf8.RuneCountInString(v) > maxTagValue:
			return nil, awserr.New(400, "InvalidTag", "The TagValue you have provided is invalid").With("TagKey", k).With("TagValue", v)
		case seen[k]:
			return nil, awserr.New(400, "InvalidTag", "Cannot provide multiple Tags with the same key").With("TagKey", k)
		case strings.HasPrefix(strings.ToLower(k), "aws:"):
			return nil, awserr.New(400, "InvalidTag", "System tags cannot be added/updated by requester").With("TagKey", k)
		}
		seen[k] = true
		out = append(out, tag{k, v})
	}
	if len(out) > limit {
		what := "Object"
		if limit == maxBucketTags {
			what = "Bucket"
		}
		return nil, awserr.New(400, "BadRequest", "%s tags cannot be greater than %d", what, limit)
	}
	return out, nil
}

// parseTagging reads the header x-amz-tagging.
func parseTagging(header *string) ([]tag, error) {
	if value(header) == "" {
		return nil, nil
	}
	q, err := url.ParseQuery(*header)
	bad := err != nil
	var set []s3.Tag
	for _, pair := range strings.Split(*header, "&") {
		k, v, _ := strings.Cut(pair, "=")
		k, err1 := url.QueryUnescape(k)
		v, err2 := url.QueryUnescape(v)
		bad = bad || err1 != nil || err2 != nil || len(q[k]) > 1
		set = append(set, s3.Tag{Key: &k, Value: &v})
	}
	if bad {
		return nil, invalidArgument("x-amz-tagging", *header, "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates.")
	}
	return parseTags(set, maxObjectTags)
}

func showTags(tags []tag) []s3.Tag {
	out := make([]s3.Tag, 0, len(tags))
	for _, t := range tags {
		out = append(out, s3.Tag{Key: &t.Key, Value: &t.Value})
	}
	return out
}

// PutBucketTagging implements s3:PutBucketTagging.
func (s *Service) PutBucketTagging(ctx context.Context, sc auth.Scope, in *s3.PutBucketTaggingInput) (*s3.PutBucketTaggingOutput, error) {
	if in.Tagging == nil {
		return nil, malformedXML()
	}
	tags, err := parseTags(in.Tagging.TagSet, maxBucketTags)
	if err != nil {
		return nil, err
	}
	return &s3.PutBucketTaggingOutput{}, s.editBucket(ctx, in.Bucket, in.ExpectedBucketOwner, func(tx *store.Tx, b *bucketRow) error {
		b.Tags = tags
		return nil
	})
}

// GetBucketTagging implements s3:GetBucketTagging.
func (s *Service) GetBucketTagging(ctx context.Context, sc auth.Scope, in *s3.GetBucketTaggingInput) (*s3.GetBucketTaggingOutput, error) {
	b, err := s.viewBucket(ctx, in.Bucket, in.ExpectedBucketOwner)
	if err != nil {
		return nil, err
	}
	if len(b.Tags) == 0 {
		return nil, noConfiguration("NoSuchTagSet", "The TagSet does not exist", b.Name)
	}
	return &s3.GetBucketTaggingOutput{TagSet: showTags(b.Tags)}, nil
}

// DeleteBucketTagging implements s3:DeleteBucketTagging.
func (s *Service) DeleteBucketTagging(ctx context.Context, sc auth.Scope, in *s3.DeleteBucketTaggingInput) (*s3.DeleteBucketTaggingOutput, error) {
	return &s3.DeleteBucketTaggingOutput{}, s.editBucket(ctx, in.Bucket, in.ExpectedBucketOwner, func(tx *store.Tx, b *bucketRow) error {
		b.Tags = nil
		return nil
	})
}

// PutObjectTagging implements s3:PutObjectTagging.
func (s *Service) PutObjectTagging(ctx context.Context, sc auth.Scope, in *s3.PutObjectTaggingInput) (*s3.PutObjectTaggingOutput, error) {
	if in.Tagging == nil {
		return nil, malformedXML()
	}
	tags, err := parseTags(in.Tagging.TagSet, maxObjectTags)
	if err != nil {
		return nil, err
	}
	b, o, err := s.editObject(ctx, objectName{in.Bucket, in.Key, in.VersionId, in.ExpectedBucketOwner}, func(tx *store.Tx, b *bucketRow, o *objectRow) error {
		o.Tags = tags
		return s.notify(tx, b, o, sc, "s3:ObjectTagging:Put")
	})
	if err != nil {
		return nil, err
	}
	return &s3.PutObjectTaggingOutput{VersionId: versionShown(b, o)}, nil
}

// GetObjectTagging implements s3:GetObjectTagging.
func (s *Service) GetObjectTagging(ctx context.Context, sc auth.Scope, in *s3.GetObjectTaggingInput) (*s3.GetObjectTaggingOutput, error) {
	b, o, err := s.viewObject(ctx, objectName{in.Bucket, in.Key, in.VersionId, in.ExpectedBucketOwner})
	if err != nil {
		return nil, err
	}
	return &s3.GetObjectTaggingOutput{VersionId: versionShown(b, o), TagSet: showTags(o.Tags)}, nil
}

// DeleteObjectTagging implements s3:DeleteObjectTagging.
func (s *Service) DeleteObjectTagging(ctx context.Context, sc auth.Scope, in *s3.DeleteObjectTaggingInput) (*s3.DeleteObjectTaggingOutput, error) {
	b, o, err := s.editObject(ctx, objectName{in.Bucket, in.Key, in.VersionId, in.ExpectedBucketOwner}, func(tx *store.Tx, b *bucketRow, o *objectRow) error {
		o.Tags = nil
		return s.notify(tx, b, o, sc, "s3:ObjectTagging:Delete")
	})
	if err != nil {
		return nil, err
	}
	return &s3.DeleteObjectTaggingOutput{VersionId: versionShown(b, o)}, nil
}
