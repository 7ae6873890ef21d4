package iam

import (
	"context"
	"errors"
	"net/http"

	api "skerry/internal/api/iam"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// account loads what an account has one of; a new row if it has nothing yet.
func (s *Service) account(tx *store.Tx, account string) (*accountRow, error) {
	r, err := accounts.Get(tx, store.K(account))
	if errors.Is(err, store.ErrNotFound) {
		return &accountRow{Account: account}, nil
	}
	return r, err
}

// CreateAccountAlias gives the account its alias, in place of a former one.
func (s *Service) CreateAccountAlias(ctx context.Context, sc auth.Scope, in *api.CreateAccountAliasInput) (*api.CreateAccountAliasOutput, error) {
	alias := wire.Value(in.AccountAlias)
	return &api.CreateAccountAliasOutput{}, s.update(ctx, func(tx *store.Tx) error {
		a, err := s.account(tx, sc.Account)
		if err != nil {
			return err
		}
		if a.Alias == alias {
			return nil
		}
		if err := inserted(aliases.Insert(tx, &aliasRow{alias, sc.Account}), alreadyExists("The account alias %s already exists.", alias)); err != nil {
			return err
		}
		if a.Alias != "" {
			if err := aliases.Delete(tx, store.K(a.Alias)); err != nil {
				return err
			}
		}
		a.Alias = alias
		return accounts.Put(tx, a)
	})
}

// DeleteAccountAlias takes the account's alias away.
func (s *Service) DeleteAccountAlias(ctx context.Context, sc auth.Scope, in *api.DeleteAccountAliasInput) (*api.DeleteAccountAliasOutput, error) {
	return &api.DeleteAccountAliasOutput{}, s.update(ctx, func(tx *store.Tx) error {
		a, err := s.account(tx, sc.Account)
		if err != nil {
			return err
		}
		if a.Alias != wire.Value(in.AccountAlias) {
			return noSuchEntity("The account alias %s cannot be found.", wire.Value(in.AccountAlias))
		}
		if err := aliases.Delete(tx, store.K(a.Alias)); err != nil {
			return err
		}
		a.Alias = ""
		return accounts.Put(tx, a)
	})
}

// ListAccountAliases lists the account's alias, if it has one.
func (s *Service) ListAccountAliases(ctx context.Context, sc auth.Scope, _ *api.ListAccountAliasesInput) (*api.ListAccountAliasesOutput, error) {
	out := &api.ListAccountAliasesOutput{AccountAliases: []string{}, IsTruncated: wire.Ptr(false)}
	err := s.view(ctx, func(tx *store.Tx) error {
		a, err := s.account(tx, sc.Account)
		if err == nil && a.Alias != "" {
			out.AccountAliases = append(out.AccountAliases, a.Alias)
		}
		return err
	})
	return out, err
}

// GetAccountSummary counts what the account has, beside the quotas. Page:
// "GetAccountSummary".
func (s *Service) GetAccountSummary(ctx context.Context, sc auth.Scope, _ *api.GetAccountSummaryInput) (*api.GetAccountSummaryOutput, error) {
	m := map[string]int32{
		"UsersQuota": int32(userQuota.most), "GroupsQuota": int32(groupQuota.most), "RolesQuota": int32(roleQuota.most),
		"PoliciesQuota": int32(policyQuota.most), "InstanceProfilesQuota": int32(profileQuota.most), "ServerCertificatesQuota": int32(serverCertQuota.most), "UserPolicySizeQuota": int32(userKind.inlineSize),
		"GroupPolicySizeQuota": int32(groupKind.inlineSize), "RolePolicySizeQuota": int32(roleKind.inlineSize),
		"AssumeRolePolicySizeQuota": maxTrust, "PolicySizeQuota": maxManaged, "VersionsPerPolicyQuota": maxVersions,
		"GroupsPerUserQuota": maxGroups, "SigningCertificatesPerUserQuota": maxSigningCerts, "AccessKeysPerUserQuota": maxKeys,
		"AttachedPoliciesPerGroupQuota": maxAttached, "AttachedPoliciesPerRoleQuota": maxAttached,
		"AttachedPoliciesPerUserQuota": maxAttached, "PolicyVersionsInUseQuota": 10000, "AccountPasswordPresent": 0,
		"GlobalEndpointTokenVersion": 2, "AccountSigningCertificatesPresent": 0,
	}
	err := s.view(ctx, func(tx *store.Tx) error {
		whole := store.Range{Prefix: store.K(sc.Account)}
		var errs [9]error
		put := func(i int, name string, n int, err error) { m[name], errs[i] = int32(n), err }
		n, err := count(users.Scan(tx, whole))
		put(0, "Users", n, err)
		n, err = count(groups.Scan(tx, whole))
		put(1, "Groups", n, err)
		n, err = count(roles.Scan(tx, whole))
		put(2, "Roles", n, err)
		n, err = count(profiles.Scan(tx, whole))
		put(3, "InstanceProfiles", n, err)
		n, err = count(serverCerts.Scan(tx, whole))
		put(4, "ServerCertificates", n, err)
		p, v, err := s.policyCounts(tx, sc.Account)
		put(5, "Policies", p, err)
		m["PolicyVersionsInUse"] = int32(v)
		n, err = s.providerCount(tx, whole)
		put(6, "Providers", n, err)
		errs[7] = s.mfaCounts(tx, sc.Account, m)
		keys, err := s.userKeys(tx, sc.Account, "")
		put(8, "AccountAccessKeysPresent", min(1, len(keys)), err)
		return errors.Join(errs[:]...)
	})
	return &api.GetAccountSummaryOutput{SummaryMap: m}, err
}

func (s *Service) policyCounts(tx *store.Tx, account string) (n, versions int, err error) {
	for r, err := range policies.Scan(tx, store.Range{Prefix: store.K(account)}) {
		if err != nil {
			return 0, 0, err
		}
		n++
		versions += len(r.Versions)
	}
	return n, versions, nil
}

func (s *Service) providerCount(tx *store.Tx, whole store.Range) (int, error) {
	a, err := count(oidcs.Scan(tx, whole))
	if err != nil {
		return 0, err
	}
	b, err := count(samls.Scan(tx, whole))
	return a + b, err
}

func (s *Service) mfaCounts(tx *store.Tx, account string, m map[string]int32) error {
	m["MFADevices"], m["MFADevicesInUse"], m["AccountMFAEnabled"] = 0, 0, 0
	for r, err := range mfas.Scan(tx, store.Range{Prefix: store.K(account)}) {
		if err != nil {
			return err
		}
		m["MFADevices"]++
		if r.User != "" {
			m["MFADevicesInUse"]++
		}
		if r.User == account {
			m["AccountMFAEnabled"] = 1
		}
	}
	return nil
}

func malformedCertificate() error {
	return awserr.New(http.StatusBadRequest, "MalformedCertificate", "Certificate is malformed")
}
