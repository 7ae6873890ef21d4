package s3

import (
	"context"
	"strings"
	"time"

	"skerry/internal/api/s3"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/store"
	"skerry/internal/wire"
)

const (
	governance = "GOVERNANCE"
	compliance = "COMPLIANCE"

	maxRetentionDays  = 36500
	maxRetentionYears = 100
)

func noLock() error { return invalidRequest("Bucket is missing Object Lock Configuration") }

// lockNew gives a new object the retention and the legal hold that the request
// asks for, or else the bucket's default retention.
func (s *Service) lockNew(b *bucketRow, o *objectRow, a attributes) error {
	if b.Lock == nil {
		if a.lockMode != nil || a.retain != nil || a.hold != nil {
			return noLock()
		}
		return nil
	}
	if (a.lockMode == nil) != (a.retain == nil) {
		return invalidArgument("x-amz-object-lock-mode", "", "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied")
	}
	switch hold := value(a.hold); hold {
	case "", "OFF":
	case "ON":
		o.LegalHold = true
	default:
		return invalidArgument("x-amz-object-lock-legal-hold", hold, "Legal Hold must be either of 'ON' or 'OFF'")
	}
	now := s.now()
	if a.lockMode != nil {
		if *a.lockMode != governance && *a.lockMode != compliance {
			return invalidArgument("x-amz-object-lock-mode", *a.lockMode, "Unknown wormMode directive.")
		}
		if !a.retain.After(now) {
			return invalidArgument("x-amz-object-lock-retain-until-date", a.retain.Format(time.RFC3339), "The retain until date must be in the future!")
		}
		o.LockMode, o.RetainUntil = *a.lockMode, a.retain.UTC()
		return nil
	}
	if b.Lock.Mode != "" {
		o.LockMode = b.Lock.Mode
		o.RetainUntil = now.AddDate(int(b.Lock.Years), 0, int(b.Lock.Days)).Truncate(time.Second)
	}
	return nil
}

// protected says whether a version may not be deleted now. bypass says that the
// caller asked to bypass governance, for which the rule demanded the permission.
func (o *objectRow) protected(now time.Time, bypass bool) bool {
	if o.LegalHold {
		return true
	}
	if !o.RetainUntil.After(now) {
		return false
	}
	return o.LockMode == compliance || !bypass
}

func deniedByLock() error {
	return awserr.New(403, "AccessDenied", "Access Denied because object protected by object lock.")
}

func holdShown(o *objectRow) *string {
	if o.LegalHold {
		return wire.Ptr("ON")
	}
	return nil
}

// PutObjectLockConfiguration implements s3:PutBucketObjectLockConfiguration. It can
// switch object lock on for a bucket with versioning; nothing switches it off.
func (s *Service) PutObjectLockConfiguration(ctx context.Context, sc auth.Scope, in *s3.PutObjectLockConfigurationInput) (*s3.PutObjectLockConfigurationOutput, error) {
	c := in.ObjectLockConfiguration
	if c == nil || value(c.ObjectLockEnabled) != "Enabled" {
		return nil, malformedXML()
	}
	row := &lockRow{}
	if c.Rule != nil {
		d := c.Rule.DefaultRetention
		if d == nil || (d.Days == nil) == (d.Years == nil) || value(d.Mode) != governance && value(d.Mode) != compliance {
			return nil, malformedXML()
		}
		row.Mode, row.Days, row.Years = *d.Mode, value(d.Days), value(d.Years)
		if d.Days != nil && row.Days <= 0 || d.Years != nil && row.Years <= 0 {
			return nil, invalidArgument("Days", "", "Default retention period must be a positive integer value.")
		}
		if row.Days > maxRetentionDays || row.Years > maxRetentionYears {
			return nil, invalidArgument("Days", "", "Default retention period too large.")
		}
	}
	return &s3.PutObjectLockConfigurationOutput{}, s.editBucket(ctx, in.Bucket, in.ExpectedBucketOwner, func(tx *store.Tx, b *bucketRow) error {
		if b.State != "Enabled" {
			return awserr.New(409, "InvalidBucketState", "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration")
		}
		b.Lock = row
		return nil
	})
}

