package iam

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	api "skerry/internal/api/iam"
	"skerry/internal/base/clock"
	"skerry/internal/op"
	"skerry/internal/store"
)

// Deps is what the service needs.
type Deps struct {
	Store *store.DB
	Clock clock.Clock
	Log   *slog.Logger
	// Services are the services of the cloud, for the reports of what was used. They
	// are asked for once, when all are there.
	Services func() []op.Service
}

// Service is AWS Identity and Access Management.
type Service struct {
	d         Deps
	managed   *catalogue
	directory *directory
	recorder  *recorder
	services  func() []namespace
}

// New makes the service.
func New(d Deps) (*Service, error) {
	managed, err := loadCatalogue()
	if err != nil {
		return nil, err
	}
	return &Service{
		d: d, managed: managed, directory: newDirectory(), recorder: newRecorder(),
		services: sync.OnceValue(func() []namespace { return namespaces(d.Services()) }),
	}, nil
}

func (s *Service) view(ctx context.Context, fn func(tx *store.Tx) error) error {
	return s.d.Store.View(ctx, fn)
}

// update runs fn in a transaction and drops what the directory remembers once
// it is durable, before the caller hears of it.
func (s *Service) update(ctx context.Context, fn func(tx *store.Tx) error) error {
	return s.d.Store.Update(ctx, func(tx *store.Tx) error {
		tx.OnCommit(s.directory.drop)
		return fn(tx)
	})
}

// Service returns the schema and every operation with its rule.
func (s *Service) Service() op.Service {
	return op.Service{API: api.Schema, Operations: slices.Concat(s.people(), s.rolesAndPolicies(), s.accountWide())}
}

