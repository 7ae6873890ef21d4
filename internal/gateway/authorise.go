package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/wire"
)

// authorise asks the operation's rule what the request needs, and the policies
// whether the caller has it. Every access must be allowed.
func (g *Gateway) authorise(ctx context.Context, sc auth.Scope, req request) (permit, error) {
	needs, err := req.op.Access(ctx, sc, req.input)
	if err != nil {
		return permit{}, err
	}
	if err := g.allow(ctx, sc, req, needs); err != nil {
		return permit{}, err
	}
	return permit{sc, req}, nil
}

// allow asks the policies for every access that a request needs.
func (g *Gateway) allow(ctx context.Context, sc auth.Scope, req request, needs []auth.Access) (err error) {
	var policies auth.Policies
	if len(needs) > 0 {
		if policies, err = g.policies(ctx, sc.Principal); err != nil {
			return err
		}
	}
	for _, need := range needs {
		d := auth.Evaluate(auth.Evaluation{Scope: sc, Access: need, Policies: policies})
		g.logDecision(ctx, sc, need, d)
		if !d.Allowed() {
			return g.explained(ctx, sc, need, d, denied(req, sc, need, d))
		}
	}
	return nil
}

// policies returns what is attached to a principal; of those that have none,
// nothing is asked.
func (g *Gateway) policies(ctx context.Context, p auth.Principal) (auth.Policies, error) {
	switch p.Kind {
	case auth.Anonymous, auth.Root, auth.Service:
		return auth.Policies{}, nil
	}
	got, err := g.directory.Policies(ctx, p)
	if err != nil {
		return auth.Policies{}, fmt.Errorf("gateway: policies of %s: %w", p.ARN, err)
	}
	return got, nil
}

// denied is the error of an access that is not granted, in the words of the
// service's protocol. Page: "Troubleshoot access denied error messages".
func denied(req request, sc auth.Scope, need auth.Access, d auth.Decision) error {
	api, p := req.service.api, &sc.Principal
	switch {
	case p.Kind == auth.Identity:
		return accessDenied(req, "Not authorized to perform "+need.Action)
	case p.Kind == auth.Anonymous, api.NoErrorWrapping && need.Owner != "" && need.Owner != p.Account:
		return accessDenied(req, "Access Denied")
	}
	who := p.ARN
	if who == "" {
		who = p.Service
	}
	text := "User: " + who + " is not authorized to perform: " + need.Action
	switch {
	case need.Resource == "" || need.Resource == "*" && (api.NoErrorWrapping || api.Speaks(wire.EC2Query)):
	case api.NoErrorWrapping: // S3 alone quotes it
		text += ` on resource: "` + need.Resource + `"`
	default:
		text += " on resource: " + need.Resource
	}
	if need.Strict && d.Effect == auth.ImplicitDeny {
		return accessDenied(req, text) // sts:AssumeRole gives no reason
	}
	return accessDenied(req, text+" "+d.Reason(need.Action))
}

// explained adds the encoded message to a refusal of EC2. Page:
// "DecodeAuthorizationMessage".
func (g *Gateway) explained(ctx context.Context, sc auth.Scope, need auth.Access, d auth.Decision, refusal error) error {
	e, ok := errors.AsType[*awserr.Error](refusal)
	if !ok || e.Code != unauthorizedOperation || g.encode == nil {
		return refusal
	}
	text, err := g.encode(ctx, sc, need, d)
	if err != nil {
		return err
	}
	e.Message += " Encoded authorization failure message: " + text
	return e
}

// unauthorizedOperation is EC2's code of a refusal.
const unauthorizedOperation = "UnauthorizedOperation"

// accessDenied is the protocol's code for a refusal.
func accessDenied(req request, text string) error {
	p := req.service.api.Protocols[0]
	if req.call != nil {
		p = req.call.Protocol
	}
	switch {
	case p == wire.EC2Query:
		return awserr.New(http.StatusForbidden, unauthorizedOperation, "You are not authorized to perform this operation. %s", text)
	case inXML(p):
		return awserr.New(http.StatusForbidden, "AccessDenied", "%s", text)
	case p == wire.RESTJSON1:
		return awserr.New(http.StatusForbidden, "AccessDeniedException", "%s", text)
	}
	return awserr.New(http.StatusBadRequest, "AccessDeniedException", "%s", text)
}

// logDecision names the deciding statement, for those who wonder why.
func (g *Gateway) logDecision(ctx context.Context, sc auth.Scope, need auth.Access, d auth.Decision) {
	if !g.log.Enabled(ctx, slog.LevelDebug) || sc.Principal.Kind == auth.Root {
		return
	}
	why := "no statement applies"
	switch {
	case d.Err != nil:
		why = d.Err.Error()
	case d.Deciding != nil:
		st := d.Deciding.Statement
		why = fmt.Sprintf("%s %s, statement %d %s", d.Deciding.Layer, d.Deciding.Source, st.Index, st.SID)
	case d.Allowed():
		why = "no policy is needed"
	}
	g.log.LogAttrs(ctx, slog.LevelDebug, "decision",
		slog.String("request", sc.Request.ID), slog.Bool("allowed", d.Allowed()), slog.String("principal", sc.Principal.ARN),
		slog.String("action", need.Action), slog.String("resource", need.Resource), slog.String("why", why))
}
