package s3

import (
	"context"
	"slices"

	"skerry/internal/api/s3"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/service/s3/checksum"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// objectName is how a request names a version of an object.
type objectName struct {
	bucket, key, version, expected *string
}

// find reads the version of an object that a request names. Errors: NoSuchBucket,
// NoSuchKey, NoSuchVersion, MethodNotAllowed for a delete marker named by its id.
func (s *Service) find(tx *store.Tx, n objectName) (*bucketRow, *objectRow, error) {
	b, err := s.bucket(tx, n.bucket, n.expected)
	if err != nil {
		return nil, nil, err
	}
	id := value(n.version)
	if n.version != nil && !validVersion(id) {
		return nil, nil, invalidArgument("versionId", id, "Invalid version id specified")
	}
	o, err := findVersion(tx, b, value(n.key), id)
	switch {
	case err != nil:
		return nil, nil, err
	case o == nil && id != "":
		return nil, nil, noSuchVersion(value(n.key), id)
	case o == nil:
		return nil, nil, noSuchKey(value(n.key))
	case o.Marker && id == "":
		return nil, nil, noSuchKey(value(n.key)).WithHeader("x-amz-delete-marker", "true").WithHeader("x-amz-version-id", o.Version)
	case o.Marker:
		return nil, nil, awserr.New(405, "MethodNotAllowed", "The specified method is not allowed against this resource.").
			With("Method", "GET").With("ResourceType", "DeleteMarker").
			WithHeader("x-amz-delete-marker", "true").WithHeader("x-amz-version-id", o.Version).
			WithHeader("Allow", "DELETE").WithHeader("Last-Modified", httpDate(o.Modified))
	}
	return b, o, nil
}

// validVersion says whether a text has the form of a version id.
func validVersion(id string) bool {
	if id == nullVersion {
		return true
	}
	_, ok := versionSeq(id)
	return ok
}

// viewObject is find in a transaction of its own.
func (s *Service) viewObject(ctx context.Context, n objectName) (b *bucketRow, o *objectRow, err error) {
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		b, o, err = s.find(tx, n)
		return err
	})
	return b, o, err
}

// editObject changes a stored version's row, but not its key or version.
func (s *Service) editObject(ctx context.Context, n objectName, edit func(tx *store.Tx, b *bucketRow, o *objectRow) error) (b *bucketRow, o *objectRow, err error) {
	err = s.Store.Update(ctx, func(tx *store.Tx) error {
		b, o, err = s.find(tx, n)
		if err != nil {
			return err
		}
		if err := edit(tx, b, o); err != nil {
			return err
		}
		return save(tx, o)
	})
	return b, o, err
}

// versionShown returns the version id as answers tell it: none in a bucket whose
// versioning was never on.
func versionShown(b *bucketRow, o *objectRow) *string {
	if b.State == "" {
		return nil
	}
	return &o.Version
}

// GetObjectAttributes implements s3:GetObjectAttributes.
func (s *Service) GetObjectAttributes(ctx context.Context, sc auth.Scope, in *s3.GetObjectAttributesInput) (*s3.GetObjectAttributesOutput, error) {
	for _, a := range in.ObjectAttributes {
		if !slices.Contains(s3.Schema.Shape("ObjectAttributes").Enum, a) {
			return nil, invalidArgument("x-amz-object-attributes", a, "Invalid attribute name specified.")
		}
	}
	v, err := s.look(ctx, readRequest{
		name: objectName{in.Bucket, in.Key, in.VersionId, in.ExpectedBucketOwner}, sums: true,
		customer: [3]*string{in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5},
	})
	if err != nil {
		return nil, err
	}
	o := v.row
	out := &s3.GetObjectAttributesOutput{LastModified: &o.Modified, VersionId: versionShown(v.bucket, o)}
	for _, a := range in.ObjectAttributes {
		switch a {
		case "ETag":
			out.ETag = &o.ETag
		case "StorageClass":
			out.StorageClass = wire.Ptr(o.class())
		case "ObjectSize":
			out.ObjectSize = &o.Size
		case "Checksum":
			c := v.sums
			out.Checksum = &s3.Checksum{
				ChecksumType: v.sumType, ChecksumCRC32: c[0], ChecksumCRC32C: c[1], ChecksumCRC64NVME: c[2], ChecksumSHA1: c[3], ChecksumSHA256: c[4],
				ChecksumSHA512: c[5], ChecksumMD5: c[6], ChecksumXXHASH64: c[7], ChecksumXXHASH3: c[8], ChecksumXXHASH128: c[9],
			}
		case "ObjectParts":
			if o.Parts > 0 {
				if out.ObjectParts, err = s.attributeParts(ctx, o, in.MaxParts, value(in.PartNumberMarker)); err != nil {
					return nil, err
				}
			}
		}
	}
	return out, nil
}

// attributeParts returns a page of an object's parts. As on S3 the parts themselves
// are told only where they have checksums of their own, that is with a composite.
func (s *Service) attributeParts(ctx context.Context, o *objectRow, limit *int32, marker int32) (*s3.GetObjectAttributesParts, error) {
	most := int32(defaultPageSize)
	if limit != nil && *limit < most {
		most = max(*limit, 0)
	}
	out := &s3.GetObjectAttributesParts{TotalPartsCount: &o.Parts, PartNumberMarker: &marker, MaxParts: &most, IsTruncated: wire.Ptr(false)}
	if o.Sum.Type != checksum.Composite {
		return out, nil
	}
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		out.Parts = nil
		for row, err := range contents.Scan(tx, store.Range{Prefix: store.K(o.Content), After: store.K(o.Content, marker)}) {
			if err != nil {
				return err
			}
			if len(out.Parts) == int(most) {
				out.IsTruncated = wire.Ptr(true)
				return nil
			}
			c := sumsOf(checksum.Algorithm(o.Sum.Algorithm), checksum.Encode(row.Sum))
			out.Parts = append(out.Parts, s3.ObjectPart{
				PartNumber: &row.Part, Size: &row.Size,
				ChecksumCRC32: c[0], ChecksumCRC32C: c[1], ChecksumCRC64NVME: c[2], ChecksumSHA1: c[3], ChecksumSHA256: c[4],
				ChecksumSHA512: c[5], ChecksumMD5: c[6], ChecksumXXHASH64: c[7], ChecksumXXHASH3: c[8], ChecksumXXHASH128: c[9],
			})
			out.NextPartNumberMarker = &row.Part
		}
		return nil
	})
	return out, err
}