// people are the operations about users, groups and users' credentials.
func (s *Service) people() []op.Operation {
	return []op.Operation{
		on(s, "CreateUser", fresh("user", "UserName"), s.CreateUser),
		on(s, "GetUser", onUser, s.GetUser),
		on(s, "ListUsers", listed("user"), s.ListUsers),
		on(s, "UpdateUser", onUser, s.UpdateUser, renamed("user", "UpdateUser", "NewUserName")),
		on(s, "DeleteUser", onUser, s.DeleteUser),
		on(s, "TagUser", onUser, s.TagUser),
		on(s, "UntagUser", onUser, s.UntagUser),
		on(s, "ListUserTags", onUser, s.ListUserTags),
		on(s, "AttachUserPolicy", onUser, s.AttachUserPolicy),
		on(s, "DetachUserPolicy", onUser, s.DetachUserPolicy),
		on(s, "ListAttachedUserPolicies", onUser, s.ListAttachedUserPolicies),
		on(s, "PutUserPolicy", onUser, s.PutUserPolicy),
		on(s, "GetUserPolicy", onUser, s.GetUserPolicy),
		on(s, "ListUserPolicies", onUser, s.ListUserPolicies),
		on(s, "DeleteUserPolicy", onUser, s.DeleteUserPolicy),
		on(s, "PutUserPermissionsBoundary", onUser, s.PutUserPermissionsBoundary),
		on(s, "DeleteUserPermissionsBoundary", onUser, s.DeleteUserPermissionsBoundary),
		on(s, "ListGroupsForUser", onUser, s.ListGroupsForUser),

		on(s, "CreateGroup", fresh("group", "GroupName"), s.CreateGroup),
		on(s, "GetGroup", onGroup, s.GetGroup),
		on(s, "ListGroups", listed("group"), s.ListGroups),
		on(s, "UpdateGroup", onGroup, s.UpdateGroup, renamed("group", "UpdateGroup", "NewGroupName")),
		on(s, "DeleteGroup", onGroup, s.DeleteGroup),
		on(s, "AddUserToGroup", onGroup, s.AddUserToGroup),
		on(s, "RemoveUserFromGroup", onGroup, s.RemoveUserFromGroup),
		on(s, "AttachGroupPolicy", onGroup, s.AttachGroupPolicy),
		on(s, "DetachGroupPolicy", onGroup, s.DetachGroupPolicy),
		on(s, "ListAttachedGroupPolicies", onGroup, s.ListAttachedGroupPolicies),
		on(s, "PutGroupPolicy", onGroup, s.PutGroupPolicy),
		on(s, "GetGroupPolicy", onGroup, s.GetGroupPolicy),
		on(s, "ListGroupPolicies", onGroup, s.ListGroupPolicies),
		on(s, "DeleteGroupPolicy", onGroup, s.DeleteGroupPolicy),

		on(s, "CreateAccessKey", onUser, s.CreateAccessKey),
		on(s, "ListAccessKeys", onUser, s.ListAccessKeys),
		on(s, "UpdateAccessKey", onUser, s.UpdateAccessKey),
		on(s, "DeleteAccessKey", onUser, s.DeleteAccessKey),
		on(s, "GetAccessKeyLastUsed", onKey, s.GetAccessKeyLastUsed),
		on(s, "CreateLoginProfile", onUser, s.CreateLoginProfile),
		on(s, "GetLoginProfile", onUser, s.GetLoginProfile),
		on(s, "UpdateLoginProfile", onUser, s.UpdateLoginProfile),
		on(s, "DeleteLoginProfile", onUser, s.DeleteLoginProfile),
		op.New("ChangePassword", s.changePasswordRule, s.ChangePassword),
		on(s, "UploadSSHPublicKey", onUser, s.UploadSSHPublicKey),
		on(s, "GetSSHPublicKey", onUser, s.GetSSHPublicKey),
		on(s, "ListSSHPublicKeys", onUser, s.ListSSHPublicKeys),
		on(s, "UpdateSSHPublicKey", onUser, s.UpdateSSHPublicKey),
		on(s, "DeleteSSHPublicKey", onUser, s.DeleteSSHPublicKey),
		on(s, "UploadSigningCertificate", onUser, s.UploadSigningCertificate),
		on(s, "ListSigningCertificates", onUser, s.ListSigningCertificates),
		on(s, "UpdateSigningCertificate", onUser, s.UpdateSigningCertificate),
		on(s, "DeleteSigningCertificate", onUser, s.DeleteSigningCertificate),

		on(s, "CreateVirtualMFADevice", fresh("mfa", "VirtualMFADeviceName"), s.CreateVirtualMFADevice),
		on(s, "EnableMFADevice", onUser, s.EnableMFADevice),
		on(s, "ResyncMFADevice", onUser, s.ResyncMFADevice),
		on(s, "DeactivateMFADevice", onUser, s.DeactivateMFADevice),
		on(s, "DeleteVirtualMFADevice", onMFA, s.DeleteVirtualMFADevice),
		on(s, "GetMFADevice", onUser, s.GetMFADevice),
		on(s, "ListMFADevices", onUser, s.ListMFADevices),
		on(s, "ListVirtualMFADevices", listed("mfa"), s.ListVirtualMFADevices),
		on(s, "TagMFADevice", onMFA, s.TagMFADevice),
		on(s, "UntagMFADevice", onMFA, s.UntagMFADevice),
		on(s, "ListMFADeviceTags", onMFA, s.ListMFADeviceTags),
	}
}

