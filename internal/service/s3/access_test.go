package s3

import (
	"strings"
	"testing"

	"skerry/internal/api/s3"
	"skerry/internal/wire"
)

const allowAll = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`

func (h *harness) policy(bucket, doc string) {
	h.t.Helper()
	do[s3.PutBucketPolicyOutput](h, h.root, &s3.PutBucketPolicyInput{Bucket: &bucket, Policy: &doc})
}

func getObject(bucket, key string) *s3.GetObjectInput {
	return &s3.GetObjectInput{Bucket: &bucket, Key: &key}
}

func putObject(bucket, key string) *s3.PutObjectInput {
	return &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader("x")}
}

func TestIdentityPolicies(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", false)
	h.put("bucket", "a/1", "x")
	reader := h.user(account, "reader", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/a/*"}]}`)
	lister := h.user(account, "lister", `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject"],"Resource":"*"},
		{"Effect":"Allow","Action":"s3:ListBucket","Resource":"*","Condition":{"StringLike":{"s3:prefix":"a/*"},"NumericLessThanEquals":{"s3:max-keys":"10"}}}]}`)
	do[s3.GetObjectOutput](h, reader, getObject("bucket", "a/1"))
	refuse(h, reader, getObject("bucket", "b"), "AccessDenied")
	// Who may not list is not told what is missing.
	refuse(h, reader, getObject("bucket", "a/2"), "AccessDenied")
	refuse(h, h.root, getObject("bucket", "a/2"), "NoSuchKey")
	refuse(h, reader, putObject("bucket", "a/1"), "AccessDenied")
	refuse(h, h.stranger(), getObject("bucket", "a/1"), "AccessDenied")
	do[s3.PutObjectOutput](h, lister, putObject("bucket", "a/1"))
	do[s3.ListObjectsV2Output](h, lister, &s3.ListObjectsV2Input{Bucket: wire.Ptr("bucket"), Prefix: wire.Ptr("a/x"), MaxKeys: wire.Ptr(int32(10))})
	refuse(h, lister, &s3.ListObjectsV2Input{Bucket: wire.Ptr("bucket"), Prefix: wire.Ptr("a/x"), MaxKeys: wire.Ptr(int32(11))}, "AccessDenied")
	refuse(h, lister, &s3.ListObjectsV2Input{Bucket: wire.Ptr("bucket")}, "AccessDenied")
	// Tags and lists need their own permissions.
	tagged := putObject("bucket", "t")
	tagged.Tagging = wire.Ptr("a=b")
	refuse(h, lister, tagged, "AccessDenied")
	// Each key of a multi-delete is answered for by itself.
	deleter := h.user(account, "deleter", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:DeleteObject","Resource":"arn:aws:s3:::bucket/a/*"}]}`)
	h.put("bucket", "b", "x")
	out := do[s3.DeleteObjectsOutput](h, deleter, &s3.DeleteObjectsInput{Bucket: wire.Ptr("bucket"), Delete: &s3.Delete{Objects: []s3.ObjectIdentifier{{Key: wire.Ptr("a/1")}, {Key: wire.Ptr("b")}}}})
	if len(out.Deleted) != 1 || len(out.Errors) != 1 || *out.Errors[0].Code != "AccessDenied" || *out.Errors[0].Key != "b" {
		t.Errorf("multi-delete answers %+v", out)
	}
	refuse(h, h.root, getObject("bucket", "a/1"), "NoSuchKey")
	do[s3.GetObjectOutput](h, h.root, getObject("bucket", "b"))
}

// TestMissingKeyToWhoMayListSome: who may list some prefixes is told what is
// missing there, and no more.
func TestMissingKeyToWhoMayListSome(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", true)
	some := h.user(account, "some", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*Object","Resource":"*"},
		{"Effect":"Allow","Action":"s3:ListBucket","Resource":"*","Condition":{"StringLike":{"s3:prefix":"a/*"}}}]}`)
	refuse(h, some, getObject("bucket", "a/none"), "NoSuchKey")
	refuse(h, some, getObject("bucket", "b/none"), "AccessDenied")
	for key, code := range map[string]string{"a/deleted": "NoSuchKey", "b/deleted": "AccessDenied"} {
		do[s3.DeleteObjectOutput](h, some, &s3.DeleteObjectInput{Bucket: wire.Ptr("bucket"), Key: &key})
		refuse(h, some, getObject("bucket", key), code)
	}
}

func TestConditionalDeleteNeedsReading(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", false)
	etag := h.put("bucket", "k", "x").ETag
	deleter := h.user(account, "deleter", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:DeleteObject","Resource":"*","Condition":{"Null":{"s3:if-match":"false"}}}]}`)
	in := &s3.DeleteObjectInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k")}
	refuse(h, deleter, in, "AccessDenied") // the policy wants a condition
	in.IfMatch = etag
	refuse(h, deleter, in, "AccessDenied")
	many := &s3.DeleteObjectsInput{Bucket: in.Bucket, Delete: &s3.Delete{Objects: []s3.ObjectIdentifier{{Key: in.Key, ETag: etag}}}}
	if out := do[s3.DeleteObjectsOutput](h, deleter, many); len(out.Errors) != 1 || *out.Errors[0].Code != "AccessDenied" {
		t.Errorf("multi-delete answers %+v", out)
	}
	in.IfMatch = wire.Ptr("*") // asks only whether it is there
	do[s3.DeleteObjectOutput](h, deleter, in)
}

func TestBucketPolicies(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", false)
	h.put("bucket", "k", "x")
	do[s3.PutObjectTaggingOutput](h, h.root, &s3.PutObjectTaggingInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k"), Tagging: &s3.Tagging{TagSet: []s3.Tag{{Key: wire.Ptr("open"), Value: wire.Ptr("yes")}}}})
	alien := h.user(other, "alien", allowAll)
	refuse(h, alien, getObject("bucket", "k"), "AccessDenied")
	h.policy("bucket", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"`+other+`"},"Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/*","Condition":{"StringEquals":{"s3:ExistingObjectTag/open":"yes"}}}]}`)
	do[s3.GetObjectOutput](h, alien, getObject("bucket", "k"))
	h.put("bucket", "k", "untagged")
	refuse(h, alien, getObject("bucket", "k"), "AccessDenied")
	for doc, code := range map[string]string{
		`nonsense`: "MalformedPolicy",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::other/*"}]}`:   "MalformedPolicy",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"ec2:Run","Resource":"arn:aws:s3:::bucket/*"}]}`:       "MalformedPolicy",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/*"}]}`:                  "MalformedPolicy",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/*"}]}`:  "AccessDenied", // blocked
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"s3:*","Resource":"arn:aws:s3:::bucket"}]}`:    "AccessDenied",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"x"},"Action":"s3:*","Resource":"arn:aws:s3:::bucket"}]} {}`: "MalformedPolicy",
	} {
		refuse(h, h.root, &s3.PutBucketPolicyInput{Bucket: wire.Ptr("bucket"), Policy: &doc}, code)
	}
	// The root user can mend a policy that shuts out everybody.
	h.policy("bucket", `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::bucket","arn:aws:s3:::bucket/*"]}]}`)
	refuse(h, h.root, getObject("bucket", "k"), "AccessDenied")
	do[s3.DeleteBucketPolicyOutput](h, h.root, &s3.DeleteBucketPolicyInput{Bucket: wire.Ptr("bucket")})
	do[s3.GetObjectOutput](h, h.root, getObject("bucket", "k"))
}

func TestPublicAccess(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", false)
	h.unlock("bucket", ownerEnforced)
	h.put("bucket", "k", "x")
	h.policy("bucket", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/*"}]}`)
	do[s3.GetObjectOutput](h, h.stranger(), getObject("bucket", "k"))
	dressed := getObject("bucket", "k")
	dressed.ResponseContentType = wire.Ptr("text/html")
	refuse(h, h.stranger(), dressed, "InvalidRequest")
	refuse(h, h.stranger(), &s3.HeadObjectInput{Bucket: dressed.Bucket, Key: dressed.Key, ResponseExpires: wire.Ptr(h.clock.Now())}, "InvalidRequest")
	if out := do[s3.GetObjectOutput](h, h.root, dressed); *out.ContentType != "text/html" {
		t.Errorf("answered as %s", *out.ContentType)
	}
	if !*do[s3.GetBucketPolicyStatusOutput](h, h.root, &s3.GetBucketPolicyStatusInput{Bucket: wire.Ptr("bucket")}).PolicyStatus.IsPublic {
		t.Error("the policy is not called public")
	}
	do[s3.PutPublicAccessBlockOutput](h, h.root, &s3.PutPublicAccessBlockInput{Bucket: wire.Ptr("bucket"),
		PublicAccessBlockConfiguration: &s3.PublicAccessBlockConfiguration{RestrictPublicBuckets: wire.Ptr(true)}})
	refuse(h, h.stranger(), getObject("bucket", "k"), "AccessDenied")
	do[s3.GetObjectOutput](h, h.user(account, "own", ""), getObject("bucket", "k")) // the policy counts inside of the account
	for cond, public := range map[string]bool{
		``: true,
		`,"Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`:                false,
		`,"Condition":{"IpAddress":{"aws:SourceIp":"0.0.0.0/1"}}`:                 true,
		`,"Condition":{"StringEquals":{"aws:SourceVpc":"vpc-1"}}`:                 false,
		`,"Condition":{"StringLike":{"aws:SourceVpc":"vpc-*"}}`:                   true,
		`,"Condition":{"StringEquals":{"s3:prefix":"x"}}`:                         true,
		`,"Condition":{"StringNotEquals":{"aws:SourceVpc":"vpc-1"}}`:              true,
		`,"Condition":{"StringEqualsIfExists":{"aws:PrincipalAccount":"123123"}}`: true,
	} {
		p, err := parseBucketPolicy(&bucketRow{Name: "bucket"}, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/*"`+cond+`}]}`)
		if err != nil || publicPolicy(p) != public {
			t.Errorf("%s: public %t %v", cond, !public, err)
		}
	}
}

func TestACL(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", false)
	refuse(h, h.root, &s3.PutBucketAclInput{Bucket: wire.Ptr("bucket"), ACL: wire.Ptr("private")}, "AccessControlListNotSupported")
	in := putObject("bucket", "k")
	in.ACL = wire.Ptr("public-read")
	refuse(h, h.root, in, "AccessControlListNotSupported")
	in = putObject("bucket", "k")
	in.ACL = wire.Ptr("bucket-owner-full-control")
	do[s3.PutObjectOutput](h, h.root, in)
	h.unlock("bucket", objectWriter)
	in = putObject("bucket", "open")
	in.ACL = wire.Ptr("public-read")
	do[s3.PutObjectOutput](h, h.root, in)
	do[s3.GetObjectOutput](h, h.stranger(), getObject("bucket", "open"))
	refuse(h, h.stranger(), getObject("bucket", "k"), "AccessDenied")
	refuse(h, h.stranger(), putObject("bucket", "new"), "AccessDenied")
	// A grant to another account.
	alien := h.user(other, "alien", allowAll)
	refuse(h, alien, getObject("bucket", "k"), "AccessDenied")
	do[s3.PutObjectAclOutput](h, h.root, &s3.PutObjectAclInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k"), GrantRead: wire.Ptr("id=" + canonicalID(other))})
	do[s3.GetObjectOutput](h, alien, getObject("bucket", "k"))
	refuse(h, alien, &s3.GetObjectAclInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k")}, "AccessDenied")
	refuse(h, h.user(other, "nobody", ""), getObject("bucket", "k"), "AccessDenied")
	acl := do[s3.GetObjectAclOutput](h, h.root, &s3.GetObjectAclInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k")})
	if len(acl.Grants) != 1 || *acl.Grants[0].Permission != "READ" || *acl.Owner.ID != canonicalID(account) {
		t.Errorf("list %+v", acl)
	}
	refuse(h, h.root, &s3.PutObjectAclInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k"), GrantRead: wire.Ptr("emailaddress=a@b")}, "UnresolvableGrantByEmailAddress")
	refuse(h, h.root, &s3.PutObjectAclInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k"), GrantRead: wire.Ptr("id=1")}, "InvalidArgument")
	refuse(h, h.root, &s3.PutObjectAclInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k"), ACL: wire.Ptr("nonsense")}, "InvalidArgument")
	// A list without grants is one: the owner's account needs none.
	do[s3.PutObjectAclOutput](h, h.root, &s3.PutObjectAclInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k"),
		AccessControlPolicy: &s3.AccessControlPolicy{Owner: acl.Owner}})
	acl = do[s3.GetObjectAclOutput](h, h.root, &s3.GetObjectAclInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k")})
	if len(acl.Grants) != 0 {
		t.Errorf("list %+v", acl)
	}
	refuse(h, alien, getObject("bucket", "k"), "AccessDenied")
	do[s3.GetObjectOutput](h, h.root, getObject("bucket", "k"))
	// What blocks public lists, and what ignores them.
	do[s3.PutPublicAccessBlockOutput](h, h.root, &s3.PutPublicAccessBlockInput{Bucket: wire.Ptr("bucket"),
		PublicAccessBlockConfiguration: &s3.PublicAccessBlockConfiguration{BlockPublicAcls: wire.Ptr(true), IgnorePublicAcls: wire.Ptr(true)}})
	refuse(h, h.stranger(), getObject("bucket", "open"), "AccessDenied")
	in = putObject("bucket", "open2")
	in.ACL = wire.Ptr("public-read")
	refuse(h, h.root, in, "AccessDenied")
}
