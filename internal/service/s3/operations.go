package s3

import (
	"skerry/internal/api/s3"
	"skerry/internal/op"
)

// Service returns the schema and every operation that is built, with its rule.
func (s *Service) Service() op.Service {
	return op.Service{API: s3.Schema, Operations: append(s.bucketOperations(), s.objectOperations()...), Actions: actions(), Data: dataOperations()}
}

// actions are the IAM actions of the operations that are not called like them.
func actions() map[string]string {
	return map[string]string{
		"HeadBucket":                         "ListBucket",
		"ListBuckets":                        "ListAllMyBuckets",
		"PutBucketEncryption":                "PutEncryptionConfiguration",
		"GetBucketEncryption":                "GetEncryptionConfiguration",
		"DeleteBucketEncryption":             "PutEncryptionConfiguration",
		"DeleteBucketTagging":                "PutBucketTagging",
		"DeleteBucketOwnershipControls":      "PutBucketOwnershipControls",
		"PutPublicAccessBlock":               "PutBucketPublicAccessBlock",
		"GetPublicAccessBlock":               "GetBucketPublicAccessBlock",
		"DeletePublicAccessBlock":            "PutBucketPublicAccessBlock",
		"PutBucketCors":                      "PutBucketCORS",
		"GetBucketCors":                      "GetBucketCORS",
		"DeleteBucketCors":                   "PutBucketCORS",
		"PutBucketLifecycleConfiguration":    "PutLifecycleConfiguration",
		"GetBucketLifecycleConfiguration":    "GetLifecycleConfiguration",
		"DeleteBucketLifecycle":              "PutLifecycleConfiguration",
		"PutBucketNotificationConfiguration": "PutBucketNotification",
		"GetBucketNotificationConfiguration": "GetBucketNotification",
		"PutBucketReplication":               "PutReplicationConfiguration",
		"GetBucketReplication":               "GetReplicationConfiguration",
		"DeleteBucketReplication":            "PutReplicationConfiguration",
		"PutObjectLockConfiguration":         "PutBucketObjectLockConfiguration",
		"GetObjectLockConfiguration":         "GetBucketObjectLockConfiguration",
		"ListObjects":                        "ListBucket",
		"ListObjectsV2":                      "ListBucket",
		"ListObjectVersions":                 "ListBucketVersions",
		"ListMultipartUploads":               "ListBucketMultipartUploads",
		"HeadObject":                         "GetObject",
		"CopyObject":                         "PutObject",
		"DeleteObjects":                      "DeleteObject",
		"CreateMultipartUpload":              "PutObject",
		"UploadPart":                         "PutObject",
		"UploadPartCopy":                     "PutObject",
		"CompleteMultipartUpload":            "PutObject",
		"ListParts":                          "ListMultipartUploadParts",
	}
}

// dataOperations are those on objects. Page: "Logging data events", "Amazon S3
// CloudTrail events".
func dataOperations() []string {
	return []string{
		"AbortMultipartUpload", "CompleteMultipartUpload", "CopyObject", "CreateMultipartUpload", "DeleteObject", "DeleteObjectTagging",
		"DeleteObjects", "GetObject", "GetObjectAcl", "GetObjectAttributes", "GetObjectLegalHold", "GetObjectRetention", "GetObjectTagging",
		"HeadBucket", "HeadObject", "ListMultipartUploads", "ListObjectVersions", "ListObjects", "ListObjectsV2", "ListParts", "PutObject", "PutObjectAcl",
		"PutObjectLegalHold", "PutObjectRetention", "PutObjectTagging", "UploadPart", "UploadPartCopy",
	}
}

