package sts

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	api "skerry/internal/api/sts"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/base/ids"
	"skerry/internal/loop"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// sessionRow is a session and its credentials. It never changes.
type sessionRow struct {
	AccessKey, Secret, Token string
	Kind                     uint8 // auth.Kind
	Account, ARN, ID, Name   string
	Role                     string // ARN
	Tags                     map[string]string
	Transitive               []string // keys of tags that go on to sessions made with this one
	Policies, PolicyARNs     []string // session policies
	Limited                  bool     // session policies limit even if there are none
	// Parent is the unique id of the user or role whose rights these are; the
	// account's number for root.
	Parent         string
	Issued         time.Time
	Expires        time.Time
	SourceIdentity string
	MFA            bool
	Federated      string
	Context        map[string]string
}

var (
	sessions = store.NewTable("sts/sessions", func(r *sessionRow) store.Key { return store.K(r.AccessKey) }, sessionsByExpiry)

	sessionsByExpiry = store.NewIndex("expiry", func(r *sessionRow) []store.Key { return []store.Key{store.K(r.Expires)} })
)

const sessionPrefix = "ASIA"

// recent remembers sessions that were looked up. They never change, so it needs
// no care but to stay small; the sweep empties it.
type recent struct{ rows sync.Map }

func (r *sessionRow) principal() auth.Principal {
	return auth.Principal{
		Kind: auth.Kind(r.Kind), Account: r.Account, ARN: r.ARN, ID: r.ID, Name: r.Name, Role: r.Role, AccessKey: r.AccessKey, Tags: r.Tags,
		Session: auth.Session{
			Policies: r.Policies, PolicyARNs: r.PolicyARNs, Issued: r.Issued, Expires: r.Expires, SourceIdentity: r.SourceIdentity,
			MFA: r.MFA, Federated: r.Federated, Context: r.Context,
		},
	}
}

