package lambda

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	api "skerry/internal/api/lambda"
	"skerry/internal/auth"
	"skerry/internal/base/ids"
	"skerry/internal/store"
)

const maxPolicy = 20480 // bytes

// statement is one statement of a resource policy, as JSON.
type statement struct{ SID, JSON string }

// document writes statements as a policy; "" without any.
func document(statements []statement) string {
	if len(statements) == 0 {
		return ""
	}
	texts := make([]string, len(statements))
	for i, s := range statements {
		texts[i] = s.JSON
	}
	return `{"Version":"2012-10-17","Id":"default","Statement":[` + strings.Join(texts, ",") + `]}`
}

// statementJSON is the form and order in which Lambda writes a statement.
type statementJSON struct {
	Sid       string
	Effect    string
	Principal any
	Action    string
	Resource  string
	Condition map[string]map[string]string `json:",omitempty"`
}

// principalJSON turns AddPermission's principal into a policy's.
func principalJSON(p string) any {
	switch {
	case p == "*":
		return "*"
	case strings.HasPrefix(p, "arn:"):
		return map[string]string{"AWS": p}
	case len(p) == 12 && strings.Trim(p, "0123456789") == "":
		return map[string]string{"AWS": "arn:aws:iam::" + p + ":root"}
	default:
		return map[string]string{"Service": p}
	}
}

func permission(r ref, in *api.AddPermissionInput) (statement, error) {
	p := deref(in.Principal)
	if _, ok := principalJSON(p).(map[string]string)["Service"]; ok && !strings.Contains(p, ".") {
		return statement{}, invalid("The provided principal was invalid. Please check the principal and try again.")
	}
	c := map[string]map[string]string{}
	add := func(operator, key string, value *string) {
		if value == nil {
			return
		}
		if c[operator] == nil {
			c[operator] = map[string]string{}
		}
		c[operator][key] = *value
	}
	add("StringEquals", "AWS:SourceAccount", in.SourceAccount)
	add("ArnLike", "AWS:SourceArn", in.SourceArn)
	add("StringEquals", "lambda:EventSourceToken", in.EventSourceToken)
	add("StringEquals", "lambda:FunctionUrlAuthType", in.FunctionUrlAuthType)
	add("StringEquals", "aws:PrincipalOrgID", in.PrincipalOrgID)
	if in.InvokedViaFunctionUrl != nil {
		text := "false"
		if *in.InvokedViaFunctionUrl {
			text = "true"
		}
		add("Bool", "lambda:InvokedViaFunctionUrl", &text)
	}
	if len(c) == 0 {
		c = nil
	}
	b, err := json.Marshal(statementJSON{deref(in.StatementId), "Allow", principalJSON(p), deref(in.Action), r.ARN(), c})
	if err != nil {
		return statement{}, err
	}
	s := statement{deref(in.StatementId), string(b)}
	if _, err := auth.ParsePolicy(document([]statement{s})); err != nil {
		return s, invalid("The provided principal was invalid. Please check the principal and try again.")
	}
	return s, nil
}

// policyOf reads the policy of exactly what a name says.
func policyOf(tx *store.Tx, r ref) (*policyRow, error) {
	q := r.Qualifier
	if q == latest {
		q = ""
	}
	p, err := policies.Get(tx, r.key()+store.K(q))
	if err == store.ErrNotFound {
		return &policyRow{Account: r.Account, Region: r.Region, Name: r.Name, Qualifier: q}, nil
	}
	return p, err
}

// AddPermission adds a statement to the resource policy of a function, version or
// alias.
func (s *Service) AddPermission(ctx context.Context, sc auth.Scope, in *api.AddPermissionInput) (*api.AddPermissionOutput, error) {
	r, err := parseRef(sc, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	if r.Qualifier == latest {
		return nil, invalid("We currently do not support adding policies for $LATEST.")
	}
	st, err := permission(r, in)
	if err != nil {
		return nil, err
	}
	err = s.Store.Update(ctx, func(tx *store.Tx) error {
		if _, _, err := find(tx, r); err != nil {
			return err
		}
		p, err := policyOf(tx, r)
		if err != nil {
			return err
		}
		if err := checkRevision(in.RevisionId, p.Revision, "GetPolicy"); err != nil {
			return err
		}
		if slices.ContainsFunc(p.Statements, func(o statement) bool { return o.SID == st.SID }) {
			return conflict("The statement id (%s) provided already exists. Please provide a new statement id, or remove the existing statement.", st.SID)
		}
		p.Statements = append(p.Statements, st)
		if n := len(document(p.Statements)); n > maxPolicy {
			return &api.PolicyLengthExceededException{Type: new(faultUser), Message: new(policyTooLong(n))}
		}
		p.Revision = ids.UUID()
		return policies.Put(tx, p)
	})
	if err != nil {
		return nil, err
	}
	return &api.AddPermissionOutput{Statement: &st.JSON}, nil
}

// RemovePermission takes a statement out again.
func (s *Service) RemovePermission(ctx context.Context, sc auth.Scope, in *api.RemovePermissionInput) (*api.RemovePermissionOutput, error) {
	r, err := parseRef(sc, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	err = s.Store.Update(ctx, func(tx *store.Tx) error {
		if _, _, err := find(tx, r); err != nil {
			return err
		}
		p, err := policyOf(tx, r)
		if err != nil {
			return err
		}
		if len(p.Statements) == 0 {
			return notFound("No policy is associated with the given resource.")
		}
		if err := checkRevision(in.RevisionId, p.Revision, "GetPolicy"); err != nil {
			return err
		}
		left := slices.DeleteFunc(slices.Clone(p.Statements), func(o statement) bool { return o.SID == deref(in.StatementId) })
		if len(left) == len(p.Statements) {
			return notFound("Statement %s is not found in resource policy.", deref(in.StatementId))
		}
		p.Statements, p.Revision = left, ids.UUID()
		if len(left) == 0 {
			return policies.Delete(tx, r.key()+store.K(p.Qualifier))
		}
		return policies.Put(tx, p)
	})
	if err != nil {
		return nil, err
	}
	return &api.RemovePermissionOutput{}, nil
}

// GetPolicy returns the resource policy.
func (s *Service) GetPolicy(ctx context.Context, sc auth.Scope, in *api.GetPolicyInput) (*api.GetPolicyOutput, error) {
	r, err := parseRef(sc, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	var p *policyRow
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		if _, _, err := find(tx, r); err != nil {
			return err
		}
		p, err = policyOf(tx, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(p.Statements) == 0 {
		return nil, notFound("The resource you requested does not exist.")
	}
	return &api.GetPolicyOutput{Policy: new(document(p.Statements)), RevisionId: &p.Revision}, nil
}
