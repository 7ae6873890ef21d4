package s3

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"skerry/internal/api/s3"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/store"
)

const maxPolicy = 20 << 10 // bytes

// PutBucketPolicy implements s3:PutBucketPolicy.
func (s *Service) PutBucketPolicy(ctx context.Context, sc auth.Scope, in *s3.PutBucketPolicyInput) (*s3.PutBucketPolicyOutput, error) {
	doc := value(in.Policy)
	return &s3.PutBucketPolicyOutput{}, s.editBucket(ctx, in.Bucket, in.ExpectedBucketOwner, func(tx *store.Tx, b *bucketRow) error {
		p, err := parseBucketPolicy(b, doc)
		if err != nil {
			return err
		}
		public := publicPolicy(p)
		if public && b.Block != nil && b.Block.BlockPolicy {
			return accessDenied()
		}
		if !value(in.ConfirmRemoveSelfBucketAccess) && locksOut(p, sc, b) {
			return awserr.New(400, "MalformedPolicy", "You cannot remove your own access to the bucket policy. To do so, set the x-amz-confirm-remove-self-bucket-access header to true.")
		}
		b.Policy, b.Public = doc, public
		return nil
	})
}

// parseBucketPolicy checks a bucket policy as S3 does.
func parseBucketPolicy(b *bucketRow, doc string) (*auth.Policy, error) {
	malformed := func(text string) error {
		return awserr.New(400, "MalformedPolicy", "%s", text)
	}
	if len(doc) > maxPolicy {
		return nil, malformed("Policy exceeds the maximum allowed document size.")
	}
	if !strings.HasPrefix(strings.TrimSpace(doc), "{") {
		return nil, malformed("Policies must be valid JSON and the first byte must be '{'")
	}
	p, err := auth.ParsePolicy(doc)
	if err == nil {
		err = p.CheckResource()
	}
	if err != nil {
		return nil, malformed(err.Error())
	}
	for _, st := range p.Statements {
		for _, a := range append(slices.Clone(st.Action), st.NotAction...) {
			if a != "*" && !strings.HasPrefix(strings.ToLower(a), "s3:") {
				return nil, malformed("Policy has invalid action")
			}
		}
		for _, r := range append(slices.Clone(st.Resource), st.NotResource...) {
			if r != "*" && !ofBucket(b, r) {
				return nil, malformed("Policy has invalid resource")
			}
		}
	}
	return p, nil
}

// ofBucket says whether a resource of a policy can be of the bucket.
func ofBucket(b *bucketRow, resource string) bool {
	rest, ok := strings.CutPrefix(resource, "arn:aws:s3:::")
	if !ok {
		return false
	}
	name, _, _ := strings.Cut(rest, "/")
	return name == b.Name || strings.ContainsAny(name, "*?") || strings.Contains(name, "${")
}

// locksOut says whether a policy keeps its author from changing it again.
func locksOut(p *auth.Policy, sc auth.Scope, b *bucketRow) bool {
	if sc.Principal.Kind == auth.Root {
		return false
	}
	for _, action := range []string{"s3:PutBucketPolicy", "s3:GetBucketPolicy"} {
		d := auth.Evaluate(auth.Evaluation{
			Scope:    sc,
			Access:   auth.Access{Action: action, Resource: b.arn(), Owner: b.Account},
			Policies: auth.Policies{Identity: []auth.Document{{Policy: principalsCut(p, sc)}}},
		})
		if d.Effect == auth.ExplicitDeny {
			return true
		}
	}
	return false
}

// principalsCut returns the policy's statements that name the caller directly.
func principalsCut(p *auth.Policy, sc auth.Scope) *auth.Policy {
	q := &auth.Policy{Version: p.Version}
	for _, st := range p.Statements {
		if st.Principal != nil && (st.Principal.Everyone || slices.Contains(st.Principal.AWS, sc.Principal.ARN) || slices.Contains(st.Principal.AWS, sc.Principal.Account)) {
			q.Statements = append(q.Statements, st)
		}
	}
	return q
}

