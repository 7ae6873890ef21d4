package iam

import (
	"strings"
	"time"

	"skerry/internal/base/arn"
	"skerry/internal/store"
)

// entity is what users, groups and roles have in common. Names are looked up
// without regard to case, as in IAM; everything that points at an entity does so
// by its unique id, so that a rename breaks nothing and a successor of the same
// name inherits nothing.
type entity struct {
	Account, Name, Path, ID string
	Created                 time.Time
	Tags                    []tag
	Inline                  []inline // sorted by name
	Attached                []string // ARNs of managed policies, in order of attachment
	Boundary                string   // ARN of a managed policy, or empty
}

type tag struct{ Key, Value string }

type inline struct{ Name, Document string }

type userRow struct {
	entity
	Groups  []string // ids
	Login   *login
	SSHKeys []sshKey
	Certs   []signingCert
}

type groupRow struct{ entity }

type roleRow struct {
	entity
	Description string
	Trust       string
	// Trusted pins the users and roles that the trust policy names: ARN -> unique
	// id. One who comes later under the same name is not trusted.
	Trusted    map[string]string
	MaxSession int32  // seconds
	Service    string // of a service-linked role: the service it is linked to
}

type policyRow struct {
	Account, Name, Path, ID, Description string
	Created, Updated                     time.Time
	Tags                                 []tag
	Versions                             []policyVersion // oldest first
	Default                              int             // number of the default version
	Last                                 int             // number given out last
}

type policyVersion struct {
	Number   int
	Document string
	Created  time.Time
}

type profileRow struct {
	Account, Name, Path, ID string
	Created                 time.Time
	Tags                    []tag
	Role                    string // id, or empty
}

type accessKeyRow struct {
	ID, Account, Secret string
	User                string // id; empty for the root user's
	Active              bool
	Created             time.Time // to the nanosecond: it is the order of a user's keys
}

// useRow is when an access key or a role (by its id) was last used.
type useRow struct {
	Subject, Service, Region string
	At                       time.Time
}

// accessRow is when a user or a role last tried an action: iam:GetUser, or iam: for
// what was none.
type accessRow struct {
	Entity, Action, Region string // Entity is an id
	At                     time.Time
}

// jobRow is a last accessed report, as it was when it was asked for.
type jobRow struct {
	Account, ID string
	Owner       string // who asked for it and may read it
	Level       string
	Created     time.Time
	Entities    []string // ids of the users and then the roles that it is about, each by ARN
	Services    []serviceAccess
}

// serviceAccess is a service in a report.
type serviceAccess struct {
	Namespace, Name string
	Last            lastAccess
	Used            map[string]time.Time // when, by entity
	Actions         []actionAccess
}

type actionAccess struct {
	Name string
	Last lastAccess
}

// lastAccess is the latest of several attempts; zero if there was none.
type lastAccess struct {
	Entity string // ARN
	Region string
	At     time.Time
}

// login is a user's console password.
type login struct {
	Salt, Hash       []byte
	Created, Changed time.Time
	Reset            bool     // the user must change it
	Old              [][]byte // salt and hash of former passwords, the newest first
}

type sshKey struct {
	ID, Body, Fingerprint string
	Active                bool
	Uploaded              time.Time
}

type signingCert struct {
	ID, Body string
	Active   bool
	Uploaded time.Time
}

type mfaRow struct {
	Serial, Account, Name, Path string
	Seed                        []byte
	User                        string // id, or empty; the account's number for root
	Enabled                     time.Time
	Counter                     int64 // of the last accepted code, so that none is accepted twice
	Tags                        []tag
}

// accountRow holds what an account has one of.
type accountRow struct {
	Account  string
	Alias    string
	Password *passwordPolicy
}

type aliasRow struct{ Alias, Account string }

type oidcRow struct {
	Account, URL string // the URL without its scheme, as in the ARN
	HTTP         bool   // the scheme was http
	Clients      []string
	Thumbprints  []string
	Created      time.Time
	Tags         []tag
}

type samlRow struct {
	Account, Name, Document, UUID string
	Created, ValidUntil           time.Time
	Tags                          []tag
}

type serverCertRow struct {
	Account, Name, Path, ID string
	Body, Chain, Key        string
	Uploaded, Expires       time.Time
	Tags                    []tag
}

type deletionRow struct {
	Account, Task, Status, Reason string
	Created                       time.Time
}

type reportRow struct {
	Account string
	Content []byte
	Created time.Time
}

// fold is the form in which names are compared.
func fold(name string) string { return strings.ToLower(name) }

// attachments lists an entity's managed policies and its boundary for the
// indexes by policy.
func attachments(e *entity) []store.Key {
	keys := make([]store.Key, 0, len(e.Attached)+1)
	for _, a := range e.Attached {
		keys = append(keys, store.K(e.Account, asPermissions, a))
	}
	if e.Boundary != "" {
		keys = append(keys, store.K(e.Account, asBoundary, e.Boundary))
	}
	return keys
}

// The ways in which an entity uses a policy.
const (
	asPermissions = "p"
	asBoundary    = "b"
)

