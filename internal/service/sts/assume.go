package sts

import (
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	api "skerry/internal/api/sts"
	"skerry/internal/auth"
	"skerry/internal/base/arn"
	"skerry/internal/wire"
)

const (
	defaultDuration = time.Hour
	chainLimit      = time.Hour // of sessions made by sessions of roles
	maxTags         = 50
	maxPolicyARNs   = 10
	maxPolicyText   = 2048 // characters of session policies
)

// fold is the form in which tag keys are compared.
func fold(key string) string { return strings.ToLower(key) }

// caller returns the session of the caller; nil for long-term credentials and
// calls from inside.
func (s *Service) caller(ctx context.Context, p auth.Principal) (*sessionRow, error) {
	if !strings.HasPrefix(p.AccessKey, sessionPrefix) {
		return nil, nil
	}
	return s.lookup(ctx, p.AccessKey)
}

// assumeRoleRule asks the role's trust policy. Page: "Actions, resources, and
// condition keys for AWS Security Token Service".
func (s *Service) assumeRoleRule(ctx context.Context, sc auth.Scope, in *api.AssumeRoleInput) ([]auth.Access, error) {
	switch sc.Principal.Kind {
	case auth.Root:
		return nil, accessDenied("Roles may not be assumed by root accounts.")
	case auth.FederatedUser:
		return nil, accessDenied("Cannot call AssumeRole with session credentials of a federated user")
	}
	role, err := s.d.Identities.Role(ctx, wire.Value(in.RoleArn))
	if err != nil && !errors.Is(err, auth.ErrUnknown) {
		return nil, err
	}
	if err != nil { // nobody trusts whom there isn't
		a, _ := arn.Parse(wire.Value(in.RoleArn))
		role = auth.Role{ARN: wire.Value(in.RoleArn), Account: a.Account}
	}
	from, err := s.caller(ctx, sc.Principal)
	if err != nil {
		return nil, err
	}
	access := auth.Access{
		Action: "sts:AssumeRole", Resource: role.ARN, Owner: role.Account, Policy: role.Trust, Strict: true,
		Context: trustContext(role, wire.Value(in.RoleSessionName), wire.Value(in.ExternalId), sourceIdentity(in.SourceIdentity, from)),
	}
	if in.SerialNumber != nil || in.TokenCode != nil {
		if err := s.d.Identities.CheckMFA(ctx, sc.Principal, wire.Value(in.SerialNumber), wire.Value(in.TokenCode), false); err != nil {
			return nil, err
		}
		access.Context["aws:MultiFactorAuthPresent"] = []string{"true"}
		access.Context["aws:MultiFactorAuthAge"] = []string{"0"}
	}
	for _, t := range in.Tags {
		access.Context["aws:RequestTag/"+wire.Value(t.Key)] = []string{wire.Value(t.Value)}
		access.Context["aws:TagKeys"] = append(access.Context["aws:TagKeys"], wire.Value(t.Key))
	}
	if len(in.TransitiveTagKeys) > 0 {
		access.Context["sts:TransitiveTagKeys"] = in.TransitiveTagKeys
	}
	return also(access, len(in.Tags) > 0 || from != nil && len(from.Transitive) > 0, sourceIdentity(in.SourceIdentity, from) != ""), nil
}

// also adds the permissions to tag a session and to name its source identity.
func also(a auth.Access, tags, source bool) []auth.Access {
	out := []auth.Access{a}
	if tags {
		a.Action = "sts:TagSession"
		out = append(out, a)
	}
	if source {
		a.Action = "sts:SetSourceIdentity"
		out = append(out, a)
	}
	return out
}

func trustContext(role auth.Role, session, external, source string) map[string][]string {
	keys := map[string][]string{"sts:RoleSessionName": {session}}
	if external != "" {
		keys["sts:ExternalId"] = []string{external}
	}
	if source != "" {
		keys["sts:SourceIdentity"] = []string{source}
	}
	for k, v := range role.Tags {
		keys["aws:ResourceTag/"+k] = []string{v}
		keys["iam:ResourceTag/"+k] = []string{v}
	}
	return keys
}