func (s *Service) rolesAndPolicies() []op.Operation {
	return []op.Operation{
		on(s, "CreateRole", fresh("role", "RoleName"), s.CreateRole),
		on(s, "GetRole", onRole, s.GetRole),
		on(s, "ListRoles", listed("role"), s.ListRoles),
		on(s, "UpdateRole", onRole, s.UpdateRole),
		on(s, "UpdateRoleDescription", onRole, s.UpdateRoleDescription),
		on(s, "UpdateAssumeRolePolicy", onRole, s.UpdateAssumeRolePolicy),
		on(s, "DeleteRole", onRole, s.DeleteRole),
		on(s, "TagRole", onRole, s.TagRole),
		on(s, "UntagRole", onRole, s.UntagRole),
		on(s, "ListRoleTags", onRole, s.ListRoleTags),
		on(s, "AttachRolePolicy", onRole, s.AttachRolePolicy),
		on(s, "DetachRolePolicy", onRole, s.DetachRolePolicy),
		on(s, "ListAttachedRolePolicies", onRole, s.ListAttachedRolePolicies),
		on(s, "PutRolePolicy", onRole, s.PutRolePolicy),
		on(s, "GetRolePolicy", onRole, s.GetRolePolicy),
		on(s, "ListRolePolicies", onRole, s.ListRolePolicies),
		on(s, "DeleteRolePolicy", onRole, s.DeleteRolePolicy),
		on(s, "PutRolePermissionsBoundary", onRole, s.PutRolePermissionsBoundary),
		on(s, "DeleteRolePermissionsBoundary", onRole, s.DeleteRolePermissionsBoundary),
		on(s, "CreateServiceLinkedRole", freshLinkedRole, s.CreateServiceLinkedRole),
		on(s, "DeleteServiceLinkedRole", onRole, s.DeleteServiceLinkedRole),
		on(s, "GetServiceLinkedRoleDeletionStatus", onLinkedTask, s.GetServiceLinkedRoleDeletionStatus),

		on(s, "CreateInstanceProfile", fresh("instance-profile", "InstanceProfileName"), s.CreateInstanceProfile),
		on(s, "GetInstanceProfile", onProfile, s.GetInstanceProfile),
		on(s, "ListInstanceProfiles", listed("instance-profile"), s.ListInstanceProfiles),
		on(s, "ListInstanceProfilesForRole", onRole, s.ListInstanceProfilesForRole),
		on(s, "AddRoleToInstanceProfile", onProfile, s.AddRoleToInstanceProfile, passRole),
		on(s, "RemoveRoleFromInstanceProfile", onProfile, s.RemoveRoleFromInstanceProfile),
		on(s, "DeleteInstanceProfile", onProfile, s.DeleteInstanceProfile),
		on(s, "TagInstanceProfile", onProfile, s.TagInstanceProfile),
		on(s, "UntagInstanceProfile", onProfile, s.UntagInstanceProfile),
		on(s, "ListInstanceProfileTags", onProfile, s.ListInstanceProfileTags),

		on(s, "CreatePolicy", fresh("policy", "PolicyName"), s.CreatePolicy),
		on(s, "GetPolicy", onPolicy, s.GetPolicy),
		on(s, "ListPolicies", listedPolicies, s.ListPolicies),
		on(s, "DeletePolicy", onPolicy, s.DeletePolicy),
		on(s, "CreatePolicyVersion", onPolicy, s.CreatePolicyVersion),
		on(s, "GetPolicyVersion", onPolicy, s.GetPolicyVersion),
		on(s, "ListPolicyVersions", onPolicy, s.ListPolicyVersions),
		on(s, "SetDefaultPolicyVersion", onPolicy, s.SetDefaultPolicyVersion),
		on(s, "DeletePolicyVersion", onPolicy, s.DeletePolicyVersion),
		on(s, "ListEntitiesForPolicy", onPolicy, s.ListEntitiesForPolicy),
		on(s, "TagPolicy", onPolicy, s.TagPolicy),
		on(s, "UntagPolicy", onPolicy, s.UntagPolicy),
		on(s, "ListPolicyTags", onPolicy, s.ListPolicyTags),
	}
}

