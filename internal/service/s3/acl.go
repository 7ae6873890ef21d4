package s3

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"skerry/internal/api/s3"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// The groups and permissions of "Access control list (ACL) overview".
const (
	allUsers    = "http://acs.amazonaws.com/groups/global/AllUsers"
	authUsers   = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"
	logDelivery = "http://acs.amazonaws.com/groups/s3/LogDelivery"

	fullControl = "FULL_CONTROL"
	permRead    = "READ"
	permWrite   = "WRITE"
	permReadACP = "READ_ACP"
	permSetACP  = "WRITE_ACP"

	maxGrants = 100
)

// aclRequest is what a request says about an access control list.
type aclRequest struct {
	canned                               *string
	full, read, write, readACP, writeACP *string
	policy                               *s3.AccessControlPolicy
	ofBucket, creating                   bool
	owner                                string // account of the object; empty for a new one
}

func (r aclRequest) headers() map[string]*string {
	return map[string]*string{fullControl: r.full, permRead: r.read, permWrite: r.write, permReadACP: r.readACP, permSetACP: r.writeACP}
}

func (r aclRequest) empty() bool {
	return r.canned == nil && r.policy == nil && r.full == nil && r.read == nil && r.write == nil && r.readACP == nil && r.writeACP == nil
}

// parseACL returns the grants that a request asks for; nil stands for the private
// list, which gives all to the owner.
func (s *Service) parseACL(b *bucketRow, sc auth.Scope, r aclRequest) ([]grant, error) {
	if r.empty() {
		return nil, nil
	}
	headers := r.full != nil || r.read != nil || r.write != nil || r.readACP != nil || r.writeACP != nil
	if r.canned != nil && (headers || r.policy != nil) {
		return nil, invalidRequest("Specifying both Canned ACLs and Header Grants is not allowed")
	}
	if headers && r.policy != nil {
		return nil, awserr.New(400, "UnexpectedContent", "This request does not support content")
	}
	owner := r.owner
	if owner == "" {
		owner = sc.Account
	}
	grants, err := r.grants(b, owner)
	if err != nil {
		return nil, err
	}
	if b.Owner == ownerEnforced {
		return nil, refuseACL(b, r, grants)
	}
	if b.Block != nil && b.Block.BlockACLs && publicGrants(grants) {
		if r.ofBucket && r.creating {
			return nil, awserr.New(400, "InvalidBucketAclWithBlockPublicAccessError", "Bucket cannot have public ACLs set with BlockPublicAccess enabled").With("BucketName", b.Name)
		}
		return nil, accessDenied()
	}
	return grants, nil
}

// refuseACL answers a request for an access control list where they are disabled.
// Only what says what is so anyway is let through.
func refuseACL(b *bucketRow, r aclRequest, grants []grant) error {
	canned := value(r.canned)
	private := []grant{{ID: canonicalID(b.Account), Permission: fullControl}}
	switch {
	case r.ofBucket && r.creating && canned == "private":
		return nil
	case r.ofBucket && r.creating:
		return awserr.New(400, "InvalidBucketAclWithObjectOwnership", "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting")
	case !r.ofBucket && canned == "bucket-owner-full-control":
		return nil
	case canned == "" && slices.Equal(grants, private):
		return nil
	}
	return awserr.New(400, "AccessControlListNotSupported", "The bucket does not allow ACLs")
}

// grants makes the list, without regard to what the bucket allows.
func (r aclRequest) grants(b *bucketRow, owner string) ([]grant, error) {
	if r.canned != nil {
		return cannedACL(*r.canned, b.Account, owner, r.ofBucket)
	}
	if r.policy != nil {
		return parseGrants(r.policy, owner)
	}
	var out []grant
	for _, perm := range []string{fullControl, permRead, permWrite, permReadACP, permSetACP} {
		list := r.headers()[perm]
		if list == nil {
			continue
		}
		for _, part := range strings.Split(*list, ",") {
			kind, id, ok := strings.Cut(strings.TrimSpace(part), "=")
			if !ok {
				return nil, invalidArgument("x-amz-grant", part, "Argument format not recognized")
			}
			g, err := parseGrantee(map[string]string{"id": "CanonicalUser", "uri": "Group", "emailaddress": "AmazonCustomerByEmail"}[strings.ToLower(kind)], strings.Trim(id, `"`))
			if err != nil {
				return nil, err
			}
			g.Permission = perm
			out = append(out, g)
		}
	}
	return out, nil
}

