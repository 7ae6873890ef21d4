// Package iam is AWS Identity and Access Management: users, groups, roles,
// policies and everything that proves who somebody is.
//
// # What it does for the others
//
// It knows long-term credentials and the policies of principals (half of
// auth.Directory; package sts adds session credentials), and the roles and
// identity providers that sts asks about.
//
// # Tables
//
//	iam/users        account, name in lower case   with inline policies, attachments,
//	                                               groups' ids, password, SSH keys, certificates
//	  by id, by policy, by group
//	iam/groups       account, name                 by id, by policy
//	iam/roles        account, name                 by id, by policy
//	iam/policies     account, name                 managed policies with their versions
//	iam/profiles     account, name                 instance profiles; by role
//	iam/accesskeys   access key id                 by user, oldest first
//	iam/uses         access key id or role id      when it was last used
//	iam/accesses     user's or role's id, action   when it was last tried
//	iam/jobs         account, job                  last accessed reports; by age
//	iam/mfa          account, serial number        virtual MFA devices; by user
//	iam/accounts     account                       alias and password policy
//	iam/aliases      alias                         the account that has it
//	iam/oidc         account, issuer               OpenID Connect providers
//	iam/saml         account, name                 SAML providers
//	iam/servercerts  account, name
//	iam/deletions    account, task                 deletions of service-linked roles
//	iam/reports      account                       credential report
//
// Entities point at each other by unique id, so a rename breaks nothing; a trust
// policy keeps the ids of those it names, and trusts no successor of the name. The AWS
// managed policies are not rows but a file (managed.json): those that compute
// services need, each in full as AWS publishes it.
//
// # What differs from AWS, and what is left out
//
//   - Changes take effect with the answer; AWS's take some seconds to spread.
//   - AWS managed policies have unique ids of Skerry's own, only their newest
//     version, and its day as the day of their creation.
//   - Service-linked roles exist for the services whose role's policy is in the file.
//   - Deleting a service-linked role never finds it in use.
//   - SSH keys, signing certificates and console passwords are kept and checked as
//     documented, but no service of Skerry lets anybody in with them.
//   - Last accessed reports are complete at once, tell uses a moment after they
//     happen, and are kept for a week. They know the services of this cloud and the
//     actions that are built in them. All actions but those of CloudTrail's data
//     events are tracked; AWS's own list departs from that here and there. The kinds of
//     resources that an action takes do not count.
//   - ListPoliciesGrantingServiceAccess does not refuse prefixes that no service has.
//   - Simulators: no Organizations policies.
//   - SAML providers: no encrypted assertions.
//   - Left out: service-specific credentials (no service of Skerry lets anybody in
//     with them); FIDO keys; certificates of MFA devices; delegation requests; outbound
//     web identity federation; root access of Organizations and its reports;
//     human-readable summaries; SetSecurityTokenServicePreferences (there is one kind
//     of token).
package iam
