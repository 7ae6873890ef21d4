package iam

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"skerry/internal/auth"
	"skerry/internal/base/arn"
	"skerry/internal/base/awserr"
	"skerry/internal/store"
)

// What sts asks about: it implements sts.Identities together with directory.go.

// Role returns a role by its ARN, or auth.ErrUnknown.
func (s *Service) Role(ctx context.Context, roleARN string) (auth.Role, error) {
	a, err := arn.Parse(roleARN)
	if err != nil || a.Service != "iam" || !strings.HasPrefix(a.Resource, "role/") {
		return auth.Role{}, auth.ErrUnknown
	}
	return recall(s.directory, &s.directory.roles, roleARN, func() (auth.Role, error) {
		var out auth.Role
		err := s.view(ctx, func(tx *store.Tx) error {
			name := a.Resource[strings.LastIndexByte(a.Resource, '/')+1:]
			r, err := roles.Get(tx, store.K(a.Account, fold(name)))
			if errors.Is(err, store.ErrNotFound) || err == nil && r.arn() != roleARN {
				return auth.ErrUnknown
			}
			if err != nil {
				return err
			}
			trust, err := s.trust(tx, r)
			if err != nil {
				return err
			}
			out = auth.Role{
				Account: r.Account, Name: r.Name, ID: r.ID, ARN: r.arn(), Trust: trust,
				MaxSession: seconds(r.MaxSession), Tags: tagMap(r.Tags),
			}
			return nil
		})
		return out, err
	})
}

// ManagedPolicy returns a managed policy of the account or of AWS by its ARN, or
// auth.ErrUnknown.
func (s *Service) ManagedPolicy(ctx context.Context, account, policyARN string) (auth.Document, error) {
	return recall(s.directory, &s.directory.docs, account+" "+policyARN, func() (auth.Document, error) {
		var d auth.Document
		err := s.view(ctx, func(tx *store.Tx) error {
			var err error
			d, err = s.managedDocument(tx, account, policyARN)
			if awserr.Code(err) != "" {
				err = auth.ErrUnknown
			}
			return err
		})
		return d, err
	})
}

// Provider returns the account's OpenID Connect provider for an issuer (the iss
// of a token), or auth.ErrUnknown.
func (s *Service) Provider(ctx context.Context, account, issuer string) (auth.Provider, error) {
	address, plain, err := issuerAddress(issuer)
	if err != nil {
		return auth.Provider{}, auth.ErrUnknown
	}
	var out auth.Provider
	err = s.view(ctx, func(tx *store.Tx) error {
		r, err := oidcs.Get(tx, store.K(account, address))
		if errors.Is(err, store.ErrNotFound) || err == nil && r.HTTP != plain {
			return auth.ErrUnknown
		}
		if err == nil {
			out = auth.Provider{ARN: r.arn(), Issuer: issuer, Address: r.URL, Clients: r.Clients}
		}
		return err
	})
	return out, err
}

// Exists tells whether a user or role with that unique id is still there.
func (s *Service) Exists(ctx context.Context, id string) (bool, error) {
	return recall(s.directory, &s.directory.alive, id, func() (bool, error) {
		there := false
		err := s.view(ctx, func(tx *store.Tx) error {
			list, err := s.entities(tx, id)
			there = len(list) > 0
			return err
		})
		return there, err
	})
}

// CheckMFA checks a code of a user's MFA device. With use, the code is spent and
// counts no second time.
func (s *Service) CheckMFA(ctx context.Context, user auth.Principal, serial, given string, use bool) error {
	failed := awserr.New(http.StatusForbidden, "AccessDenied", "MultiFactorAuthentication failed with invalid MFA one time pass code.")
	check := func(tx *store.Tx) (*mfaRow, error) {
		r, err := mfas.Get(tx, store.K(user.Account, serial))
		if errors.Is(err, store.ErrNotFound) || err == nil && r.User != user.ID {
			return nil, awserr.New(http.StatusForbidden, "AccessDenied",
				"MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number is valid and associated with this user.")
		}
		if err != nil {
			return nil, err
		}
		var ok bool
		if r.Counter, ok = r.match(given, s.d.Clock.Now()); !ok {
			return nil, failed
		}
		return r, nil
	}
	if !use {
		return s.view(ctx, func(tx *store.Tx) error { _, err := check(tx); return err })
	}
	return s.update(ctx, func(tx *store.Tx) error {
		r, err := check(tx)
		if err != nil {
			return err
		}
		return mfas.Put(tx, r)
	})
}
