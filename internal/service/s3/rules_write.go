package s3

import (
	"context"
	"strings"
	"time"

	"skerry/internal/api/s3"
	"skerry/internal/auth"
	"skerry/internal/base/arn"
)

// writing is what the operations that write an object ask for besides
// s3:PutObject.
type writing struct {
	bucket, key, expected      *string
	acl                        aclRequest
	tags                       []tag
	class, encryption, sseC    *string
	redirect, match, noneMatch *string
	lockMode, hold             *string
	retain                     *time.Time
}

// writeNeeds returns what the writing of an object needs.
func (s *Service) writeNeeds(ctx context.Context, sc auth.Scope, w writing, k keys) ([]auth.Access, error) {
	b, err := s.viewBucket(ctx, w.bucket, w.expected)
	if err != nil {
		return nil, err
	}
	w.acl.conditions(k)
	k.requestTags(w.tags)
	k.set("s3:x-amz-storage-class", w.class)
	k.set("s3:x-amz-server-side-encryption", w.encryption)
	k.set("s3:x-amz-server-side-encryption-customer-algorithm", w.sseC)
	k.set("s3:x-amz-website-redirect-location", w.redirect)
	k.set("s3:if-match", w.match)
	k.set("s3:if-none-match", w.noneMatch)
	k.set("s3:object-lock-mode", w.lockMode)
	k.set("s3:object-lock-legal-hold", w.hold)
	if w.retain != nil {
		k["s3:object-lock-retain-until-date"] = []string{w.retain.UTC().Format(time.RFC3339)}
		k["s3:object-lock-remaining-retention-days"] = []string{itoa(int(w.retain.Sub(s.now()).Hours() / 24))}
	}
	key := value(w.key)
	needs := []auth.Access{writeAccess(sc, b, "s3:PutObject", key, permWrite, k)}
	add := func(asked bool, action, permission string) {
		if asked {
			needs = append(needs, writeAccess(sc, b, action, key, permission, k))
		}
	}
	add(!w.acl.empty(), "s3:PutObjectAcl", permWrite) // who may write by a list owns what it writes
	add(len(w.tags) > 0, "s3:PutObjectTagging", "")
	add(w.lockMode != nil || w.retain != nil, "s3:PutObjectRetention", "")
	add(w.hold != nil, "s3:PutObjectLegalHold", "")
	return needs, nil
}

// conditions adds the condition keys of the headers of an access control list.
func (r aclRequest) conditions(k keys) {
	k.set("s3:x-amz-acl", r.canned)
	k.set("s3:x-amz-grant-full-control", r.full)
	k.set("s3:x-amz-grant-read", r.read)
	k.set("s3:x-amz-grant-write", r.write)
	k.set("s3:x-amz-grant-read-acp", r.readACP)
	k.set("s3:x-amz-grant-write-acp", r.writeACP)
}

func (s *Service) putObjectRule(ctx context.Context, sc auth.Scope, in *s3.PutObjectInput) ([]auth.Access, error) {
	tags, err := parseTagging(in.Tagging)
	if err != nil {
		return nil, err
	}
	return s.writeNeeds(ctx, sc, writing{
		bucket: in.Bucket, key: in.Key, expected: in.ExpectedBucketOwner, tags: tags,
		acl:   aclRequest{canned: in.ACL, full: in.GrantFullControl, read: in.GrantRead, readACP: in.GrantReadACP, writeACP: in.GrantWriteACP},
		class: in.StorageClass, encryption: in.ServerSideEncryption, sseC: in.SSECustomerAlgorithm, redirect: in.WebsiteRedirectLocation,
		match: in.IfMatch, noneMatch: in.IfNoneMatch, lockMode: in.ObjectLockMode, hold: in.ObjectLockLegalHoldStatus, retain: in.ObjectLockRetainUntilDate,
	}, keys{})
}

func (s *Service) createUploadRule(ctx context.Context, sc auth.Scope, in *s3.CreateMultipartUploadInput) ([]auth.Access, error) {
	tags, err := parseTagging(in.Tagging)
	if err != nil {
		return nil, err
	}
	return s.writeNeeds(ctx, sc, writing{
		bucket: in.Bucket, key: in.Key, expected: in.ExpectedBucketOwner, tags: tags,
		acl:   aclRequest{canned: in.ACL, full: in.GrantFullControl, read: in.GrantRead, readACP: in.GrantReadACP, writeACP: in.GrantWriteACP},
		class: in.StorageClass, encryption: in.ServerSideEncryption, sseC: in.SSECustomerAlgorithm, redirect: in.WebsiteRedirectLocation,
		lockMode: in.ObjectLockMode, hold: in.ObjectLockLegalHoldStatus, retain: in.ObjectLockRetainUntilDate,
	}, keys{})
}

func (s *Service) uploadPartRule(ctx context.Context, sc auth.Scope, in *s3.UploadPartInput) ([]auth.Access, error) {
	return s.writeNeeds(ctx, sc, writing{bucket: in.Bucket, key: in.Key, expected: in.ExpectedBucketOwner, sseC: in.SSECustomerAlgorithm}, keys{})
}

