package iam

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"strings"

	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/op"
	"skerry/internal/store"
)

// A subject is the resource that an operation is about: its ARN, its tags and
// its permissions boundary as they are now. Page: "Actions, resources, and
// condition keys for AWS Identity and Access Management".
type subject struct {
	arn      string
	tags     []tag
	boundary string
}

// A resource finds the subject of a request. What does not exist gets the ARN
// that its name would give it, without a path.
type resource func(s *Service, tx *store.Tx, sc auth.Scope, in reflect.Value) (subject, error)

// on makes an operation whose rule follows from its resource and its input: tags,
// tag keys, policy ARN and permissions boundary become condition keys.
func on[I, O any](s *Service, name string, res resource, h op.Handler[I, O], more ...more) op.Operation {
	return op.New(name, func(ctx context.Context, sc auth.Scope, in *I) ([]auth.Access, error) {
		return s.accesses(ctx, sc, name, res, reflect.ValueOf(in).Elem(), more)
	}, h)
}

// more is a further access that an operation needs, or none.
type more func(s *Service, tx *store.Tx, sc auth.Scope, in reflect.Value) (auth.Access, bool)

func (s *Service) accesses(ctx context.Context, sc auth.Scope, name string, res resource, in reflect.Value, further []more) ([]auth.Access, error) {
	if err := limited(sc); err != nil {
		return nil, err
	}
	var out []auth.Access
	err := s.view(ctx, func(tx *store.Tx) error {
		sub, err := res(s, tx, sc, in)
		if err != nil {
			return err
		}
		out = append(out, auth.Access{Action: "iam:" + name, Resource: sub.arn, Context: sub.context(in)})
		for _, m := range further {
			if a, ok := m(s, tx, sc, in); ok {
				out = append(out, a)
			}
		}
		return nil
	})
	return out, err
}

// limited refuses the temporary credentials that may not call IAM: federated
// users', and those of GetSessionToken without MFA. Page: "Compare AWS STS
// credentials".
func limited(sc auth.Scope) error {
	p := sc.Principal
	temporary := !p.Session.Expires.IsZero()
	if p.Kind == auth.FederatedUser || temporary && (p.Kind == auth.User || p.Kind == auth.Root) && !p.Session.MFA {
		return awserr.New(http.StatusForbidden, "InvalidClientTokenId", "The security token included in the request is invalid")
	}
	return nil
}

// context derives the condition keys of an access.
func (sub subject) context(in reflect.Value) map[string][]string {
	keys := map[string][]string{}
	for _, t := range sub.tags {
		keys["aws:ResourceTag/"+t.Key] = []string{t.Value}
		keys["iam:ResourceTag/"+t.Key] = []string{t.Value}
	}
	if tags := in.FieldByName("Tags"); tags.IsValid() {
		for i := range tags.Len() {
			k, v := text(tags.Index(i), "Key"), text(tags.Index(i), "Value")
			keys["aws:RequestTag/"+k] = []string{v}
			keys["aws:TagKeys"] = append(keys["aws:TagKeys"], k)
		}
	}
	if list := in.FieldByName("TagKeys"); list.IsValid() {
		keys["aws:TagKeys"] = list.Interface().([]string)
	}
	if arn := text(in, "PolicyArn"); arn != "" {
		keys["iam:PolicyARN"] = []string{arn}
	}
	if b := text(in, "PermissionsBoundary"); b != "" {
		keys["iam:PermissionsBoundary"] = []string{b}
	} else if sub.boundary != "" {
		keys["iam:PermissionsBoundary"] = []string{sub.boundary}
	}
	if svc := text(in, "AWSServiceName"); svc != "" {
		keys["iam:AWSServiceName"] = []string{svc}
	}
	return keys
}

// text reads a string member of an input; empty if it is absent or the input has
// no such member.
func text(in reflect.Value, name string) string {
	f := in.FieldByName(name)
	if !f.IsValid() || f.Kind() != reflect.Pointer || f.IsNil() || f.Elem().Kind() != reflect.String {
		return ""
	}
	return f.Elem().String()
}

// The resources.

func anything(*Service, *store.Tx, auth.Scope, reflect.Value) (subject, error) {
	return subject{arn: "*"}, nil
}

