package lambda

import (
	"context"
	"errors"
	"strconv"

	api "skerry/internal/api/lambda"
	"skerry/internal/auth"
	"skerry/internal/op"
	"skerry/internal/store"
)

// rules authorises: "Actions, resources, and condition keys for AWS Lambda".
type rules struct{ s *Service }

// everything is the rule of actions without a resource type.
func everything[I any](action string) op.Rule[I] {
	return func(context.Context, auth.Scope, *I) ([]auth.Access, error) {
		return []auth.Access{{Action: "lambda:" + action, Resource: "*"}}, nil
	}
}

// onFunction is the rule of an action on a function, version or alias.
func onFunction[I any](r rules, action string, name func(*I) (name, qualifier *string)) op.Rule[I] {
	return func(ctx context.Context, sc auth.Scope, in *I) ([]auth.Access, error) {
		n, q := name(in)
		f, err := parseRef(sc, n, q)
		if err != nil {
			return nil, err
		}
		a, err := r.access(ctx, f, "lambda:"+action)
		return []auth.Access{a}, err
	}
}

// access is an action on what a name says, with its tags and its policy.
func (r rules) access(ctx context.Context, f ref, action string) (auth.Access, error) {
	a := auth.Access{Action: action, Resource: f.ARN(), Owner: f.Account, Context: map[string][]string{}}
	err := r.s.Store.View(ctx, func(tx *store.Tx) error {
		row, err := functions.Get(tx, f.key())
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		for k, v := range row.Tags {
			a.Context["aws:ResourceTag/"+k] = []string{v}
		}
		p, err := policyOf(tx, f)
		if err == nil {
			a.Policy = document(p.Statements)
		}
		return err
	})
	return a, err
}

// requestTags are the condition keys of tags that come with a request.
func requestTags(a *auth.Access, tags map[string]string) {
	for k, v := range tags {
		a.Context["aws:RequestTag/"+k] = []string{v}
		a.Context["aws:TagKeys"] = append(a.Context["aws:TagKeys"], k)
	}
}

// passRole is the permission to give a role to Lambda.
func passRole(role string, f ref) auth.Access {
	return auth.Access{Action: "iam:PassRole", Resource: role, Context: map[string][]string{
		"iam:PassedToService": {principal}, "iam:AssociatedResourceArn": {f.functionARN()}}}
}

// layerAccess is the permission to read each layer that a function is to use.
func layerAccess(arns []string) []auth.Access {
	var out []auth.Access
	for _, a := range arns {
		out = append(out, auth.Access{Action: "lambda:GetLayerVersion", Resource: a})
	}
	return out
}

func (r rules) createFunction(ctx context.Context, sc auth.Scope, in *api.CreateFunctionInput) ([]auth.Access, error) {
	f, err := parseRef(sc, in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	a, err := r.access(ctx, f, "lambda:CreateFunction")
	if err != nil {
		return nil, err
	}
	requestTags(&a, in.Tags)
	if len(in.Layers) > 0 {
		a.Context["lambda:Layer"] = in.Layers
	}
	out := []auth.Access{a, passRole(deref(in.Role), f)}
	if len(in.Tags) > 0 {
		tag, err := r.access(ctx, f, "lambda:TagResource")
		if err != nil {
			return nil, err
		}
		requestTags(&tag, in.Tags)
		out = append(out, tag)
	}
	return append(out, layerAccess(in.Layers)...), nil
}

func (r rules) updateFunctionCode(ctx context.Context, sc auth.Scope, in *api.UpdateFunctionCodeInput) ([]auth.Access, error) {
	f, err := parseRef(sc, in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	a, err := r.access(ctx, f, "lambda:UpdateFunctionCode")
	return []auth.Access{a}, err
}

func (r rules) updateFunctionConfiguration(ctx context.Context, sc auth.Scope, in *api.UpdateFunctionConfigurationInput) ([]auth.Access, error) {
	f, err := parseRef(sc, in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	a, err := r.access(ctx, f, "lambda:UpdateFunctionConfiguration")
	if err != nil {
		return nil, err
	}
	if len(in.Layers) > 0 {
		a.Context["lambda:Layer"] = in.Layers
	}
	out := []auth.Access{a}
	if in.Role != nil {
		out = append(out, passRole(*in.Role, f))
	}
	return append(out, layerAccess(in.Layers)...), nil
}

func (r rules) invoke(ctx context.Context, sc auth.Scope, in *api.InvokeInput) ([]auth.Access, error) {
	f, err := parseRef(sc, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	a, err := r.access(ctx, f, "lambda:InvokeFunction")
	return []auth.Access{a}, err
}

func (r rules) invokeStream(ctx context.Context, sc auth.Scope, in *api.InvokeWithResponseStreamInput) ([]auth.Access, error) {
	return r.invoke(ctx, sc, &api.InvokeInput{FunctionName: in.FunctionName, Qualifier: in.Qualifier})
}

// onLayer is the rule of an action on a layer or one of its versions.
func onLayer[I any](_ rules, action string, name func(*I) (name *string, version *int64)) op.Rule[I] {
	return func(_ context.Context, sc auth.Scope, in *I) ([]auth.Access, error) {
		n, v := name(in)
		l, err := parseLayer(sc, n, v)
		if err != nil {
			return nil, err
		}
		return []auth.Access{{Action: "lambda:" + action, Resource: l.ARN(), Owner: l.Account}}, nil
	}
}

// plural counts things in words.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
