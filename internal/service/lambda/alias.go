package lambda

import (
	"context"

	api "skerry/internal/api/lambda"
	"skerry/internal/auth"
	"skerry/internal/base/ids"
	"skerry/internal/store"
)

func (a *aliasRow) describe() *api.AliasConfiguration {
	r := ref{Account: a.Account, Region: a.Region, Name: a.Name, Qualifier: a.Alias}
	out := &api.AliasConfiguration{AliasArn: new(r.ARN()), Name: &a.Alias, FunctionVersion: &a.Version,
		Description: &a.Description, RevisionId: &a.Revision}
	if len(a.Weights) > 0 {
		out.RoutingConfig = &api.AliasRoutingConfiguration{AdditionalVersionWeights: a.Weights}
	}
	return out
}

// check holds an alias to its rules: its versions exist, and weights are shares
// that leave something for the main version.
func (a *aliasRow) check(tx *store.Tx, r ref) error {
	if _, err := getFunction(tx, r); err != nil {
		return err
	}
	named := func(version string) error {
		v := r
		v.Qualifier = version
		if v.kind() == kindAlias {
			return invalid("Value '%s' at 'functionVersion' failed to satisfy constraint: Member must satisfy regular expression pattern: (\\$LATEST|[0-9]+)", version)
		}
		n, err := v.number(tx)
		if err != nil {
			return err
		}
		_, err = getVersion(tx, v, n)
		return err
	}
	if err := named(a.Version); err != nil {
		return err
	}
	if len(a.Weights) > 1 {
		return invalid("Number of items in AdditionalVersionWeights cannot be greater than 1. Number of items: %d", len(a.Weights))
	}
	for version, weight := range a.Weights {
		if weight < 0 || weight > 1 {
			return invalid("Weight for version %s must be between 0.0 and 1.0", version)
		}
		if version == a.Version {
			return invalid("Invalid function version %s. Function version %s is already included in routing configuration.", version, version)
		}
		if version == latest || a.Version == latest {
			return invalid("$LATEST is not supported for an alias pointing to more than 1 version")
		}
		if err := named(version); err != nil {
			return err
		}
	}
	return nil
}

func weightsOf(c *api.AliasRoutingConfiguration) map[string]float64 {
	if c == nil {
		return nil
	}
	return c.AdditionalVersionWeights
}

// CreateAlias gives a version a name.
func (s *Service) CreateAlias(ctx context.Context, sc auth.Scope, in *api.CreateAliasInput) (*api.CreateAliasOutput, error) {
	r, err := parseRef(sc, in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	a := &aliasRow{Account: r.Account, Region: r.Region, Name: r.Name, Alias: deref(in.Name), Version: deref(in.FunctionVersion),
		Description: deref(in.Description), Weights: weightsOf(in.RoutingConfig), Revision: ids.UUID()}
	err = s.Store.Update(ctx, func(tx *store.Tx) error {
		if err := a.check(tx, r); err != nil {
			return err
		}
		if err := aliases.Insert(tx, a); err != store.ErrExists {
			return err
		}
		r.Qualifier = a.Alias
		return conflict("Alias already exists: %s", r.ARN())
	})
	if err != nil {
		return nil, err
	}
	return (*api.CreateAliasOutput)(a.describe()), nil
}

// alias reads an alias's row.
func (s *Service) alias(tx *store.Tx, r ref) (*aliasRow, error) {
	a, err := aliases.Get(tx, r.key()+store.K(r.Qualifier))
	if err == store.ErrNotFound {
		if _, err := getFunction(tx, r); err != nil {
			return nil, err
		}
		return nil, notFound("Cannot find alias arn: %s", r.ARN())
	}
	return a, err
}

// UpdateAlias changes what is given.
func (s *Service) UpdateAlias(ctx context.Context, sc auth.Scope, in *api.UpdateAliasInput) (*api.UpdateAliasOutput, error) {
	r, err := parseRef(sc, in.FunctionName, in.Name)
	if err != nil {
		return nil, err
	}
	var out *aliasRow
	err = s.Store.Update(ctx, func(tx *store.Tx) error {
		a, err := s.alias(tx, r)
		if err != nil {
			return err
		}
		if err := checkRevision(in.RevisionId, a.Revision, "GetFunction/GetAlias"); err != nil {
			return err
		}
		set(&a.Version, in.FunctionVersion)
		set(&a.Description, in.Description)
		if in.RoutingConfig != nil {
			a.Weights = in.RoutingConfig.AdditionalVersionWeights
		}
		if err := a.check(tx, r); err != nil {
			return err
		}
		a.Revision, out = ids.UUID(), a
		return aliases.Put(tx, a)
	})
	if err != nil {
		return nil, err
	}
	return (*api.UpdateAliasOutput)(out.describe()), nil
}

// GetAlias describes an alias.
func (s *Service) GetAlias(ctx context.Context, sc auth.Scope, in *api.GetAliasInput) (*api.GetAliasOutput, error) {
	r, err := parseRef(sc, in.FunctionName, in.Name)
	if err != nil {
		return nil, err
	}
	var a *aliasRow
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		a, err = s.alias(tx, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	return (*api.GetAliasOutput)(a.describe()), nil
}

// DeleteAlias removes an alias with its policy; it need not be there.
func (s *Service) DeleteAlias(ctx context.Context, sc auth.Scope, in *api.DeleteAliasInput) (*api.DeleteAliasOutput, error) {
	r, err := parseRef(sc, in.FunctionName, in.Name)
	if err != nil {
		return nil, err
	}
	err = s.Store.Update(ctx, func(tx *store.Tx) error {
		if _, err := getFunction(tx, r); err != nil {
			return err
		}
		if err := policies.Delete(tx, r.key()+store.K(r.Qualifier)); err != nil {
			return err
		}
		if err := asyncs.Delete(tx, r.key()+store.K(r.Qualifier)); err != nil {
			return err
		}
		return aliases.Delete(tx, r.key()+store.K(r.Qualifier))
	})
	if err != nil {
		return nil, err
	}
	return &api.DeleteAliasOutput{}, nil
}

// ListAliases lists a function's aliases, or those of one version.
func (s *Service) ListAliases(ctx context.Context, sc auth.Scope, in *api.ListAliasesInput) (*api.ListAliasesOutput, error) {
	r, err := parseRef(sc, in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	after, err := s.marker(in.Marker, r.key())
	if err != nil {
		return nil, err
	}
	n := limit(in.MaxItems)
	out := &api.ListAliasesOutput{Aliases: []api.AliasConfiguration{}}
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		if _, err := getFunction(tx, r); err != nil {
			return err
		}
		var last store.Key
		for a, err := range aliases.Scan(tx, store.Range{Prefix: r.key(), After: after}) {
			if err != nil {
				return err
			}
			if _, weighted := a.Weights[deref(in.FunctionVersion)]; in.FunctionVersion != nil && a.Version != *in.FunctionVersion && !weighted {
				continue
			}
			if len(out.Aliases) == n {
				out.NextMarker = markerOf(last)
				return nil
			}
			out.Aliases = append(out.Aliases, *a.describe())
			last = r.key() + store.K(a.Alias)
		}
		return nil
	})
	return out, err
}