// listed is what a list is about: the path below which it looks, in the form of
// AWS's refusals (arn:aws:iam::123456789012:role/).
func listed(kind string) resource {
	return func(_ *Service, _ *store.Tx, sc auth.Scope, in reflect.Value) (subject, error) {
		return subject{arn: iamARN(sc.Account, kind, prefixOr(in), "")}, nil
	}
}

// listedPolicies is no ARN, as on AWS.
func listedPolicies(_ *Service, _ *store.Tx, _ auth.Scope, in reflect.Value) (subject, error) {
	return subject{arn: "policy path " + prefixOr(in)}, nil
}

func prefixOr(in reflect.Value) string {
	if p := text(in, "PathPrefix"); p != "" {
		return p
	}
	return "/"
}

// listedProviders are identity providers, which have no paths.
func listedProviders(kind string) resource {
	return func(_ *Service, _ *store.Tx, sc auth.Scope, _ reflect.Value) (subject, error) {
		return subject{arn: iamARN(sc.Account, kind, "/", "*")}, nil
	}
}

// onKey is the user who has an access key, so that who may ask about a user may ask
// about the user's keys.
func onKey(s *Service, tx *store.Tx, sc auth.Scope, in reflect.Value) (subject, error) {
	somebody := subject{arn: iamARN(sc.Account, "user", "/", "*")}
	k, err := accessKeys.Get(tx, store.K(text(in, "AccessKeyId")))
	if errors.Is(err, store.ErrNotFound) || err == nil && (k.Account != sc.Account || k.User == "") {
		return somebody, nil
	}
	if err != nil {
		return subject{}, err
	}
	u, err := one(tx, usersByID, k.User, store.ErrNotFound)
	if errors.Is(err, store.ErrNotFound) {
		return somebody, nil
	}
	if err != nil {
		return subject{}, err
	}
	return subject{u.arn(), u.Tags, u.Boundary}, nil
}

func onUser(s *Service, tx *store.Tx, sc auth.Scope, in reflect.Value) (subject, error) {
	name := text(in, "UserName")
	if name == "" && sc.Principal.Kind != auth.User {
		return subject{arn: iamARN(sc.Account, "user", "/", "*")}, nil
	}
	r, err := s.caller(tx, sc, &name)
	if err != nil {
		return named(sc, "user", name, err)
	}
	return subject{r.arn(), r.Tags, r.Boundary}, nil
}

func onGroup(s *Service, tx *store.Tx, sc auth.Scope, in reflect.Value) (subject, error) {
	r, err := s.group(tx, sc.Account, text(in, "GroupName"))
	if err != nil {
		return named(sc, "group", text(in, "GroupName"), err)
	}
	return subject{arn: r.arn()}, nil
}

func onRole(s *Service, tx *store.Tx, sc auth.Scope, in reflect.Value) (subject, error) {
	r, err := s.role(tx, sc.Account, text(in, "RoleName"))
	if err != nil {
		return named(sc, "role", text(in, "RoleName"), err)
	}
	return subject{r.arn(), r.Tags, r.Boundary}, nil
}

func onProfile(s *Service, tx *store.Tx, sc auth.Scope, in reflect.Value) (subject, error) {
	r, err := s.profile(tx, sc.Account, text(in, "InstanceProfileName"))
	if err != nil {
		return named(sc, "instance-profile", text(in, "InstanceProfileName"), err)
	}
	return subject{arn: r.arn(), tags: r.Tags}, nil
}

func onServerCert(s *Service, tx *store.Tx, sc auth.Scope, in reflect.Value) (subject, error) {
	r, err := s.serverCert(tx, sc.Account, text(in, "ServerCertificateName"))
	if err != nil {
		return named(sc, "server-certificate", text(in, "ServerCertificateName"), err)
	}
	return subject{arn: r.arn(), tags: r.Tags}, nil
}

// named is the subject of a name that nothing has.
func named(sc auth.Scope, kind, name string, err error) (subject, error) {
	if isNoSuchEntity(err) {
		return subject{arn: iamARN(sc.Account, kind, "/", name)}, nil
	}
	return subject{}, err
}