// sourceIdentity is the one that the session will have: once set it stays.
func sourceIdentity(asked *string, from *sessionRow) string {
	if asked == nil && from != nil {
		return from.SourceIdentity
	}
	return wire.Value(asked)
}

// AssumeRole begins a session of a role. The rule has asked its trust policy.
func (s *Service) AssumeRole(ctx context.Context, sc auth.Scope, in *api.AssumeRoleInput) (*api.AssumeRoleOutput, error) {
	if len(in.ProvidedContexts) > 0 {
		return nil, validationError("ProvidedContexts is not supported.")
	}
	role, err := s.d.Identities.Role(ctx, wire.Value(in.RoleArn))
	if errors.Is(err, auth.ErrUnknown) { // deleted since the rule asked
		return nil, accessDenied("User: %s is not authorized to perform: sts:AssumeRole on resource: %s", sc.Principal.ARN, wire.Value(in.RoleArn))
	}
	if err != nil {
		return nil, err
	}
	from, err := s.caller(ctx, sc.Principal)
	if err != nil {
		return nil, err
	}
	duration, err := roleDuration(role, in.DurationSeconds, sc.Principal.Kind == auth.AssumedRole)
	if err != nil {
		return nil, err
	}
	if from != nil && from.SourceIdentity != "" && sourceIdentity(in.SourceIdentity, from) != from.SourceIdentity {
		return nil, accessDenied("The source identity cannot be changed once it is set.")
	}
	r := roleSession(role, wire.Value(in.RoleSessionName))
	r.SourceIdentity = sourceIdentity(in.SourceIdentity, from)
	if err := r.tag(in.Tags, in.TransitiveTagKeys, from); err != nil {
		return nil, err
	}
	packed, err := s.limit(ctx, r, in.Policy, in.PolicyArns, len(in.Tags) > 0)
	if err != nil {
		return nil, err
	}
	if in.SerialNumber != nil || in.TokenCode != nil {
		if err := s.d.Identities.CheckMFA(ctx, sc.Principal, wire.Value(in.SerialNumber), wire.Value(in.TokenCode), true); err != nil {
			return nil, err
		}
	}
	credentials, err := s.begin(ctx, r, duration)
	if err != nil {
		return nil, err
	}
	out := &api.AssumeRoleOutput{Credentials: credentials, AssumedRoleUser: r.assumed(), PackedPolicySize: packed}
	if r.SourceIdentity != "" {
		out.SourceIdentity = wire.Ptr(r.SourceIdentity)
	}
	return out, nil
}

// roleSession is a session of a role with that name, without credentials yet.
func roleSession(role auth.Role, session string) *sessionRow {
	return &sessionRow{
		Kind: uint8(auth.AssumedRole), Account: role.Account, Name: role.Name, Role: role.ARN, Parent: role.ID,
		ID:   role.ID + ":" + session,
		ARN:  arn.New("sts", "", role.Account, "assumed-role/"+role.Name+"/"+session).String(),
		Tags: maps.Clone(role.Tags),
	}
}

func (r *sessionRow) assumed() *api.AssumedRoleUser {
	return &api.AssumedRoleUser{AssumedRoleId: wire.Ptr(r.ID), Arn: wire.Ptr(r.ARN)}
}