// cannedACL expands a canned access control list.
func cannedACL(name, bucketAccount, owner string, ofBucket bool) ([]grant, error) {
	out := []grant{{ID: canonicalID(owner), Permission: fullControl}}
	of := func(uri, perm string) { out = append(out, grant{URI: uri, Permission: perm}) }
	bucketOwner := func(perm string) {
		if bucketAccount != owner {
			out = append(out, grant{ID: canonicalID(bucketAccount), Permission: perm})
		}
	}
	switch {
	case name == "private":
	case name == "public-read":
		of(allUsers, permRead)
	case name == "public-read-write":
		of(allUsers, permRead)
		of(allUsers, permWrite)
	case name == "authenticated-read":
		of(authUsers, permRead)
	case name == "aws-exec-read":
	case name == "bucket-owner-read" && !ofBucket:
		bucketOwner(permRead)
	case name == "bucket-owner-full-control" && !ofBucket:
		bucketOwner(fullControl)
	case name == "log-delivery-write" && ofBucket:
		of(logDelivery, permWrite)
		of(logDelivery, permReadACP)
	default:
		return nil, invalidArgument("x-amz-acl", name, "")
	}
	return out, nil
}

// parseGrants reads the body of PutBucketAcl and PutObjectAcl.
func parseGrants(p *s3.AccessControlPolicy, owner string) ([]grant, error) {
	if p.Owner == nil || p.Owner.ID == nil {
		return nil, malformedACL()
	}
	if *p.Owner.ID != canonicalID(owner) {
		return nil, accessDenied()
	}
	if len(p.Grants) > maxGrants {
		return nil, malformedACL()
	}
	out := []grant{}
	if len(p.Grants) == 0 {
		out = append(out, grant{}) // to nobody: no list at all would be the default one
	}
	for _, g := range p.Grants {
		perm := value(g.Permission)
		if g.Grantee == nil || !slices.Contains([]string{fullControl, permRead, permWrite, permReadACP, permSetACP}, perm) {
			return nil, malformedACL()
		}
		kind, id := value(g.Grantee.Type), value(g.Grantee.ID)
		switch kind {
		case "Group":
			id = value(g.Grantee.URI)
		case "AmazonCustomerByEmail":
			id = value(g.Grantee.EmailAddress)
		}
		row, err := parseGrantee(kind, id)
		if err != nil {
			return nil, err
		}
		row.Permission = perm
		out = append(out, row)
	}
	return out, nil
}

func malformedACL() error {
	return awserr.New(400, "MalformedACLError", "The XML you provided was not well-formed or did not validate against our published schema")
}

var canonicalForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

func parseGrantee(kind, id string) (grant, error) {
	switch kind {
	case "CanonicalUser":
		if !canonicalForm.MatchString(id) {
			return grant{}, invalidArgument("CanonicalUser/ID", id, "Invalid id")
		}
		return grant{ID: id}, nil
	case "Group":
		if id != allUsers && id != authUsers && id != logDelivery {
			return grant{}, invalidArgument("Group/URI", id, "Invalid group uri")
		}
		return grant{URI: id}, nil
	case "AmazonCustomerByEmail":
		return grant{}, awserr.New(400, "UnresolvableGrantByEmailAddress", "The e-mail address you provided does not match any account on record.").With("EmailAddress", id)
	}
	return grant{}, malformedACL()
}

func publicGrants(grants []grant) bool {
	return slices.ContainsFunc(grants, func(g grant) bool { return g.URI == allUsers || g.URI == authUsers })
}

// granted says whether a list gives a permission to a caller who is not of the
// owner's account: inside of it, identity policies decide.
func granted(b *bucketRow, acl []grant, owner string, sc auth.Scope, permission string) bool {
	if b.Owner == ownerEnforced {
		return false
	}
	caller := ""
	if a := sc.Principal.Account; a != "" && a != owner {
		caller = canonicalID(a)
	}
	ignorePublic := b.Block != nil && (b.Block.IgnoreACLs || b.Block.Restrict && sc.Principal.Account != b.Account)
	for _, g := range acl {
		if g.Permission != permission && g.Permission != fullControl {
			continue
		}
		switch {
		case g.URI == allUsers && !ignorePublic:
			return true
		case g.URI == authUsers && !ignorePublic && sc.Principal.Kind != auth.Anonymous:
			return true
		case g.ID != "" && g.ID == caller:
			return true
		}
	}
	return false
}