func (s *Service) completeRule(ctx context.Context, sc auth.Scope, in *s3.CompleteMultipartUploadInput) ([]auth.Access, error) {
	return s.writeNeeds(ctx, sc, writing{bucket: in.Bucket, key: in.Key, expected: in.ExpectedBucketOwner, match: in.IfMatch, noneMatch: in.IfNoneMatch}, keys{})
}

// sourceNeeds returns what the reading of a copy's source needs, and the source's
// tags.
func (s *Service) sourceNeeds(ctx context.Context, sc auth.Scope, header, expected *string, withTags bool) ([]auth.Access, []tag, error) {
	src, err := parseCopySource(header)
	if err != nil {
		return nil, nil, err
	}
	needs, err := s.objectAccess(ctx, sc, src.name(expected), "s3:GetObject", "s3:GetObjectVersion", permRead, keys{})
	if err != nil || !withTags {
		return needs, nil, err
	}
	_, o, err := s.viewObject(ctx, src.name(expected))
	if err != nil || len(o.Tags) == 0 {
		return needs, nil, nil //nolint:nilerr // the handler answers what is wrong with the source
	}
	more, err := s.objectAccess(ctx, sc, src.name(expected), "s3:GetObjectTagging", "s3:GetObjectVersionTagging", "", keys{})
	return append(needs, more...), o.Tags, err
}

func (s *Service) copyRule(ctx context.Context, sc auth.Scope, in *s3.CopyObjectInput) ([]auth.Access, error) {
	replace := value(in.TaggingDirective) == "REPLACE"
	source, tags, err := s.sourceNeeds(ctx, sc, in.CopySource, in.ExpectedSourceBucketOwner, !replace)
	if err != nil {
		return nil, err
	}
	if replace {
		if tags, err = parseTagging(in.Tagging); err != nil {
			return nil, err
		}
	}
	k := keys{}
	k.set("s3:x-amz-copy-source", in.CopySource)
	k.set("s3:x-amz-metadata-directive", in.MetadataDirective)
	needs, err := s.writeNeeds(ctx, sc, writing{
		bucket: in.Bucket, key: in.Key, expected: in.ExpectedBucketOwner, tags: tags,
		acl:   aclRequest{canned: in.ACL, full: in.GrantFullControl, read: in.GrantRead, readACP: in.GrantReadACP, writeACP: in.GrantWriteACP},
		class: in.StorageClass, encryption: in.ServerSideEncryption, sseC: in.SSECustomerAlgorithm, redirect: in.WebsiteRedirectLocation,
		match: in.IfMatch, noneMatch: in.IfNoneMatch, lockMode: in.ObjectLockMode, hold: in.ObjectLockLegalHoldStatus, retain: in.ObjectLockRetainUntilDate,
	}, k)
	return append(source, needs...), err
}

func (s *Service) copyPartRule(ctx context.Context, sc auth.Scope, in *s3.UploadPartCopyInput) ([]auth.Access, error) {
	source, _, err := s.sourceNeeds(ctx, sc, in.CopySource, in.ExpectedSourceBucketOwner, false)
	if err != nil {
		return nil, err
	}
	k := keys{}
	k.set("s3:x-amz-copy-source", in.CopySource)
	needs, err := s.writeNeeds(ctx, sc, writing{bucket: in.Bucket, key: in.Key, expected: in.ExpectedBucketOwner, sseC: in.SSECustomerAlgorithm}, k)
	return append(source, needs...), err
}

// deleteNeeds returns what one deletion needs. Who ties it to an ETag learns whether
// the object has it, and so must be allowed to read it.
func (s *Service) deleteNeeds(sc auth.Scope, b *bucketRow, key string, version, match *string, bypass bool) []auth.Access {
	k := keys{}
	k.set("s3:if-match", match)
	action := "s3:DeleteObject"
	if version != nil {
		action = "s3:DeleteObjectVersion"
		k.set("s3:VersionId", version)
	}
	needs := []auth.Access{writeAccess(sc, b, action, key, permWrite, k)}
	if bypass {
		needs = append(needs, writeAccess(sc, b, "s3:BypassGovernanceRetention", key, "", k))
	}
	if value(match) != "" && *match != "*" {
		needs = append(needs, writeAccess(sc, b, "s3:GetObject", key, permRead, k))
	}
	return needs
}

func (s *Service) deleteRule(ctx context.Context, sc auth.Scope, in *s3.DeleteObjectInput) ([]auth.Access, error) {
	b, err := s.viewBucket(ctx, in.Bucket, in.ExpectedBucketOwner)
	if err != nil {
		return nil, err
	}
	return s.deleteNeeds(sc, b, value(in.Key), in.VersionId, in.IfMatch, value(in.BypassGovernanceRetention)), nil
}

// deleteManyRule only finds the bucket: each key is answered for by itself.
func (s *Service) deleteManyRule(ctx context.Context, sc auth.Scope, in *s3.DeleteObjectsInput) ([]auth.Access, error) {
	_, err := s.viewBucket(ctx, in.Bucket, in.ExpectedBucketOwner)
	return nil, err
}