func (s *Service) bucketOperations() []op.Operation {
	return []op.Operation{
		op.New("CreateBucket", s.createBucketRule, s.CreateBucket),
		op.New("HeadBucket", onBucket[s3.HeadBucketInput](s, "s3:ListBucket", permRead, nil), s.HeadBucket),
		op.New("ListBuckets", s.listBucketsRule, s.ListBuckets),
		op.New("GetBucketLocation", onBucket[s3.GetBucketLocationInput](s, "s3:GetBucketLocation", "", nil), s.GetBucketLocation),
		op.New("DeleteBucket", onBucket[s3.DeleteBucketInput](s, "s3:DeleteBucket", "", nil), s.DeleteBucket),

		op.New("PutBucketVersioning", onBucket[s3.PutBucketVersioningInput](s, "s3:PutBucketVersioning", "", nil), s.PutBucketVersioning),
		op.New("GetBucketVersioning", onBucket[s3.GetBucketVersioningInput](s, "s3:GetBucketVersioning", "", nil), s.GetBucketVersioning),
		op.New("PutBucketEncryption", onBucket[s3.PutBucketEncryptionInput](s, "s3:PutEncryptionConfiguration", "", nil), s.PutBucketEncryption),
		op.New("GetBucketEncryption", onBucket[s3.GetBucketEncryptionInput](s, "s3:GetEncryptionConfiguration", "", nil), s.GetBucketEncryption),
		op.New("DeleteBucketEncryption", onBucket[s3.DeleteBucketEncryptionInput](s, "s3:PutEncryptionConfiguration", "", nil), s.DeleteBucketEncryption),
		op.New("PutBucketTagging", onBucket[s3.PutBucketTaggingInput](s, "s3:PutBucketTagging", "", nil), s.PutBucketTagging),
		op.New("GetBucketTagging", onBucket[s3.GetBucketTaggingInput](s, "s3:GetBucketTagging", "", nil), s.GetBucketTagging),
		op.New("DeleteBucketTagging", onBucket[s3.DeleteBucketTaggingInput](s, "s3:PutBucketTagging", "", nil), s.DeleteBucketTagging),

		op.New("PutBucketAcl", onBucket(s, "s3:PutBucketAcl", permSetACP, func(in *s3.PutBucketAclInput, k keys) {
			aclRequest{canned: in.ACL, full: in.GrantFullControl, read: in.GrantRead, write: in.GrantWrite, readACP: in.GrantReadACP, writeACP: in.GrantWriteACP}.conditions(k)
		}), s.PutBucketAcl),
		op.New("GetBucketAcl", onBucket[s3.GetBucketAclInput](s, "s3:GetBucketAcl", permReadACP, nil), s.GetBucketAcl),
		op.New("PutBucketOwnershipControls", onBucket[s3.PutBucketOwnershipControlsInput](s, "s3:PutBucketOwnershipControls", "", nil), s.PutBucketOwnershipControls),
		op.New("GetBucketOwnershipControls", onBucket[s3.GetBucketOwnershipControlsInput](s, "s3:GetBucketOwnershipControls", "", nil), s.GetBucketOwnershipControls),
		op.New("DeleteBucketOwnershipControls", onBucket[s3.DeleteBucketOwnershipControlsInput](s, "s3:PutBucketOwnershipControls", "", nil), s.DeleteBucketOwnershipControls),
		op.New("PutPublicAccessBlock", onBucket[s3.PutPublicAccessBlockInput](s, "s3:PutBucketPublicAccessBlock", "", nil), s.PutPublicAccessBlock),
		op.New("GetPublicAccessBlock", onBucket[s3.GetPublicAccessBlockInput](s, "s3:GetBucketPublicAccessBlock", "", nil), s.GetPublicAccessBlock),
		op.New("DeletePublicAccessBlock", onBucket[s3.DeletePublicAccessBlockInput](s, "s3:PutBucketPublicAccessBlock", "", nil), s.DeletePublicAccessBlock),
		op.New("PutBucketPolicy", onPolicy[s3.PutBucketPolicyInput](s, "s3:PutBucketPolicy"), s.PutBucketPolicy),
		op.New("GetBucketPolicy", onPolicy[s3.GetBucketPolicyInput](s, "s3:GetBucketPolicy"), s.GetBucketPolicy),
		op.New("GetBucketPolicyStatus", onBucket[s3.GetBucketPolicyStatusInput](s, "s3:GetBucketPolicyStatus", "", nil), s.GetBucketPolicyStatus),
		op.New("DeleteBucketPolicy", onPolicy[s3.DeleteBucketPolicyInput](s, "s3:DeleteBucketPolicy"), s.DeleteBucketPolicy),

		op.New("PutBucketCors", onBucket[s3.PutBucketCorsInput](s, "s3:PutBucketCORS", "", nil), s.PutBucketCors),
		op.New("GetBucketCors", onBucket[s3.GetBucketCorsInput](s, "s3:GetBucketCORS", "", nil), s.GetBucketCors),
		op.New("DeleteBucketCors", onBucket[s3.DeleteBucketCorsInput](s, "s3:PutBucketCORS", "", nil), s.DeleteBucketCors),
		op.New("PutBucketWebsite", onBucket[s3.PutBucketWebsiteInput](s, "s3:PutBucketWebsite", "", nil), s.PutBucketWebsite),
		op.New("GetBucketWebsite", onBucket[s3.GetBucketWebsiteInput](s, "s3:GetBucketWebsite", "", nil), s.GetBucketWebsite),
		op.New("DeleteBucketWebsite", onBucket[s3.DeleteBucketWebsiteInput](s, "s3:DeleteBucketWebsite", "", nil), s.DeleteBucketWebsite),
		op.New("PutBucketLifecycleConfiguration", onBucket[s3.PutBucketLifecycleConfigurationInput](s, "s3:PutLifecycleConfiguration", "", nil), s.PutBucketLifecycleConfiguration),
		op.New("GetBucketLifecycleConfiguration", onBucket[s3.GetBucketLifecycleConfigurationInput](s, "s3:GetLifecycleConfiguration", "", nil), s.GetBucketLifecycleConfiguration),
		op.New("DeleteBucketLifecycle", onBucket[s3.DeleteBucketLifecycleInput](s, "s3:PutLifecycleConfiguration", "", nil), s.DeleteBucketLifecycle),
		op.New("PutBucketNotificationConfiguration", onBucket[s3.PutBucketNotificationConfigurationInput](s, "s3:PutBucketNotification", "", nil), s.PutBucketNotificationConfiguration),
		op.New("GetBucketNotificationConfiguration", onBucket[s3.GetBucketNotificationConfigurationInput](s, "s3:GetBucketNotification", "", nil), s.GetBucketNotificationConfiguration),
		op.New("PutBucketReplication", s.replicationRule, s.PutBucketReplication),
		op.New("GetBucketReplication", onBucket[s3.GetBucketReplicationInput](s, "s3:GetReplicationConfiguration", "", nil), s.GetBucketReplication),
		op.New("DeleteBucketReplication", onBucket[s3.DeleteBucketReplicationInput](s, "s3:PutReplicationConfiguration", "", nil), s.DeleteBucketReplication),
		op.New("PutObjectLockConfiguration", onBucket[s3.PutObjectLockConfigurationInput](s, "s3:PutBucketObjectLockConfiguration", "", nil), s.PutObjectLockConfiguration),
		op.New("GetObjectLockConfiguration", onBucket[s3.GetObjectLockConfigurationInput](s, "s3:GetBucketObjectLockConfiguration", "", nil), s.GetObjectLockConfiguration),

		op.New("ListObjects", onBucket(s, "s3:ListBucket", permRead, func(in *s3.ListObjectsInput, k keys) { listKeys(k, in.Prefix, in.Delimiter, in.MaxKeys) }), s.ListObjects),
		op.New("ListObjectsV2", onBucket(s, "s3:ListBucket", permRead, func(in *s3.ListObjectsV2Input, k keys) { listKeys(k, in.Prefix, in.Delimiter, in.MaxKeys) }), s.ListObjectsV2),
		op.New("ListObjectVersions", onBucket(s, "s3:ListBucketVersions", permRead, func(in *s3.ListObjectVersionsInput, k keys) { listKeys(k, in.Prefix, in.Delimiter, in.MaxKeys) }), s.ListObjectVersions),
		op.New("ListMultipartUploads", onBucket(s, "s3:ListBucketMultipartUploads", permRead, func(in *s3.ListMultipartUploadsInput, k keys) { listKeys(k, in.Prefix, in.Delimiter, in.MaxUploads) }), s.ListMultipartUploads),
	}
}

