package auth

import (
	"errors"
	"time"
)

// ErrUnknown says that there is no such role, policy or identity provider.
var ErrUnknown = errors.New("auth: unknown identity")

// Role is what one has to know of a role to let somebody assume it.
type Role struct {
	Account, Name, ID, ARN string
	Trust                  string // trust policy, as JSON
	MaxSession             time.Duration
	Tags                   map[string]string
}

// Provider is an OpenID Connect identity provider that an account knows.
type Provider struct {
	ARN     string
	Issuer  string   // URL
	Address string   // the issuer without its scheme, as condition keys begin
	Clients []string // audiences that are accepted
}
