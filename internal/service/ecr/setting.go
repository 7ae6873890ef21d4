package ecr

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	api "skerry/internal/api/ecr"
	"skerry/internal/auth"
	"skerry/internal/registry"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// The account settings ("PutAccountSetting").
const (
	scanVersion  = "BASIC_SCAN_TYPE_VERSION"
	policyScope  = "REGISTRY_POLICY_SCOPE"
	blobMounting = "BLOB_MOUNTING"
)

// settingValues are the values of each setting, the usual one first.
var settingValues = map[string][]string{
	scanVersion:  {"AWS_NATIVE"}, // CLAIR is no more
	policyScope:  {"V2", "V1"},
	blobMounting: {"ENABLED", "DISABLED"},
}

// setting is a setting's value in a registry.
func (r *registryRow) setting(name string) string {
	if v, ok := r.Settings[name]; ok {
		return v
	}
	return settingValues[name][0]
}

func checkSetting(name string) error {
	if settingValues[name] == nil {
		return invalid("name", "Invalid account setting name '%s'", name)
	}
	return nil
}

// PutAccountSetting sets an account setting.
func (s *Service) PutAccountSetting(ctx context.Context, sc auth.Scope, in *api.PutAccountSettingInput) (*api.PutAccountSettingOutput, error) {
	name, value := wire.Value(in.Name), wire.Value(in.Value)
	if err := checkSetting(name); err != nil {
		return nil, err
	}
	if !slices.Contains(settingValues[name], value) {
		return nil, invalid("value", "Invalid value '%s' of the account setting '%s'. Valid values are: %s", value, name, strings.Join(settingValues[name], ", "))
	}
	err := s.changeRegistry(ctx, sc, func(_ *store.Tx, row *registryRow) error {
		if row.Settings == nil {
			row.Settings = map[string]string{}
		}
		row.Settings[name] = value
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.PutAccountSettingOutput{Name: &name, Value: &value}, nil
}

// GetAccountSetting returns an account setting.
func (s *Service) GetAccountSetting(ctx context.Context, sc auth.Scope, in *api.GetAccountSettingInput) (*api.GetAccountSettingOutput, error) {
	if err := checkSetting(wire.Value(in.Name)); err != nil {
		return nil, err
	}
	row, err := s.viewRegistry(ctx, sc)
	if err != nil {
		return nil, err
	}
	return &api.GetAccountSettingOutput{Name: in.Name, Value: new(row.setting(*in.Name))}, nil
}

// mounts tells whether a registry's layers may be mounted (registry.Hooks).
func (s *Service) mounts(ctx context.Context, account, region string) (yes bool, err error) {
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		row, err := registryOf(tx, account, region)
		if err == nil {
			yes = row.setting(blobMounting) == "ENABLED"
		}
		return err
	})
	return yes, err
}

// maxExclusions is how many principals' pulls may not count.
const maxExclusions = 100

// RegisterPullTimeUpdateExclusion has a principal's pulls leave images' times of
// the last pull as they are.
func (s *Service) RegisterPullTimeUpdateExclusion(ctx context.Context, sc auth.Scope, in *api.RegisterPullTimeUpdateExclusionInput) (*api.RegisterPullTimeUpdateExclusionOutput, error) {
	row := &exclusionRow{Account: sc.Account, Region: sc.Region, Principal: wire.Value(in.PrincipalArn), Created: s.Clock.Now()}
	err := s.Store.Update(ctx, func(tx *store.Tx) error {
		n := 0
		for _, err := range exclusions.Scan(tx, store.Range{Prefix: store.K(sc.Account, sc.Region)}) {
			if err != nil {
				return err
			}
			n++
		}
		if n >= maxExclusions {
			return &api.LimitExceededException{Message: new("The registry has the maximum of 100 pull time update exclusions")}
		}
		return exclusions.Insert(tx, row)
	})
	if errors.Is(err, store.ErrExists) {
		return nil, &api.ExclusionAlreadyExistsException{Message: new("The pull time update exclusion for '" + row.Principal + "' already exists in the registry with id '" + sc.Account + "'")}
	}
	if err != nil {
		return nil, err
	}
	return &api.RegisterPullTimeUpdateExclusionOutput{PrincipalArn: &row.Principal, CreatedAt: &row.Created}, nil
}