// roleDuration is how long the session lasts: an hour if the request names
// nothing, at most what the role allows, an hour for chained roles.
func roleDuration(role auth.Role, asked *int32, chained bool) (time.Duration, error) {
	if asked == nil {
		return min(defaultDuration, max(role.MaxSession, defaultDuration)), nil
	}
	d := time.Duration(*asked) * time.Second
	if d > role.MaxSession {
		return 0, validationError("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	if chained && d > chainLimit {
		return 0, validationError("The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.")
	}
	return d, nil
}

// tag sets the session's tags: the role's, over them the transitive ones of the
// caller's session, over them the request's. Page: "Pass session tags in AWS STS".
func (r *sessionRow) tag(in []api.Tag, transitive []string, from *sessionRow) error {
	if r.Tags == nil {
		r.Tags = map[string]string{}
	}
	inherited := map[string]bool{}
	if from != nil {
		for _, k := range from.Transitive {
			setTag(r.Tags, k, from.Tags[k])
			inherited[fold(k)] = true
			r.Transitive = append(r.Transitive, k)
		}
	}
	if len(in) > maxTags {
		return validationError("Session tags must not be more than %d.", maxTags)
	}
	seen := map[string]string{}
	for _, t := range in {
		k := wire.Value(t.Key)
		switch {
		case seen[fold(k)] != "":
			return invalidParameter("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
		case strings.HasPrefix(fold(k), "aws:"):
			return invalidParameter("Tag keys that start with 'aws:' are reserved for system use.")
		case inherited[fold(k)]:
			return invalidParameter("One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the calling session.")
		}
		seen[fold(k)] = k
		setTag(r.Tags, k, wire.Value(t.Value))
	}
	for _, k := range transitive {
		spelt := seen[fold(k)]
		if spelt == "" {
			return invalidParameter("The specified transitive tag key must be included in the requested tags.")
		}
		r.Transitive = append(r.Transitive, spelt)
	}
	return nil
}

// setTag sets a tag in place of one whose key differs only in case.
func setTag(tags map[string]string, key, value string) {
	for k := range tags {
		if strings.EqualFold(k, key) {
			delete(tags, k)
		}
	}
	tags[key] = value
}

// limit sets the session policies and returns the PackedPolicySize, nil if there
// is nothing to pack.
func (s *Service) limit(ctx context.Context, r *sessionRow, policy *string, arns []api.PolicyDescriptorType, tagged bool) (*int32, error) {
	size := 0
	if policy != nil {
		p, err := auth.ParsePolicy(*policy)
		if err == nil {
			err = p.CheckIdentity()
		}
		if fault, ok := errors.AsType[*auth.PolicyError](err); ok {
			return nil, malformedPolicy(fault.Reason)
		}
		r.Policies = []string{*policy}
		size = len(*policy)
	}
	if len(arns) > maxPolicyARNs {
		return nil, validationError("You can provide up to %d managed policy ARNs.", maxPolicyARNs)
	}
	for _, a := range arns {
		id := wire.Value(a.Arn)
		if _, err := s.d.Identities.ManagedPolicy(ctx, r.Account, id); errors.Is(err, auth.ErrUnknown) {
			return nil, validationError("Policy %s was not found.", id)
		} else if err != nil {
			return nil, err
		}
		r.PolicyARNs = append(r.PolicyARNs, id)
		size += len(id)
	}
	if size > maxPolicyText {
		return nil, packedTooLarge(size * 100 / maxPolicyText)
	}
	r.Limited = r.Limited || policy != nil || len(arns) > 0
	if !tagged && policy == nil && len(arns) == 0 {
		return nil, nil
	}
	percent := packed(r)
	if percent > 100 {
		return nil, packedTooLarge(percent)
	}
	return wire.Ptr(int32(percent)), nil
}

// packed is the share, in percent, of the space for policies and tags that a
// session takes.
func packed(r *sessionRow) int {
	var out bytes.Buffer
	w, _ := flate.NewWriter(&out, flate.BestCompression) // the level is a valid one
	for _, part := range slices.Concat(r.Policies, r.PolicyARNs) {
		_, _ = w.Write([]byte(part)) // to memory
	}
	for _, k := range slices.Sorted(maps.Keys(r.Tags)) {
		_, _ = w.Write([]byte(k + "\x00" + r.Tags[k] + "\x00"))
	}
	_ = w.Close()
	return (out.Len()*100 + maxPolicyText - 1) / maxPolicyText
}