// lookup returns the session of an access key, or auth.ErrNoCredential.
func (s *Service) lookup(ctx context.Context, accessKey string) (*sessionRow, error) {
	if v, ok := s.recent.rows.Load(accessKey); ok {
		return v.(*sessionRow), nil
	}
	var row *sessionRow
	err := s.d.Store.View(ctx, func(tx *store.Tx) error {
		var err error
		row, err = sessions.Get(tx, store.K(accessKey))
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, auth.ErrNoCredential
	}
	if err != nil {
		return nil, fmt.Errorf("sts: read session: %w", err)
	}
	s.recent.rows.Store(accessKey, row)
	return row, nil
}

// Credential implements auth.Directory. The session of somebody who was deleted
// is nobody's.
func (s *Service) Credential(ctx context.Context, accessKey string) (auth.Credential, error) {
	if !strings.HasPrefix(accessKey, sessionPrefix) {
		return s.d.Identities.Credential(ctx, accessKey)
	}
	r, err := s.lookup(ctx, accessKey)
	if err != nil {
		return auth.Credential{}, err
	}
	if r.Parent != r.Account {
		there, err := s.d.Identities.Exists(ctx, r.Parent)
		if err != nil {
			return auth.Credential{}, err
		}
		if !there {
			return auth.Credential{}, auth.ErrNoCredential
		}
	}
	return auth.Credential{AccessKey: r.AccessKey, Secret: r.Secret, Token: r.Token, Principal: r.principal(), Expires: r.Expires}, nil
}

// everything is what root may do, for the federated users whom root vouches for.
const everything = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`

// Policies implements auth.Directory: what the user or role has, and the session
// policies of the session that the access key belongs to.
func (s *Service) Policies(ctx context.Context, p auth.Principal) (auth.Policies, error) {
	if !strings.HasPrefix(p.AccessKey, sessionPrefix) {
		return s.d.Identities.Policies(ctx, p)
	}
	r, err := s.lookup(ctx, p.AccessKey)
	if errors.Is(err, auth.ErrNoCredential) || err == nil && !s.d.Clock.Now().Before(r.Expires) {
		// Signed requests don't come this far; a call from inside does.
		return auth.Policies{}, awserr.New(http.StatusForbidden, "ExpiredToken", "The security token included in the request is expired")
	}
	if err != nil {
		return auth.Policies{}, err
	}
	out, err := s.parentPolicies(ctx, r, p)
	if err != nil {
		return auth.Policies{}, err
	}
	if !r.Limited {
		return out, nil
	}
	out.Session = []auth.Document{}
	for _, text := range r.Policies {
		doc, err := auth.ParsePolicy(text)
		if err != nil {
			return auth.Policies{}, fmt.Errorf("sts: session policy of %s: %w", r.ARN, err)
		}
		out.Session = append(out.Session, auth.Document{Source: "session policy", Policy: doc})
	}
	for _, arn := range r.PolicyARNs {
		doc, err := s.d.Identities.ManagedPolicy(ctx, r.Account, arn)
		if errors.Is(err, auth.ErrUnknown) {
			continue // deleted since: it allows nothing any more
		}
		if err != nil {
			return auth.Policies{}, err
		}
		out.Session = append(out.Session, doc)
	}
	return out, nil
}

func (s *Service) parentPolicies(ctx context.Context, r *sessionRow, p auth.Principal) (auth.Policies, error) {
	if p.Kind != auth.FederatedUser {
		return s.d.Identities.Policies(ctx, p)
	}
	if r.Parent == r.Account {
		doc, err := auth.ParsePolicy(everything)
		return auth.Policies{Identity: []auth.Document{{Source: "root", Policy: doc}}}, err
	}
	return s.d.Identities.Policies(ctx, auth.Principal{Kind: auth.User, Account: r.Account, ID: r.Parent})
}

// begin completes a session with credentials and stores it.
func (s *Service) begin(ctx context.Context, r *sessionRow, duration time.Duration) (*api.Credentials, error) {
	now := s.d.Clock.Now().UTC().Truncate(time.Second)
	r.AccessKey = ids.AccessKey(sessionPrefix, r.Account)
	r.Secret = ids.Secret()
	r.Token = "IQoJb3JpZ2luX2Vj" + ids.Alnum(192)
	r.Issued, r.Expires = now, now.Add(duration)
	err := s.d.Store.Update(ctx, func(tx *store.Tx) error { return sessions.Insert(tx, r) })
	if err != nil {
		return nil, fmt.Errorf("sts: begin session of %s: %w", r.ARN, err)
	}
	return &api.Credentials{
		AccessKeyId: wire.Ptr(r.AccessKey), SecretAccessKey: wire.Ptr(r.Secret), SessionToken: wire.Ptr(r.Token), Expiration: wire.Ptr(r.Expires),
	}, nil
}

const (
	afterglow  = time.Hour // how long an ended session still answers ExpiredToken
	sweepBatch = 1000
)

// SweepLoop removes sessions that ended an hour ago.
func (s *Service) SweepLoop() loop.Loop {
	return loop.Loop{
		Name: "sts/sessions", Does: "removes sessions that ended an hour ago",
		Period: 5 * time.Minute, Deadline: time.Minute, Run: s.sweep,
	}
}

func (s *Service) sweep(ctx context.Context) (string, error) {
	s.recent.rows.Clear()
	removed := 0
	for {
		n := 0
		err := s.d.Store.Update(ctx, func(tx *store.Tx) error {
			n = 0
			old := store.Range{To: store.K(s.d.Clock.Now().Add(-afterglow))}
			for r, err := range sessionsByExpiry.Scan(tx, old) {
				if err != nil {
					return err
				}
				if err := sessions.Delete(tx, store.K(r.AccessKey)); err != nil {
					return err
				}
				if n++; n == sweepBatch {
					break
				}
			}
			return nil
		})
		if err != nil {
			return "", fmt.Errorf("sts: sweep sessions: %w", err)
		}
		if removed += n; n < sweepBatch {
			return fmt.Sprintf("%d removed", removed), nil
		}
	}
}
