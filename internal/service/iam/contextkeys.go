package iam

import (
	"context"
	"slices"
	"strings"

	api "skerry/internal/api/iam"
	"skerry/internal/auth"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// GetContextKeysForCustomPolicy lists the condition keys that policies ask for.
func (s *Service) GetContextKeysForCustomPolicy(_ context.Context, _ auth.Scope, in *api.GetContextKeysForCustomPolicyInput) (*api.GetContextKeysForCustomPolicyOutput, error) {
	docs, err := parseAll("PolicyInputList", in.PolicyInputList)
	if err != nil {
		return nil, err
	}
	return &api.GetContextKeysForCustomPolicyOutput{ContextKeyNames: contextKeys(docs)}, nil
}

// GetContextKeysForPrincipalPolicy lists the condition keys that the policies of
// a user, group or role ask for.
func (s *Service) GetContextKeysForPrincipalPolicy(ctx context.Context, sc auth.Scope, in *api.GetContextKeysForPrincipalPolicyInput) (*api.GetContextKeysForPrincipalPolicyOutput, error) {
	docs, err := parseAll("PolicyInputList", in.PolicyInputList)
	if err != nil {
		return nil, err
	}
	err = s.view(ctx, func(tx *store.Tx) error {
		list, err := s.source(tx, sc.Account, wire.Value(in.PolicySourceArn))
		if err != nil {
			return err
		}
		for _, h := range list {
			more, err := s.documents(tx, h.entity)
			if err != nil {
				return err
			}
			docs = append(docs, more...)
		}
		return nil
	})
	return &api.GetContextKeysForPrincipalPolicyOutput{ContextKeyNames: contextKeys(docs)}, err
}

// contextKeys collects condition keys and policy variables, sorted, each once,
// spelt as where they stand first.
func contextKeys(docs []auth.Document) []string {
	seen := map[string]bool{}
	out := []string{}
	add := func(key string) {
		if !seen[fold(key)] {
			seen[fold(key)] = true
			out = append(out, key)
		}
	}
	for _, d := range docs {
		for _, st := range d.Policy.Statements {
			for _, c := range st.Conditions {
				add(c.Key)
				variables(c.Values, add)
			}
			variables(st.Resource, add)
			variables(st.NotResource, add)
		}
	}
	slices.Sort(out)
	return out
}

// variables finds the keys in ${key} and ${key, 'default'}.
func variables(texts []string, add func(string)) {
	for _, t := range texts {
		for {
			_, rest, ok := strings.Cut(t, "${")
			if !ok {
				break
			}
			name, after, ok := strings.Cut(rest, "}")
			if !ok {
				break
			}
			t = after
			name, _, _ = strings.Cut(name, ",")
			if strings.Contains(name, ":") {
				add(strings.TrimSpace(name))
			}
		}
	}
}
