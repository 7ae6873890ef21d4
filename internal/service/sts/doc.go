// Package sts is AWS Security Token Service: temporary credentials.
//
// It is the auth.Directory of the whole cloud apart from root keys: it answers for
// session credentials itself and asks iam (through Identities) about long-term
// keys and about what the policies of users and roles say. A session ends with
// its time, and at once when its role or user is deleted; a permission that is
// taken from them is gone for their sessions, too.
//
// # Tables
//
//	sts/sessions  access key id   by expiry
//	sts/keys      name            what encoded authorization messages are sealed with
//
// Sessions survive a restart. The loop sts/sessions removes those that ended an
// hour ago; until then they answer ExpiredToken.
//
// # What differs from AWS, and what is left out
//
//   - PackedPolicySize is the share of 2,048 bytes that session policies and tags
//     take when deflated; AWS's format is not public.
//   - Every string claim of a web identity token is a condition key
//     (<issuer>:<claim>), not only those of AWS's list.
//   - Issuers over plain http are accepted on this machine alone.
//   - Left out: AssumeRoleWithSAML (no verification of XML signatures yet),
//     AssumeRoot (needs Organizations), GetWebIdentityToken and
//     GetDelegatedAccessToken.
package sts