func listKeys(k keys, prefix, delimiter *string, limit *int32) {
	k.set("s3:prefix", prefix)
	k.set("s3:delimiter", delimiter)
	if limit != nil {
		k["s3:max-keys"] = []string{itoa(int(*limit))}
	}
}

func (s *Service) objectOperations() []op.Operation {
	return []op.Operation{
		op.New("PutObject", s.putObjectRule, s.PutObject),
		op.New("GetObject", onObject[s3.GetObjectInput](s, "s3:GetObject", "s3:GetObjectVersion", permRead, nil), s.GetObject),
		op.New("HeadObject", onObject[s3.HeadObjectInput](s, "s3:GetObject", "s3:GetObjectVersion", permRead, nil), s.HeadObject),
		op.New("GetObjectAttributes", s.attributesRule, s.GetObjectAttributes),
		op.New("CopyObject", s.copyRule, s.CopyObject),
		op.New("DeleteObject", s.deleteRule, s.DeleteObject),
		op.New("DeleteObjects", s.deleteManyRule, s.DeleteObjects),

		op.New("CreateMultipartUpload", s.createUploadRule, s.CreateMultipartUpload),
		op.New("UploadPart", s.uploadPartRule, s.UploadPart),
		op.New("UploadPartCopy", s.copyPartRule, s.UploadPartCopy),
		op.New("CompleteMultipartUpload", s.completeRule, s.CompleteMultipartUpload),
		op.New("AbortMultipartUpload", onKey[s3.AbortMultipartUploadInput](s, "s3:AbortMultipartUpload", permWrite), s.AbortMultipartUpload),
		op.New("ListParts", onKey[s3.ListPartsInput](s, "s3:ListMultipartUploadParts", permRead), s.ListParts),

		op.New("PutObjectTagging", onObject(s, "s3:PutObjectTagging", "s3:PutObjectVersionTagging", "", func(in *s3.PutObjectTaggingInput, k keys) {
			if in.Tagging != nil {
				tags, _ := parseTags(in.Tagging.TagSet, maxObjectTags) // what is wrong with them, the handler tells
				k.requestTags(tags)
			}
		}), s.PutObjectTagging),
		op.New("GetObjectTagging", onObject[s3.GetObjectTaggingInput](s, "s3:GetObjectTagging", "s3:GetObjectVersionTagging", "", nil), s.GetObjectTagging),
		op.New("DeleteObjectTagging", onObject[s3.DeleteObjectTaggingInput](s, "s3:DeleteObjectTagging", "s3:DeleteObjectVersionTagging", "", nil), s.DeleteObjectTagging),
		op.New("PutObjectAcl", onObject(s, "s3:PutObjectAcl", "s3:PutObjectVersionAcl", permSetACP, func(in *s3.PutObjectAclInput, k keys) {
			aclRequest{canned: in.ACL, full: in.GrantFullControl, read: in.GrantRead, write: in.GrantWrite, readACP: in.GrantReadACP, writeACP: in.GrantWriteACP}.conditions(k)
		}), s.PutObjectAcl),
		op.New("GetObjectAcl", onObject[s3.GetObjectAclInput](s, "s3:GetObjectAcl", "s3:GetObjectVersionAcl", permReadACP, nil), s.GetObjectAcl),
		op.New("PutObjectRetention", s.retentionRule, s.PutObjectRetention),
		op.New("GetObjectRetention", onObject[s3.GetObjectRetentionInput](s, "s3:GetObjectRetention", "s3:GetObjectRetention", "", nil), s.GetObjectRetention),
		op.New("PutObjectLegalHold", onObject[s3.PutObjectLegalHoldInput](s, "s3:PutObjectLegalHold", "s3:PutObjectLegalHold", "", nil), s.PutObjectLegalHold),
		op.New("GetObjectLegalHold", onObject[s3.GetObjectLegalHoldInput](s, "s3:GetObjectLegalHold", "s3:GetObjectLegalHold", "", nil), s.GetObjectLegalHold),
	}
}