// publicPolicy says whether a policy grants something to everybody, as told in
// "The meaning of public": a statement that allows any principal, unless a
// condition ties it to fixed values of certain keys.
func publicPolicy(p *auth.Policy) bool {
	return slices.ContainsFunc(p.Statements, func(st auth.Statement) bool {
		return !st.Deny && (st.NotPrincipal != nil || st.Principal != nil && anybody(st.Principal)) && !tied(st.Conditions)
	})
}

func anybody(ps *auth.Principals) bool {
	return ps.Everyone || slices.ContainsFunc(ps.AWS, func(a string) bool { return strings.Contains(a, "*") })
}

// tied says whether conditions hold a statement to a fixed set of callers.
func tied(conditions []auth.Condition) bool {
	return slices.ContainsFunc(conditions, func(c auth.Condition) bool {
		op := strings.ToLower(c.Operator)
		if strings.Contains(op, "not") || strings.HasSuffix(op, "ifexists") {
			return false
		}
		fixed := func(ok func(string) bool) bool {
			return !slices.ContainsFunc(c.Values, func(v string) bool { return !ok(v) })
		}
		switch strings.ToLower(c.Key) {
		case "aws:sourceip":
			return fixed(func(v string) bool {
				n, err := netip.ParsePrefix(v)
				return err != nil || n.Addr().Is4() && n.Bits() >= 8 || n.Addr().Is6() && n.Bits() >= 32
			})
		case "aws:principalorgid", "aws:principalaccount", "aws:principalarn", "aws:sourcearn", "aws:sourceaccount",
			"aws:sourcevpc", "aws:sourcevpce", "aws:sourceowner", "aws:userid", "s3:dataaccesspointaccount", "s3:dataaccesspointarn":
			return fixed(func(v string) bool { return !strings.ContainsAny(v, "*?") && !strings.Contains(v, "${") })
		}
		return false
	})
}

// GetBucketPolicy implements s3:GetBucketPolicy.
func (s *Service) GetBucketPolicy(ctx context.Context, sc auth.Scope, in *s3.GetBucketPolicyInput) (*s3.GetBucketPolicyOutput, error) {
	b, err := s.viewBucket(ctx, in.Bucket, in.ExpectedBucketOwner)
	if err != nil {
		return nil, err
	}
	if b.Policy == "" {
		return nil, noBucketPolicy(b)
	}
	return &s3.GetBucketPolicyOutput{Policy: &b.Policy}, nil
}

func noBucketPolicy(b *bucketRow) error {
	return noConfiguration("NoSuchBucketPolicy", "The bucket policy does not exist", b.Name)
}

// GetBucketPolicyStatus implements s3:GetBucketPolicyStatus.
func (s *Service) GetBucketPolicyStatus(ctx context.Context, sc auth.Scope, in *s3.GetBucketPolicyStatusInput) (*s3.GetBucketPolicyStatusOutput, error) {
	b, err := s.viewBucket(ctx, in.Bucket, in.ExpectedBucketOwner)
	if err != nil {
		return nil, err
	}
	if b.Policy == "" {
		return nil, noBucketPolicy(b)
	}
	return &s3.GetBucketPolicyStatusOutput{PolicyStatus: &s3.PolicyStatus{IsPublic: &b.Public}}, nil
}

// DeleteBucketPolicy implements s3:DeleteBucketPolicy.
func (s *Service) DeleteBucketPolicy(ctx context.Context, sc auth.Scope, in *s3.DeleteBucketPolicyInput) (*s3.DeleteBucketPolicyOutput, error) {
	return &s3.DeleteBucketPolicyOutput{}, s.editBucket(ctx, in.Bucket, in.ExpectedBucketOwner, func(tx *store.Tx, b *bucketRow) error {
		b.Policy, b.Public = "", false
		return nil
	})
}