var (
	users = store.NewTable("iam/users", func(r *userRow) store.Key { return store.K(r.Account, fold(r.Name)) },
		usersByID, usersByPolicy, usersByGroup)
	usersByID     = store.NewIndex("id", func(r *userRow) []store.Key { return []store.Key{store.K(r.ID)} })
	usersByPolicy = store.NewIndex("policy", func(r *userRow) []store.Key { return attachments(&r.entity) })
	usersByGroup  = store.NewIndex("group", func(r *userRow) []store.Key {
		keys := make([]store.Key, len(r.Groups))
		for i, g := range r.Groups {
			keys[i] = store.K(g)
		}
		return keys
	})

	groups = store.NewTable("iam/groups", func(r *groupRow) store.Key { return store.K(r.Account, fold(r.Name)) },
		groupsByID, groupsByPolicy)
	groupsByID     = store.NewIndex("id", func(r *groupRow) []store.Key { return []store.Key{store.K(r.ID)} })
	groupsByPolicy = store.NewIndex("policy", func(r *groupRow) []store.Key { return attachments(&r.entity) })

	roles = store.NewTable("iam/roles", func(r *roleRow) store.Key { return store.K(r.Account, fold(r.Name)) },
		rolesByID, rolesByPolicy)
	rolesByID     = store.NewIndex("id", func(r *roleRow) []store.Key { return []store.Key{store.K(r.ID)} })
	rolesByPolicy = store.NewIndex("policy", func(r *roleRow) []store.Key { return attachments(&r.entity) })

	policies = store.NewTable("iam/policies", func(r *policyRow) store.Key { return store.K(r.Account, fold(r.Name)) })

	profiles = store.NewTable("iam/profiles", func(r *profileRow) store.Key { return store.K(r.Account, fold(r.Name)) },
		profilesByRole)
	profilesByRole = store.NewIndex("role", func(r *profileRow) []store.Key {
		if r.Role == "" {
			return nil
		}
		return []store.Key{store.K(r.Role)}
	})

	accessKeys = store.NewTable("iam/accesskeys", func(r *accessKeyRow) store.Key { return store.K(r.ID) }, keysByUser)
	keysByUser = store.NewIndex("user", func(r *accessKeyRow) []store.Key {
		return []store.Key{store.K(r.Account, r.User, r.Created)}
	})
	uses     = store.NewTable("iam/uses", func(r *useRow) store.Key { return store.K(r.Subject) })
	accesses = store.NewTable("iam/accesses", func(r *accessRow) store.Key { return store.K(r.Entity, r.Action) })

	mfas       = store.NewTable("iam/mfa", func(r *mfaRow) store.Key { return store.K(r.Account, r.Serial) }, mfasByUser)
	mfasByUser = store.NewIndex("user", func(r *mfaRow) []store.Key {
		if r.User == "" {
			return nil
		}
		return []store.Key{store.K(r.User)}
	})

	accounts    = store.NewTable("iam/accounts", func(r *accountRow) store.Key { return store.K(r.Account) })
	aliases     = store.NewTable("iam/aliases", func(r *aliasRow) store.Key { return store.K(r.Alias) })
	oidcs       = store.NewTable("iam/oidc", func(r *oidcRow) store.Key { return store.K(r.Account, r.URL) })
	samls       = store.NewTable("iam/saml", func(r *samlRow) store.Key { return store.K(r.Account, r.Name) })
	serverCerts = store.NewTable("iam/servercerts", func(r *serverCertRow) store.Key { return store.K(r.Account, fold(r.Name)) })
	deletions   = store.NewTable("iam/deletions", func(r *deletionRow) store.Key { return store.K(r.Account, r.Task) })
	reports     = store.NewTable("iam/reports", func(r *reportRow) store.Key { return store.K(r.Account) })

	jobs          = store.NewTable("iam/jobs", func(r *jobRow) store.Key { return store.K(r.Account, r.ID) }, jobsByCreated)
	jobsByCreated = store.NewIndex("created", func(r *jobRow) []store.Key { return []store.Key{store.K(r.Created)} })
)

func iamARN(account, kind, path, name string) string {
	return arn.New("iam", "", account, kind+path+name).String()
}

func (r *userRow) arn() string       { return iamARN(r.Account, "user", r.Path, r.Name) }
func (r *groupRow) arn() string      { return iamARN(r.Account, "group", r.Path, r.Name) }
func (r *roleRow) arn() string       { return iamARN(r.Account, "role", r.Path, r.Name) }
func (r *policyRow) arn() string     { return iamARN(r.Account, "policy", r.Path, r.Name) }
func (r *profileRow) arn() string    { return iamARN(r.Account, "instance-profile", r.Path, r.Name) }
func (r *serverCertRow) arn() string { return iamARN(r.Account, "server-certificate", r.Path, r.Name) }
func (r *oidcRow) arn() string       { return iamARN(r.Account, "oidc-provider", "/", r.URL) }
func (r *samlRow) arn() string       { return iamARN(r.Account, "saml-provider", "/", r.Name) }

// version returns the version of that number, or nil.
func (r *policyRow) version(n int) *policyVersion {
	for i := range r.Versions {
		if r.Versions[i].Number == n {
			return &r.Versions[i]
		}
	}
	return nil
}

// document returns the text of the default version.
func (r *policyRow) document() string { return r.version(r.Default).Document }