// accountWide are the operations about identity providers, certificates, the
// account and the simulators.
func (s *Service) accountWide() []op.Operation {
	return []op.Operation{
		on(s, "CreateOpenIDConnectProvider", freshOIDC, s.CreateOpenIDConnectProvider),
		on(s, "GetOpenIDConnectProvider", onOIDC, s.GetOpenIDConnectProvider),
		on(s, "ListOpenIDConnectProviders", listedProviders("oidc-provider"), s.ListOpenIDConnectProviders),
		on(s, "AddClientIDToOpenIDConnectProvider", onOIDC, s.AddClientIDToOpenIDConnectProvider),
		on(s, "RemoveClientIDFromOpenIDConnectProvider", onOIDC, s.RemoveClientIDFromOpenIDConnectProvider),
		on(s, "UpdateOpenIDConnectProviderThumbprint", onOIDC, s.UpdateOpenIDConnectProviderThumbprint),
		on(s, "DeleteOpenIDConnectProvider", onOIDC, s.DeleteOpenIDConnectProvider),
		on(s, "TagOpenIDConnectProvider", onOIDC, s.TagOpenIDConnectProvider),
		on(s, "UntagOpenIDConnectProvider", onOIDC, s.UntagOpenIDConnectProvider),
		on(s, "ListOpenIDConnectProviderTags", onOIDC, s.ListOpenIDConnectProviderTags),
		on(s, "CreateSAMLProvider", fresh("saml-provider", "Name"), s.CreateSAMLProvider),
		on(s, "GetSAMLProvider", onSAML, s.GetSAMLProvider),
		on(s, "ListSAMLProviders", listedProviders("saml-provider"), s.ListSAMLProviders),
		on(s, "UpdateSAMLProvider", onSAML, s.UpdateSAMLProvider),
		on(s, "DeleteSAMLProvider", onSAML, s.DeleteSAMLProvider),
		on(s, "TagSAMLProvider", onSAML, s.TagSAMLProvider),
		on(s, "UntagSAMLProvider", onSAML, s.UntagSAMLProvider),
		on(s, "ListSAMLProviderTags", onSAML, s.ListSAMLProviderTags),

		on(s, "UploadServerCertificate", fresh("server-certificate", "ServerCertificateName"), s.UploadServerCertificate),
		on(s, "GetServerCertificate", onServerCert, s.GetServerCertificate),
		on(s, "ListServerCertificates", listed("server-certificate"), s.ListServerCertificates),
		on(s, "UpdateServerCertificate", onServerCert, s.UpdateServerCertificate, renamed("server-certificate", "UpdateServerCertificate", "NewServerCertificateName")),
		on(s, "DeleteServerCertificate", onServerCert, s.DeleteServerCertificate),
		on(s, "TagServerCertificate", onServerCert, s.TagServerCertificate),
		on(s, "UntagServerCertificate", onServerCert, s.UntagServerCertificate),
		on(s, "ListServerCertificateTags", onServerCert, s.ListServerCertificateTags),

		on(s, "CreateAccountAlias", anything, s.CreateAccountAlias),
		on(s, "DeleteAccountAlias", anything, s.DeleteAccountAlias),
		on(s, "ListAccountAliases", anything, s.ListAccountAliases),
		on(s, "GetAccountSummary", anything, s.GetAccountSummary),
		on(s, "GetAccountPasswordPolicy", anything, s.GetAccountPasswordPolicy),
		on(s, "UpdateAccountPasswordPolicy", anything, s.UpdateAccountPasswordPolicy),
		on(s, "DeleteAccountPasswordPolicy", anything, s.DeleteAccountPasswordPolicy),
		on(s, "GetAccountAuthorizationDetails", anything, s.GetAccountAuthorizationDetails),
		on(s, "GenerateCredentialReport", anything, s.GenerateCredentialReport),
		on(s, "GetCredentialReport", anything, s.GetCredentialReport),

		on(s, "SimulateCustomPolicy", anything, s.SimulateCustomPolicy),
		on(s, "SimulatePrincipalPolicy", onSource("PolicySourceArn"), s.SimulatePrincipalPolicy),
		on(s, "GetContextKeysForCustomPolicy", anything, s.GetContextKeysForCustomPolicy),
		on(s, "GetContextKeysForPrincipalPolicy", onSource("PolicySourceArn"), s.GetContextKeysForPrincipalPolicy),
		on(s, "ListPoliciesGrantingServiceAccess", onSource("Arn"), s.ListPoliciesGrantingServiceAccess),
		on(s, "GenerateServiceLastAccessedDetails", onSource("Arn"), s.GenerateServiceLastAccessedDetails),
		on(s, "GetServiceLastAccessedDetails", anything, s.GetServiceLastAccessedDetails),
		on(s, "GetServiceLastAccessedDetailsWithEntities", anything, s.GetServiceLastAccessedDetailsWithEntities),
	}
}
