package registry

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"skerry/internal/auth"
	"skerry/internal/base/clock"
	"skerry/internal/blob"
	"skerry/internal/store"
)

// Deps is what the registry needs.
type Deps struct {
	Store *store.DB
	Blobs blob.Store
	Clock clock.Clock
	Log   *slog.Logger
	// Account and Region are those of a name without them: localhost:4566/name.
	Account, Region string
	// Port is where clients find the registry; Named tells whether names below
	// localhost lead there on this machine. It is asked when an address is wanted.
	Port  string
	Named func() bool
	// Client fetches from upstreams; nil is an ordinary one.
	Client *http.Client
	// Authorise asks the policies whether the scope may do all of that, and with no
	// needs whether its principal may come in at all. A refusal is an *Error made by
	// Refuse.
	Authorise func(ctx context.Context, sc auth.Scope, needs []auth.Access) error
}

// Hooks are what the control plane adds. Any may be nil.
type Hooks struct {
	// Pushed is told of every image put, in its transaction: rows and events that
	// it writes are as durable as the image. By a tag that moves, too.
	Pushed func(tx *store.Tx, p Push) error
	// Told is told by Tell, after the transaction, of every image that was pushed
	// (not of those of upstreams) or has gone: at least once, whatever happens to
	// the server in between. Wake has Tell run soon.
	Told func(ctx context.Context, n Notice) error
	Wake func()
	// Deleted is told of every manifest that goes, in its transaction, with the
	// tags that it had.
	Deleted func(tx *store.Tx, m *Manifest, tags []string) error
	// Missing is asked to make a repository that somebody pushes to. A nil error
	// says that it is there now. Any *Error is answered to the client.
	Missing func(ctx context.Context, sc auth.Scope, r Repo) error
	// Upstream returns where the images of a repository are fetched from if they
	// are not here (pull-through cache), or nil.
	Upstream func(ctx context.Context, r Repo) (*Upstream, error)
	// Import is asked before anything is fetched from an upstream: it says whether
	// the caller may.
	Import func(ctx context.Context, sc auth.Scope, r Repo) error
	// Fetched is told before what an upstream has given is stored: it makes the
	// repository if it is not there.
	Fetched func(ctx context.Context, sc auth.Scope, r Repo) error
	// Pulled is told of every manifest that a client got, outside of any
	// transaction. It must not block for long.
	Pulled func(ctx context.Context, sc auth.Scope, m *Manifest)
	// Uncounted tells whether a caller's pulls leave an image's time of the last
	// pull as it is.
	Uncounted func(ctx context.Context, sc auth.Scope, r Repo) bool
	// Mounts tells whether layers of one repository of a registry may be mounted in
	// another; without the hook they may.
	Mounts func(ctx context.Context, account, region string) (bool, error)
	// Served is told of the bytes of layers that a client got.
	Served func(ctx context.Context, sc auth.Scope, r Repo, bytes int64)
}

// Push is an image that was put.
type Push struct {
	Manifest *Manifest
	Tags     []string // that it was given by this push; none: by digest
	New      bool     // the manifest was not there before
	Restored bool     // it was archived before
}

// Upstream is a repository of another registry.
type Upstream struct {
	Base     string // https://registry-1.docker.io
	Name     string // library/alpine
	User     string // empty: anonymous
	Password string
}

// Registry keeps images.
type Registry struct {
	Deps
	hooks  Hooks
	Tokens *Tokens
}

// New returns the registry of a store.
func New(d Deps) *Registry {
	if d.Client == nil {
		d.Client = &http.Client{Timeout: time.Hour} // for a whole layer
	}
	return &Registry{Deps: d, Tokens: &Tokens{store: d.Store, clock: d.Clock}}
}

// Use sets the hooks, before anything is served.
func (r *Registry) Use(h Hooks) { r.hooks = h }

func (r *Registry) now() time.Time { return r.Clock.Now().UTC().Truncate(time.Millisecond) }
