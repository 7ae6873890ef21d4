package s3

import (
	"context"

	"skerry/internal/api/s3"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// PutPublicAccessBlock implements s3:PutBucketPublicAccessBlock.
func (s *Service) PutPublicAccessBlock(ctx context.Context, sc auth.Scope, in *s3.PutPublicAccessBlockInput) (*s3.PutPublicAccessBlockOutput, error) {
	c := in.PublicAccessBlockConfiguration
	if c == nil {
		return nil, malformedXML()
	}
	return &s3.PutPublicAccessBlockOutput{}, s.editBucket(ctx, in.Bucket, in.ExpectedBucketOwner, func(tx *store.Tx, b *bucketRow) error {
		b.Block = &blockRow{value(c.BlockPublicAcls), value(c.IgnorePublicAcls), value(c.BlockPublicPolicy), value(c.RestrictPublicBuckets)}
		return nil
	})
}

// GetPublicAccessBlock implements s3:GetBucketPublicAccessBlock.
func (s *Service) GetPublicAccessBlock(ctx context.Context, sc auth.Scope, in *s3.GetPublicAccessBlockInput) (*s3.GetPublicAccessBlockOutput, error) {
	b, err := s.viewBucket(ctx, in.Bucket, in.ExpectedBucketOwner)
	if err != nil {
		return nil, err
	}
	if b.Block == nil {
		return nil, noConfiguration("NoSuchPublicAccessBlockConfiguration", "The public access block configuration was not found", b.Name)
	}
	return &s3.GetPublicAccessBlockOutput{PublicAccessBlockConfiguration: &s3.PublicAccessBlockConfiguration{
		BlockPublicAcls: &b.Block.BlockACLs, IgnorePublicAcls: &b.Block.IgnoreACLs,
		BlockPublicPolicy: &b.Block.BlockPolicy, RestrictPublicBuckets: &b.Block.Restrict,
	}}, nil
}

// DeletePublicAccessBlock implements s3:PutBucketPublicAccessBlock's removal.
func (s *Service) DeletePublicAccessBlock(ctx context.Context, sc auth.Scope, in *s3.DeletePublicAccessBlockInput) (*s3.DeletePublicAccessBlockOutput, error) {
	return &s3.DeletePublicAccessBlockOutput{}, s.editBucket(ctx, in.Bucket, in.ExpectedBucketOwner, func(tx *store.Tx, b *bucketRow) error {
		b.Block = nil
		return nil
	})
}

// PutBucketOwnershipControls implements s3:PutBucketOwnershipControls.
func (s *Service) PutBucketOwnershipControls(ctx context.Context, sc auth.Scope, in *s3.PutBucketOwnershipControlsInput) (*s3.PutBucketOwnershipControlsOutput, error) {
	if in.OwnershipControls == nil || len(in.OwnershipControls.Rules) != 1 {
		return nil, malformedXML()
	}
	owner := value(in.OwnershipControls.Rules[0].ObjectOwnership)
	return &s3.PutBucketOwnershipControlsOutput{}, s.editBucket(ctx, in.Bucket, in.ExpectedBucketOwner, func(tx *store.Tx, b *bucketRow) error {
		switch owner {
		case ownerEnforced:
			for _, g := range b.ACL {
				if g.ID != canonicalID(b.Account) {
					return awserr.New(400, "InvalidBucketAclWithObjectOwnership", "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting")
				}
			}
		case ownerPreferred, objectWriter:
		default:
			return malformedXML()
		}
		b.Owner = owner
		return nil
	})
}

// GetBucketOwnershipControls implements s3:GetBucketOwnershipControls.
func (s *Service) GetBucketOwnershipControls(ctx context.Context, sc auth.Scope, in *s3.GetBucketOwnershipControlsInput) (*s3.GetBucketOwnershipControlsOutput, error) {
	b, err := s.viewBucket(ctx, in.Bucket, in.ExpectedBucketOwner)
	if err != nil {
		return nil, err
	}
	if b.Owner == "" {
		return nil, noConfiguration("OwnershipControlsNotFoundError", "The bucket ownership controls were not found", b.Name)
	}
	return &s3.GetBucketOwnershipControlsOutput{OwnershipControls: &s3.OwnershipControls{
		Rules: []s3.OwnershipControlsRule{{ObjectOwnership: wire.Ptr(b.Owner)}},
	}}, nil
}

// DeleteBucketOwnershipControls implements s3:PutBucketOwnershipControls' removal,
// after which the bucket behaves as with ObjectWriter.
func (s *Service) DeleteBucketOwnershipControls(ctx context.Context, sc auth.Scope, in *s3.DeleteBucketOwnershipControlsInput) (*s3.DeleteBucketOwnershipControlsOutput, error) {
	return &s3.DeleteBucketOwnershipControlsOutput{}, s.editBucket(ctx, in.Bucket, in.ExpectedBucketOwner, func(tx *store.Tx, b *bucketRow) error {
		b.Owner = ""
		return nil
	})
}
