package lambda

import (
	"context"

	api "skerry/internal/api/lambda"
	"skerry/internal/auth"
	"skerry/internal/store"
)

// The limits of an account: "Lambda quotas".
const (
	accountConcurrency = 1000 // executions at once
	minUnreserved      = 100  // that cannot be reserved
	maxCodeStorage     = 75 << 30
)

// reservedIn sums up what an account's functions have reserved, but one.
func reservedIn(tx *store.Tx, account, region, but string) (int32, error) {
	var sum int32
	for f, err := range functions.Scan(tx, store.Range{Prefix: store.K(account, region)}) {
		if err != nil {
			return 0, err
		}
		if f.Name != but {
			sum += deref(f.Reserved)
		}
	}
	return sum, nil
}

// PutFunctionConcurrency reserves executions for a function, which are also its
// limit.
func (s *Service) PutFunctionConcurrency(ctx context.Context, sc auth.Scope, in *api.PutFunctionConcurrencyInput) (*api.PutFunctionConcurrencyOutput, error) {
	n := deref(in.ReservedConcurrentExecutions)
	err := s.editFunction(ctx, sc, in.FunctionName, func(tx *store.Tx, f *functionRow) error {
		others, err := reservedIn(tx, f.Account, f.Region, f.Name)
		if err != nil {
			return err
		}
		if others+n > accountConcurrency-minUnreserved {
			return invalid("Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [%d].", minUnreserved)
		}
		f.Reserved = &n
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.PutFunctionConcurrencyOutput{ReservedConcurrentExecutions: &n}, nil
}

// editFunction changes what belongs to a function as a whole.
func (s *Service) editFunction(ctx context.Context, sc auth.Scope, name *string, edit func(tx *store.Tx, f *functionRow) error) error {
	r, err := parseRef(sc, name, nil)
	if err != nil {
		return err
	}
	if err := r.unqualified(); err != nil {
		return err
	}
	return s.Store.Update(ctx, func(tx *store.Tx) error {
		f, err := getFunction(tx, r)
		if err != nil {
			return err
		}
		if err := edit(tx, f); err != nil {
			return err
		}
		return functions.Put(tx, f)
	})
}

// DeleteFunctionConcurrency gives the reservation back.
func (s *Service) DeleteFunctionConcurrency(ctx context.Context, sc auth.Scope, in *api.DeleteFunctionConcurrencyInput) (*api.DeleteFunctionConcurrencyOutput, error) {
	err := s.editFunction(ctx, sc, in.FunctionName, func(_ *store.Tx, f *functionRow) error {
		f.Reserved = nil
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.DeleteFunctionConcurrencyOutput{}, nil
}

// GetFunctionConcurrency tells what is reserved.
func (s *Service) GetFunctionConcurrency(ctx context.Context, sc auth.Scope, in *api.GetFunctionConcurrencyInput) (*api.GetFunctionConcurrencyOutput, error) {
	r, err := parseRef(sc, in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	var f *functionRow
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		f, err = getFunction(tx, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &api.GetFunctionConcurrencyOutput{ReservedConcurrentExecutions: f.Reserved}, nil
}

// GetAccountSettings tells the account's limits and what it uses of them.
func (s *Service) GetAccountSettings(ctx context.Context, sc auth.Scope, _ *api.GetAccountSettingsInput) (*api.GetAccountSettingsOutput, error) {
	var size, count int64
	var taken int32
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		var err error
		if taken, err = reservedIn(tx, sc.Account, sc.Region, ""); err != nil {
			return err
		}
		for v, err := range versions.Scan(tx, store.Range{Prefix: store.K(sc.Account, sc.Region)}) {
			if err != nil {
				return err
			}
			size += v.Code.Size
			if v.Number == 0 {
				count++
			}
		}
		for l, err := range layers.Scan(tx, store.Range{Prefix: store.K(sc.Account, sc.Region)}) {
			if err != nil {
				return err
			}
			if !l.Deleted {
				size += l.Code.Size
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.GetAccountSettingsOutput{
		AccountLimit: &api.AccountLimit{TotalCodeSize: new(int64(maxCodeStorage)), CodeSizeUnzipped: new(int64(maxUnzipped)),
			CodeSizeZipped: new(int64(maxZip)), ConcurrentExecutions: new(int32(accountConcurrency)),
			UnreservedConcurrentExecutions: new(accountConcurrency - taken)},
		AccountUsage: &api.AccountUsage{TotalCodeSize: &size, FunctionCount: &count},
	}, nil
}
