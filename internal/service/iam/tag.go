package iam

import (
	"context"
	"strings"

	api "skerry/internal/api/iam"
	"skerry/internal/auth"
	"skerry/internal/store"
	"skerry/internal/wire"
)

const maxTags = 50

// newTags checks the tags of a request. Keys differ in more than case.
func newTags(in []api.Tag) ([]tag, error) { return mergeTags(nil, in) }

// mergeTags adds tags, and overwrites those whose keys are the same but for
// case. Page: "Tags for AWS Identity and Access Management resources".
func mergeTags(have []tag, in []api.Tag) ([]tag, error) {
	out := append([]tag(nil), have...)
	seen := map[string]bool{}
	for _, t := range in {
		key := wire.Value(t.Key)
		if seen[fold(key)] {
			return nil, invalidInput("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
		}
		seen[fold(key)] = true
		if strings.HasPrefix(fold(key), "aws:") {
			return nil, invalidInput("Tag keys that start with 'aws:' are reserved for system use.")
		}
		out = withoutTag(out, key)
		out = append(out, tag{key, wire.Value(t.Value)})
	}
	if len(out) > maxTags {
		return nil, limitExceeded("The number of tags has reached the maximum limit.")
	}
	return out, nil
}

func withoutTag(tags []tag, key string) []tag {
	for i, t := range tags {
		if strings.EqualFold(t.Key, key) {
			return append(tags[:i:i], tags[i+1:]...)
		}
	}
	return tags
}

func tagList(tags []tag) []api.Tag {
	if len(tags) == 0 {
		return nil
	}
	out := make([]api.Tag, len(tags))
	for i, t := range tags {
		out[i] = api.Tag{Key: wire.Ptr(t.Key), Value: wire.Ptr(t.Value)}
	}
	return out
}

func tagMap(tags []tag) map[string]string {
	m := make(map[string]string, len(tags))
	for _, t := range tags {
		m[t.Key] = t.Value
	}
	return m
}

// A tagged is a row whose tags can be changed.
type tagged struct {
	tags *[]tag
	save func() error
}

// finder loads the row that a tag operation is about, and refuses what may not
// be changed.
type finder func(tx *store.Tx) (tagged, error)

func (s *Service) tag(ctx context.Context, find finder, in []api.Tag) error {
	return s.update(ctx, func(tx *store.Tx) error {
		t, err := find(tx)
		if err != nil {
			return err
		}
		if *t.tags, err = mergeTags(*t.tags, in); err != nil {
			return err
		}
		return t.save()
	})
}

func (s *Service) untag(ctx context.Context, find finder, keys []string) error {
	return s.update(ctx, func(tx *store.Tx) error {
		t, err := find(tx)
		if err != nil {
			return err
		}
		for _, k := range keys {
			*t.tags = withoutTag(*t.tags, k)
		}
		return t.save()
	})
}

func (s *Service) tags(ctx context.Context, find finder, l listing) ([]api.Tag, *string, error) {
	p, err := l.page()
	if err != nil {
		return nil, nil, err
	}
	var tags []tag
	err = s.view(ctx, func(tx *store.Tx) error {
		t, err := find(tx)
		if err == nil {
			tags = *t.tags
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	tags, next := cut(p, tags, func(t tag) string { return t.Key })
	out := tagList(tags)
	if out == nil {
		out = []api.Tag{}
	}
	return out, next, nil
}

// The rows that have tags.

func (s *Service) userTags(sc auth.Scope, name *string) finder {
	return func(tx *store.Tx) (tagged, error) {
		r, err := s.user(tx, sc.Account, wire.Value(name))
		if err != nil {
			return tagged{}, err
		}
		return tagged{&r.Tags, func() error { return users.Put(tx, r) }}, nil
	}
}

func (s *Service) roleTags(sc auth.Scope, name *string) finder {
	return func(tx *store.Tx) (tagged, error) {
		r, err := s.role(tx, sc.Account, wire.Value(name))
		if err != nil {
			return tagged{}, err
		}
		return tagged{&r.Tags, func() error { return roles.Put(tx, r) }}, nil
	}
}

func (s *Service) policyTags(sc auth.Scope, arn *string) finder {
	return func(tx *store.Tx) (tagged, error) {
		r, err := s.ownPolicy(tx, sc.Account, wire.Value(arn))
		if err != nil {
			return tagged{}, err
		}
		return tagged{&r.Tags, func() error { return policies.Put(tx, r) }}, nil
	}
}

func (s *Service) profileTags(sc auth.Scope, name *string) finder {
	return func(tx *store.Tx) (tagged, error) {
		r, err := s.profile(tx, sc.Account, wire.Value(name))
		if err != nil {
			return tagged{}, err
		}
		return tagged{&r.Tags, func() error { return profiles.Put(tx, r) }}, nil
	}
}

func (s *Service) oidcTags(sc auth.Scope, arn *string) finder {
	return func(tx *store.Tx) (tagged, error) {
		r, err := s.oidc(tx, sc.Account, wire.Value(arn))
		if err != nil {
			return tagged{}, err
		}
		return tagged{&r.Tags, func() error { return oidcs.Put(tx, r) }}, nil
	}
}

func (s *Service) samlTags(sc auth.Scope, arn *string) finder {
	return func(tx *store.Tx) (tagged, error) {
		r, err := s.saml(tx, sc.Account, wire.Value(arn))
		if err != nil {
			return tagged{}, err
		}
		return tagged{&r.Tags, func() error { return samls.Put(tx, r) }}, nil
	}
}

func (s *Service) certTags(sc auth.Scope, name *string) finder {
	return func(tx *store.Tx) (tagged, error) {
		r, err := s.serverCert(tx, sc.Account, wire.Value(name))
		if err != nil {
			return tagged{}, err
		}
		return tagged{&r.Tags, func() error { return serverCerts.Put(tx, r) }}, nil
	}
}

func (s *Service) mfaTags(sc auth.Scope, serial *string) finder {
	return func(tx *store.Tx) (tagged, error) {
		r, err := s.mfa(tx, sc.Account, wire.Value(serial))
		if err != nil {
			return tagged{}, err
		}
		return tagged{&r.Tags, func() error { return mfas.Put(tx, r) }}, nil
	}
}
