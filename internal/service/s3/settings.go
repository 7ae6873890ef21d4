package s3

import (
	"context"
	"slices"

	"skerry/internal/api/s3"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// PutBucketVersioning implements s3:PutBucketVersioning. MFA delete does not exist
// here: there are no devices.
func (s *Service) PutBucketVersioning(ctx context.Context, sc auth.Scope, in *s3.PutBucketVersioningInput) (*s3.PutBucketVersioningOutput, error) {
	c := in.VersioningConfiguration
	switch {
	case c == nil || value(c.Status) != "Enabled" && value(c.Status) != "Suspended":
		return nil, awserr.New(400, "IllegalVersioningConfigurationException", "The Versioning element must be specified")
	case value(c.MFADelete) == "Enabled":
		return nil, notImplemented("x-amz-mfa")
	}
	return &s3.PutBucketVersioningOutput{}, s.editBucket(ctx, in.Bucket, in.ExpectedBucketOwner, func(tx *store.Tx, b *bucketRow) error {
		if *c.Status == "Suspended" && b.Lock != nil {
			return awserr.New(409, "InvalidBucketState", "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed.")
		}
		if *c.Status == "Suspended" && b.Copies {
			return awserr.New(409, "InvalidBucketState", "A replication configuration is present on this bucket, so you cannot change the versioning state. To change the versioning state, first delete the replication configuration.")
		}
		b.State = *c.Status
		return nil
	})
}

// GetBucketVersioning implements s3:GetBucketVersioning.
func (s *Service) GetBucketVersioning(ctx context.Context, sc auth.Scope, in *s3.GetBucketVersioningInput) (*s3.GetBucketVersioningOutput, error) {
	b, err := s.viewBucket(ctx, in.Bucket, in.ExpectedBucketOwner)
	if err != nil {
		return nil, err
	}
	return &s3.GetBucketVersioningOutput{Status: optional(b.State)}, nil
}

// PutBucketEncryption implements s3:PutEncryptionConfiguration. Everything is
// encrypted with keys of the server anyway (SSE-S3); keys of KMS cannot be had yet.
func (s *Service) PutBucketEncryption(ctx context.Context, sc auth.Scope, in *s3.PutBucketEncryptionInput) (*s3.PutBucketEncryptionOutput, error) {
	c := in.ServerSideEncryptionConfiguration
	if c == nil || len(c.Rules) != 1 {
		return nil, malformedXML()
	}
	rule := c.Rules[0]
	row := &encryptRow{Algorithm: "AES256", BucketKey: rule.BucketKeyEnabled}
	if d := rule.ApplyServerSideEncryptionByDefault; d != nil {
		switch alg := value(d.SSEAlgorithm); {
		case alg == "AES256" && d.KMSMasterKeyID != nil:
			return nil, invalidArgument("KMSMasterKeyID", *d.KMSMasterKeyID, "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms or aws:kms:dsse")
		case alg == "aws:kms" || alg == "aws:kms:dsse":
			return nil, notImplemented("SSEAlgorithm")
		case alg != "AES256":
			return nil, malformedXML()
		}
	}
	if blocked := rule.BlockedEncryptionTypes; blocked != nil {
		for _, t := range blocked.EncryptionType {
			if t != "NONE" && t != "SSE-C" {
				return nil, malformedXML()
			}
		}
		row.Blocked = blocked.EncryptionType
	}
	return &s3.PutBucketEncryptionOutput{}, s.editBucket(ctx, in.Bucket, in.ExpectedBucketOwner, func(tx *store.Tx, b *bucketRow) error {
		b.Encrypt = row
		return nil
	})
}

// GetBucketEncryption implements s3:GetEncryptionConfiguration.
func (s *Service) GetBucketEncryption(ctx context.Context, sc auth.Scope, in *s3.GetBucketEncryptionInput) (*s3.GetBucketEncryptionOutput, error) {
	b, err := s.viewBucket(ctx, in.Bucket, in.ExpectedBucketOwner)
	if err != nil {
		return nil, err
	}
	rule := s3.ServerSideEncryptionRule{
		ApplyServerSideEncryptionByDefault: &s3.ServerSideEncryptionByDefault{SSEAlgorithm: wire.Ptr("AES256")},
		BucketKeyEnabled:                   wire.Ptr(false),
	}
	if e := b.Encrypt; e != nil {
		if e.BucketKey != nil {
			rule.BucketKeyEnabled = e.BucketKey
		}
		if len(e.Blocked) > 0 {
			rule.BlockedEncryptionTypes = &s3.BlockedEncryptionTypes{EncryptionType: slices.Clone(e.Blocked)}
		}
	}
	return &s3.GetBucketEncryptionOutput{ServerSideEncryptionConfiguration: &s3.ServerSideEncryptionConfiguration{
		Rules: []s3.ServerSideEncryptionRule{rule},
	}}, nil
}

// DeleteBucketEncryption implements the return to the default, SSE-S3.
func (s *Service) DeleteBucketEncryption(ctx context.Context, sc auth.Scope, in *s3.DeleteBucketEncryptionInput) (*s3.DeleteBucketEncryptionOutput, error) {
	return &s3.DeleteBucketEncryptionOutput{}, s.editBucket(ctx, in.Bucket, in.ExpectedBucketOwner, func(tx *store.Tx, b *bucketRow) error {
		b.Encrypt = nil
		return nil
	})
}

// config reads one of a bucket's longer configurations, or nil.
func config(tx *store.Tx, b *bucketRow, kind string) (*configRow, error) {
	for row, err := range configs.Scan(tx, store.Range{Prefix: store.K(b.ID, kind)}) {
		return row, err
	}
	return nil, nil
}

// viewConfig reads a bucket and one of its configurations, or answers the error
// that it has none.
func (s *Service) viewConfig(ctx context.Context, name, expected *string, kind, code, text string) (row *configRow, err error) {
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		b, err := s.bucket(tx, name, expected)
		if err != nil {
			return err
		}
		if row, err = config(tx, b, kind); err == nil && row == nil {
			err = noConfiguration(code, text, b.Name)
		}
		return err
	})
	return row, err
}

// setConfig stores or, if row is nil, deletes a configuration, and its flag in the
// bucket's row. check may refuse it.
func (s *Service) setConfig(ctx context.Context, name, expected *string, kind string, row *configRow, check func(tx *store.Tx, b *bucketRow) error) error {
	return s.editBucket(ctx, name, expected, func(tx *store.Tx, b *bucketRow) error {
		if check != nil {
			if err := check(tx, b); err != nil {
				return err
			}
		}
		switch kind {
		case kindNotification:
			b.Notifies = row != nil
		case kindLifecycle:
			b.Expires = row != nil
		case kindReplication:
			b.Copies = row != nil
		}
		if row == nil {
			return configs.Delete(tx, store.K(b.ID, kind))
		}
		row.Bucket, row.Kind = b.ID, kind
		return configs.Put(tx, row)
	})
}
