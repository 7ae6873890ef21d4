package auth

import (
	"context"
	"errors"
	"time"
)

// ErrNoCredential says that nobody has that access key.
var ErrNoCredential = errors.New("auth: no such access key")

// Credential is an access key with its secret and its owner.
type Credential struct {
	AccessKey string
	Secret    string
	Token     string // session token; empty for long-term keys
	Principal Principal
	Expires   time.Time // zero for long-term keys
	Inactive  bool      // switched off by iam:UpdateAccessKey
}

// Document is a policy and where it comes from, such as a managed policy's ARN or
// the name of an inline policy. Explanations name the source.
type Document struct {
	Source string
	Policy *Policy
}

// Policies are those attached to a principal.
type Policies struct {
	Identity []Document
	Boundary []Document // nil: no permissions boundary; empty: one that allows nothing
	Session  []Document // nil: no session policy; empty: one that allows nothing
}

// Directory knows credentials and the policies of principals.
type Directory interface {
	// Credential returns the credential of an access key, expired and inactive
	// ones too, or ErrNoCredential.
	Credential(ctx context.Context, accessKey string) (Credential, error)
	// Policies returns what is attached to a principal. Of root, anonymous callers
	// and services nothing is asked.
	Policies(ctx context.Context, p Principal) (Policies, error)
}