// refusals returns, for each key of a DeleteObjects, the error if the caller may not
// delete it.
func (s *Service) refusals(ctx context.Context, sc auth.Scope, in *s3.DeleteObjectsInput) []error {
	out := make([]error, len(in.Delete.Objects))
	b, err := s.viewBucket(ctx, in.Bucket, in.ExpectedBucketOwner)
	for i, id := range in.Delete.Objects {
		if out[i] = err; err != nil {
			continue
		}
		ok, err := s.allowed(ctx, sc, s.deleteNeeds(sc, b, value(id.Key), id.VersionId, id.ETag, value(in.BypassGovernanceRetention))...)
		if out[i] = err; err == nil && !ok {
			out[i] = accessDenied()
		}
	}
	return out
}

func (s *Service) createBucketRule(_ context.Context, sc auth.Scope, in *s3.CreateBucketInput) ([]auth.Access, error) {
	k := keys{}
	aclRequest{canned: in.ACL, full: in.GrantFullControl, read: in.GrantRead, write: in.GrantWrite, readACP: in.GrantReadACP, writeACP: in.GrantWriteACP}.conditions(k)
	k.set("s3:x-amz-object-ownership", in.ObjectOwnership)
	resource := "arn:aws:s3:::" + value(in.Bucket)
	needs := []auth.Access{}
	add := func(asked bool, action string) {
		if asked {
			needs = append(needs, auth.Access{Action: action, Resource: resource, Context: k})
		}
	}
	c := in.CreateBucketConfiguration
	if c != nil {
		k.set("s3:LocationConstraint", c.LocationConstraint)
	}
	add(true, "s3:CreateBucket")
	add(len(k["s3:x-amz-acl"]) > 0 || in.GrantFullControl != nil || in.GrantRead != nil || in.GrantWrite != nil || in.GrantReadACP != nil || in.GrantWriteACP != nil, "s3:PutBucketAcl")
	add(in.ObjectOwnership != nil, "s3:PutBucketOwnershipControls")
	add(value(in.ObjectLockEnabledForBucket), "s3:PutBucketObjectLockConfiguration")
	add(value(in.ObjectLockEnabledForBucket), "s3:PutBucketVersioning")
	add(c != nil && len(c.Tags) > 0, "s3:TagResource")
	return needs, nil
}

func (s *Service) listBucketsRule(context.Context, auth.Scope, *s3.ListBucketsInput) ([]auth.Access, error) {
	return []auth.Access{{Action: "s3:ListAllMyBuckets", Resource: "*"}}, nil
}

// retentionRule adds s3:BypassGovernanceRetention where the request asks for it.
func (s *Service) retentionRule(ctx context.Context, sc auth.Scope, in *s3.PutObjectRetentionInput) ([]auth.Access, error) {
	n := objectName{in.Bucket, in.Key, in.VersionId, in.ExpectedBucketOwner}
	k := keys{}
	if in.Retention != nil {
		k.set("s3:object-lock-mode", in.Retention.Mode)
		if t := in.Retention.RetainUntilDate; t != nil {
			k["s3:object-lock-remaining-retention-days"] = []string{itoa(int(t.Sub(s.now()).Hours() / 24))}
		}
	}
	needs, err := s.objectAccess(ctx, sc, n, "s3:PutObjectRetention", "s3:PutObjectRetention", "", k)
	if err == nil && value(in.BypassGovernanceRetention) {
		bypass := needs[0]
		bypass.Action = "s3:BypassGovernanceRetention"
		needs = append(needs, bypass)
	}
	return needs, err
}

// attributesRule asks for the two actions that GetObjectAttributes needs.
func (s *Service) attributesRule(ctx context.Context, sc auth.Scope, in *s3.GetObjectAttributesInput) ([]auth.Access, error) {
	n := objectName{in.Bucket, in.Key, in.VersionId, in.ExpectedBucketOwner}
	needs, err := s.objectAccess(ctx, sc, n, "s3:GetObject", "s3:GetObjectVersion", permRead, keys{})
	if err != nil {
		return nil, err
	}
	more, err := s.objectAccess(ctx, sc, n, "s3:GetObjectAttributes", "s3:GetObjectVersionAttributes", permRead, keys{})
	return append(needs, more[:min(1, len(more))]...), err
}

// replicationRule adds iam:PassRole for the role that S3 is to take.
func (s *Service) replicationRule(ctx context.Context, sc auth.Scope, in *s3.PutBucketReplicationInput) ([]auth.Access, error) {
	b, err := s.viewBucket(ctx, in.Bucket, in.ExpectedBucketOwner)
	if err != nil {
		return nil, err
	}
	needs := []auth.Access{bucketAccess(sc, b, "s3:PutReplicationConfiguration", "", keys{})}
	if c := in.ReplicationConfiguration; c != nil {
		if role, err := arn.Parse(value(c.Role)); err == nil && strings.HasPrefix(role.Resource, "role/") {
			needs = append(needs, auth.Access{Action: "iam:PassRole", Resource: *c.Role, Owner: role.Account,
				Context: keys{"iam:PassedToService": {principal}}})
		}
	}
	return needs, nil
}