// DeregisterPullTimeUpdateExclusion has a principal's pulls count again.
func (s *Service) DeregisterPullTimeUpdateExclusion(ctx context.Context, sc auth.Scope, in *api.DeregisterPullTimeUpdateExclusionInput) (*api.DeregisterPullTimeUpdateExclusionOutput, error) {
	key := store.K(sc.Account, sc.Region, wire.Value(in.PrincipalArn))
	err := s.Store.Update(ctx, func(tx *store.Tx) error {
		has, err := exclusions.Has(tx, key)
		if err == nil && !has {
			return &api.ExclusionNotFoundException{Message: new("The pull time update exclusion for '" + *in.PrincipalArn + "' does not exist in the registry with id '" + sc.Account + "'")}
		}
		if err != nil {
			return err
		}
		return exclusions.Delete(tx, key)
	})
	if err != nil {
		return nil, err
	}
	return &api.DeregisterPullTimeUpdateExclusionOutput{PrincipalArn: in.PrincipalArn}, nil
}

// ListPullTimeUpdateExclusions lists the principals whose pulls do not count.
func (s *Service) ListPullTimeUpdateExclusions(ctx context.Context, sc auth.Scope, in *api.ListPullTimeUpdateExclusionsInput) (*api.ListPullTimeUpdateExclusionsOutput, error) {
	last, err := readToken(in.NextToken)
	if err != nil {
		return nil, err
	}
	n := limit(in.MaxResults, 100)
	out := &api.ListPullTimeUpdateExclusionsOutput{PullTimeUpdateExclusions: []string{}}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		r := store.Range{Prefix: store.K(sc.Account, sc.Region)}
		if last != "" {
			r.After = store.K(sc.Account, sc.Region, last)
		}
		for row, err := range exclusions.Scan(tx, r) {
			if err != nil {
				return err
			}
			if len(out.PullTimeUpdateExclusions) == n {
				out.NextToken = writeToken(out.PullTimeUpdateExclusions[n-1])
				return nil
			}
			out.PullTimeUpdateExclusions = append(out.PullTimeUpdateExclusions, row.Principal)
		}
		return nil
	})
}

// uncounted tells whether a caller is one whose pulls do not count
// (registry.Hooks). A session counts as its role.
func (s *Service) uncounted(ctx context.Context, sc auth.Scope, id registry.Repo) bool {
	who := sc.Principal.ARN
	if sc.Principal.Kind == auth.AssumedRole {
		who = sc.Principal.Role
	}
	has := false
	err := s.Store.View(ctx, func(tx *store.Tx) (err error) {
		has, err = exclusions.Has(tx, store.K(id.Account, id.Region, who))
		return err
	})
	return err == nil && has
}

// tokenUser is the user name of docker login that goes with a token.
const tokenUser = "AWS"

// GetAuthorizationToken returns what docker login wants, for each registry.
func (s *Service) GetAuthorizationToken(ctx context.Context, sc auth.Scope, in *api.GetAuthorizationTokenInput) (*api.GetAuthorizationTokenOutput, error) {
	password, expires, err := s.Registry.Tokens.Mint(ctx, sc.Principal, sc.Region)
	if err != nil {
		return nil, err
	}
	token := base64.StdEncoding.EncodeToString([]byte(tokenUser + ":" + password))
	accounts := in.RegistryIds
	if len(accounts) == 0 {
		accounts = []string{sc.Account}
	}
	out := &api.GetAuthorizationTokenOutput{}
	for _, a := range accounts {
		out.AuthorizationData = append(out.AuthorizationData, api.AuthorizationData{
			AuthorizationToken: &token, ExpiresAt: &expires, ProxyEndpoint: new(s.Registry.Endpoint(a, sc.Region)),
		})
	}
	return out, nil
}