// showACL returns a list as answers tell it.
func showACL(acl []grant, owner string) []s3.Grant {
	if acl == nil {
		acl = []grant{{ID: canonicalID(owner), Permission: fullControl}}
	}
	out := make([]s3.Grant, 0, len(acl))
	for _, g := range acl {
		if g == (grant{}) {
			continue
		}
		who := &s3.Grantee{Type: wire.Ptr("Group"), URI: optional(g.URI)}
		if g.ID != "" {
			who = &s3.Grantee{Type: wire.Ptr("CanonicalUser"), ID: &g.ID}
		}
		out = append(out, s3.Grant{Grantee: who, Permission: &g.Permission})
	}
	return out
}

// PutBucketAcl implements s3:PutBucketAcl.
func (s *Service) PutBucketAcl(ctx context.Context, sc auth.Scope, in *s3.PutBucketAclInput) (*s3.PutBucketAclOutput, error) {
	r := aclRequest{
		canned: in.ACL, full: in.GrantFullControl, read: in.GrantRead, write: in.GrantWrite,
		readACP: in.GrantReadACP, writeACP: in.GrantWriteACP, policy: in.AccessControlPolicy, ofBucket: true,
	}
	if r.empty() {
		return nil, awserr.New(400, "MissingSecurityHeader", "Your request was missing a required header").With("MissingHeaderName", "x-amz-acl")
	}
	return &s3.PutBucketAclOutput{}, s.editBucket(ctx, in.Bucket, in.ExpectedBucketOwner, func(tx *store.Tx, b *bucketRow) (err error) {
		r.owner = b.Account
		b.ACL, err = s.parseACL(b, sc, r)
		return err
	})
}

// GetBucketAcl implements s3:GetBucketAcl.
func (s *Service) GetBucketAcl(ctx context.Context, sc auth.Scope, in *s3.GetBucketAclInput) (*s3.GetBucketAclOutput, error) {
	b, err := s.viewBucket(ctx, in.Bucket, in.ExpectedBucketOwner)
	if err != nil {
		return nil, err
	}
	acl := b.ACL
	if b.Owner == ownerEnforced {
		acl = nil
	}
	return &s3.GetBucketAclOutput{Owner: &s3.Owner{ID: wire.Ptr(canonicalID(b.Account))}, Grants: showACL(acl, b.Account)}, nil
}

// PutObjectAcl implements s3:PutObjectAcl.
func (s *Service) PutObjectAcl(ctx context.Context, sc auth.Scope, in *s3.PutObjectAclInput) (*s3.PutObjectAclOutput, error) {
	r := aclRequest{
		canned: in.ACL, full: in.GrantFullControl, read: in.GrantRead, write: in.GrantWrite,
		readACP: in.GrantReadACP, writeACP: in.GrantWriteACP, policy: in.AccessControlPolicy,
	}
	if r.empty() {
		return nil, awserr.New(400, "MissingSecurityHeader", "Your request was missing a required header").With("MissingHeaderName", "x-amz-acl")
	}
	_, _, err := s.editObject(ctx, objectName{in.Bucket, in.Key, in.VersionId, in.ExpectedBucketOwner}, func(tx *store.Tx, b *bucketRow, o *objectRow) (err error) {
		r.owner = o.Owner
		if o.ACL, err = s.parseACL(b, sc, r); err != nil {
			return err
		}
		return s.notify(tx, b, o, sc, "s3:ObjectAcl:Put")
	})
	return &s3.PutObjectAclOutput{}, err
}

// GetObjectAcl implements s3:GetObjectAcl.
func (s *Service) GetObjectAcl(ctx context.Context, sc auth.Scope, in *s3.GetObjectAclInput) (*s3.GetObjectAclOutput, error) {
	b, o, err := s.viewObject(ctx, objectName{in.Bucket, in.Key, in.VersionId, in.ExpectedBucketOwner})
	if err != nil {
		return nil, err
	}
	acl, owner := o.ACL, o.Owner
	if b.Owner == ownerEnforced {
		acl, owner = nil, b.Account
	}
	return &s3.GetObjectAclOutput{Owner: &s3.Owner{ID: wire.Ptr(canonicalID(owner))}, Grants: showACL(acl, owner)}, nil
}