func onPolicy(s *Service, tx *store.Tx, sc auth.Scope, in reflect.Value) (subject, error) {
	r, err := s.anyPolicy(tx, sc.Account, text(in, "PolicyArn"))
	if err != nil {
		return subject{arn: text(in, "PolicyArn")}, theirs(err)
	}
	return subject{arn: r.arn(), tags: r.Tags}, nil
}

// theirs lets faults of ours through and leaves those of the request to the
// handler.
func theirs(err error) error {
	if awserr.Code(err) != "" {
		return nil
	}
	return err
}

func onOIDC(s *Service, tx *store.Tx, sc auth.Scope, in reflect.Value) (subject, error) {
	arn := text(in, "OpenIDConnectProviderArn")
	r, err := s.oidc(tx, sc.Account, arn)
	if err != nil {
		return subject{arn: arn}, theirs(err)
	}
	return subject{arn: arn, tags: r.Tags}, nil
}

func onSAML(s *Service, tx *store.Tx, sc auth.Scope, in reflect.Value) (subject, error) {
	arn := text(in, "SAMLProviderArn")
	r, err := s.saml(tx, sc.Account, arn)
	if err != nil {
		return subject{arn: arn}, theirs(err)
	}
	return subject{arn: arn, tags: r.Tags}, nil
}

func onMFA(s *Service, tx *store.Tx, sc auth.Scope, in reflect.Value) (subject, error) {
	serial := text(in, "SerialNumber")
	r, err := s.mfa(tx, sc.Account, serial)
	if err != nil {
		return subject{arn: serial}, theirs(err)
	}
	return subject{arn: serial, tags: r.Tags}, nil
}

// fresh is the resource that a request is about to create.
func fresh(kind, nameField string) resource {
	return func(_ *Service, _ *store.Tx, sc auth.Scope, in reflect.Value) (subject, error) {
		path := text(in, "Path")
		if path == "" {
			path = "/"
		}
		return subject{arn: iamARN(sc.Account, kind, path, text(in, nameField))}, nil
	}
}

func freshOIDC(_ *Service, _ *store.Tx, sc auth.Scope, in reflect.Value) (subject, error) {
	address, _, err := issuerAddress(text(in, "Url"))
	return subject{arn: iamARN(sc.Account, "oidc-provider", "/", address)}, err
}

func freshLinkedRole(_ *Service, _ *store.Tx, sc auth.Scope, in reflect.Value) (subject, error) {
	service := text(in, "AWSServiceName")
	name := linkedServices()[service].role
	if suffix := text(in, "CustomSuffix"); suffix != "" {
		name += "_" + suffix
	}
	return subject{arn: iamARN(sc.Account, "role", "/aws-service-role/"+service+"/", name)}, nil
}

func onLinkedTask(_ *Service, _ *store.Tx, sc auth.Scope, in reflect.Value) (subject, error) {
	task := strings.TrimPrefix(text(in, "DeletionTaskId"), "task/")
	if i := strings.LastIndexByte(task, '/'); i >= 0 {
		task = task[:i]
	}
	return subject{arn: iamARN(sc.Account, "role", "/", task)}, nil
}

// onSource is the user, group or role whose policies are simulated.
func onSource(field string) resource {
	return func(_ *Service, _ *store.Tx, _ auth.Scope, in reflect.Value) (subject, error) {
		return subject{arn: text(in, field)}, nil
	}
}

// renamed is the second resource of a rename: the name to come.
func renamed(kind, action, field string) more {
	return func(_ *Service, _ *store.Tx, sc auth.Scope, in reflect.Value) (auth.Access, bool) {
		name, path := text(in, field), text(in, "NewPath")
		if name == "" {
			return auth.Access{}, false
		}
		if path == "" {
			path = "/"
		}
		return auth.Access{Action: "iam:" + action, Resource: iamARN(sc.Account, kind, path, name)}, true
	}
}

// passRole is the right to hand a role to instances.
func passRole(s *Service, tx *store.Tx, sc auth.Scope, in reflect.Value) (auth.Access, bool) {
	sub, err := onRole(s, tx, sc, in)
	return auth.Access{
		Action: "iam:PassRole", Resource: sub.arn,
		Context: map[string][]string{"iam:PassedToService": {"ec2.amazonaws.com"}},
	}, err == nil
}
