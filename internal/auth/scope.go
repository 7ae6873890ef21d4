package auth

import "time"

// Kind is the kind of a principal.
type Kind uint8

// The kinds of principals, as in "How IAM works: principals".
const (
	Anonymous     Kind = iota
	Root               // the account's root user
	User               // an IAM user
	AssumedRole        // a session of a role
	FederatedUser      // a session of sts:GetFederationToken
	Service            // an AWS service, such as lambda.amazonaws.com
	// Identity is somebody for whom an identity provider vouches, who has no
	// credentials yet: the caller of sts:AssumeRoleWithWebIdentity and WithSAML.
	// Session.Federated names the provider.
	Identity
)

// Principal is who makes a request.
type Principal struct {
	Kind    Kind
	Account string // twelve digits; empty for Anonymous and Service
	// ARN is the caller's, as sts:GetCallerIdentity tells it: of a role's session
	// arn:aws:sts::123456789012:assumed-role/name/session.
	ARN string
	// ID is the condition key aws:userid: AIDA..., AROA...:session, the account
	// for root.
	ID        string
	Name      string // the user's or the role's name
	Role      string // ARN of the role (AssumedRole only)
	Service   string // DNS name of the service (Service only)
	AccessKey string // key that signed; empty for calls from inside
	Tags      map[string]string
	Session   Session
}

// Session is what temporary credentials carry besides the principal.
type Session struct {
	Policies       []string // inline session policies, as JSON
	PolicyARNs     []string // managed session policies
	Issued         time.Time
	Expires        time.Time
	SourceIdentity string
	MFA            bool              // aws:MultiFactorAuthPresent
	Federated      string            // aws:FederatedProvider
	Context        map[string]string // further condition keys, such as the claims of a web identity
}

// Request holds the facts of a request that policies and logs ask for.
type Request struct {
	ID        string // x-amzn-RequestId
	Time      time.Time
	SourceIP  string // empty for calls from inside
	UserAgent string
	Referer   string
	Host      string // as the client wrote it, with the port
	Secure    bool   // TLS, aws:SecureTransport
	// ViaService is true for calls that one service makes of another with the
	// caller's own rights (aws:ViaAWSService).
	ViaService    bool
	SourceARN     string // aws:SourceArn, when a service calls for a resource
	SourceAccount string // aws:SourceAccount
	// Auth tells how the request was signed: the condition keys s3:authType,
	// s3:signatureversion, s3:signatureAge and s3:x-amz-content-sha256.
	Auth Method
}

// Method is how a request was signed.
type Method struct {
	Type       string // REST-HEADER, REST-QUERY-STRING, POST; empty when anonymous
	Version    string // AWS4-HMAC-SHA256, AWS4-ECDSA-P256-SHA256 or AWS
	SignedAt   time.Time
	ContentSHA string // x-amz-content-sha256
}

// Scope is who asks, where, on whose behalf. The gateway mints one once it has
// authenticated a request; ServiceScope mints those of calls from inside.
// Handlers receive it and never make one.
type Scope struct {
	Account   string // account whose resources are meant: the caller's
	Region    string
	Principal Principal
	Request   Request
}

// NewScope returns the scope of a request by p, whose account is the one that
// is meant.
func NewScope(p Principal, region string, r Request) Scope {
	return Scope{Account: p.Account, Region: region, Principal: p, Request: r}
}

// ServiceScope returns the scope of a call that an AWS service makes on its own,
// such as S3 (s3.amazonaws.com) invoking a function for a bucket. source is the
// ARN of the resource for which it calls, and may be empty.
func ServiceScope(service, account, region, source, requestID string, now time.Time) Scope {
	return Scope{
		Account:   account,
		Region:    region,
		Principal: Principal{Kind: Service, Service: service},
		Request:   Request{ID: requestID, Time: now, Secure: true, SourceARN: source, SourceAccount: account},
	}
}

// Access is one permission that an operation needs: an IAM action on a resource.
type Access struct {
	Action   string // such as s3:PutObject
	Resource string // ARN, or "*" for actions without a resource type
	// Owner is the account that owns the resource; empty means the caller's.
	Owner string
	// Context holds the condition keys of this access besides the global ones,
	// with their values: s3:prefix, lambda:FunctionArn, aws:ResourceTag/x, ...
	Context map[string][]string
	// Policy is the resource's own policy as JSON; empty if it has none.
	Policy string
	// Strict says that the resource's policy must allow the access, and that
	// identity policies alone don't: the trust policy of a role, a KMS key's policy.
	Strict bool
	// ACL says that something other than a policy already grants this access to
	// the caller: an S3 access control list. An explicit deny still wins.
	ACL bool
}