// GetObjectLockConfiguration implements s3:GetBucketObjectLockConfiguration.
func (s *Service) GetObjectLockConfiguration(ctx context.Context, sc auth.Scope, in *s3.GetObjectLockConfigurationInput) (*s3.GetObjectLockConfigurationOutput, error) {
	b, err := s.viewBucket(ctx, in.Bucket, in.ExpectedBucketOwner)
	if err != nil {
		return nil, err
	}
	if b.Lock == nil {
		return nil, noConfiguration("ObjectLockConfigurationNotFoundError", "Object Lock configuration does not exist for this bucket", b.Name)
	}
	c := &s3.ObjectLockConfiguration{ObjectLockEnabled: wire.Ptr("Enabled")}
	if b.Lock.Mode != "" {
		c.Rule = &s3.ObjectLockRule{DefaultRetention: &s3.DefaultRetention{
			Mode: &b.Lock.Mode, Days: optional(b.Lock.Days), Years: optional(b.Lock.Years),
		}}
	}
	return &s3.GetObjectLockConfigurationOutput{ObjectLockConfiguration: c}, nil
}

// PutObjectRetention implements s3:PutObjectRetention. A retention may always be
// made longer; shorter or of another mode only under governance, by who may bypass it.
func (s *Service) PutObjectRetention(ctx context.Context, sc auth.Scope, in *s3.PutObjectRetentionInput) (*s3.PutObjectRetentionOutput, error) {
	r := in.Retention
	if r == nil || (r.Mode == nil) != (r.RetainUntilDate == nil) || r.Mode != nil && *r.Mode != governance && *r.Mode != compliance {
		return nil, malformedXML()
	}
	until := value(r.RetainUntilDate).UTC()
	if r.RetainUntilDate == nil {
		until = time.Time{}
	} else if !until.After(s.now()) {
		return nil, invalidArgument("RetainUntilDate", until.Format(time.RFC3339), "The retain until date must be in the future!")
	}
	_, _, err := s.editObject(ctx, objectName{in.Bucket, in.Key, in.VersionId, in.ExpectedBucketOwner}, func(tx *store.Tx, b *bucketRow, o *objectRow) error {
		if b.Lock == nil {
			return noLock()
		}
		altered := until.Before(o.RetainUntil) || value(r.Mode) != o.LockMode
		if o.RetainUntil.After(s.now()) && altered && (o.LockMode == compliance || !value(in.BypassGovernanceRetention)) {
			return deniedByLock()
		}
		o.LockMode, o.RetainUntil = value(r.Mode), until
		return nil
	})
	return &s3.PutObjectRetentionOutput{}, err
}

func noObjectLock() error {
	return awserr.New(404, "NoSuchObjectLockConfiguration", "The specified object does not have a ObjectLock configuration")
}

// GetObjectRetention implements s3:GetObjectRetention.
func (s *Service) GetObjectRetention(ctx context.Context, sc auth.Scope, in *s3.GetObjectRetentionInput) (*s3.GetObjectRetentionOutput, error) {
	b, o, err := s.viewObject(ctx, objectName{in.Bucket, in.Key, in.VersionId, in.ExpectedBucketOwner})
	switch {
	case err != nil:
		return nil, err
	case b.Lock == nil:
		return nil, noLock()
	case o.LockMode == "":
		return nil, noObjectLock()
	}
	return &s3.GetObjectRetentionOutput{Retention: &s3.ObjectLockRetention{Mode: &o.LockMode, RetainUntilDate: &o.RetainUntil}}, nil
}

// PutObjectLegalHold implements s3:PutObjectLegalHold.
func (s *Service) PutObjectLegalHold(ctx context.Context, sc auth.Scope, in *s3.PutObjectLegalHoldInput) (*s3.PutObjectLegalHoldOutput, error) {
	if in.LegalHold == nil || value(in.LegalHold.Status) != "ON" && value(in.LegalHold.Status) != "OFF" {
		return nil, malformedXML()
	}
	_, _, err := s.editObject(ctx, objectName{in.Bucket, in.Key, in.VersionId, in.ExpectedBucketOwner}, func(tx *store.Tx, b *bucketRow, o *objectRow) error {
		if b.Lock == nil {
			return noLock()
		}
		o.LegalHold = strings.EqualFold(*in.LegalHold.Status, "ON")
		return nil
	})
	return &s3.PutObjectLegalHoldOutput{}, err
}

// GetObjectLegalHold implements s3:GetObjectLegalHold.
func (s *Service) GetObjectLegalHold(ctx context.Context, sc auth.Scope, in *s3.GetObjectLegalHoldInput) (*s3.GetObjectLegalHoldOutput, error) {
	b, o, err := s.viewObject(ctx, objectName{in.Bucket, in.Key, in.VersionId, in.ExpectedBucketOwner})
	switch {
	case err != nil:
		return nil, err
	case b.Lock == nil:
		return nil, noLock()
	}
	status := "OFF"
	if o.LegalHold {
		status = "ON"
	}
	return &s3.GetObjectLegalHoldOutput{LegalHold: &s3.ObjectLockLegalHold{Status: &status}}, nil
}
