package gateway

import (
	"context"
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
	needs, err := g.needs(ctx, sc, req)
	if err != nil {
		return permit{}, err
	}
	var policies auth.Policies
	if len(needs) > 0 {
		if policies, err = g.policies(ctx, sc.Principal); err != nil {
			return permit{}, err
		}
	}
	for _, need := range needs {
		d := auth.Evaluate(auth.Evaluation{Scope: sc, Access: need, Policies: policies})
		g.logDecision(ctx, sc, need, d)
		if !d.Allowed() {
			return permit{}, denied(req.service.api, sc, need, d)
		}
	}
	return permit{sc, req}, nil
}

// needs runs the operation's rule, guarded like a handler.
func (g *Gateway) needs(ctx context.Context, sc auth.Scope, req request) (needs []auth.Access, err error) {
	defer func() {
		if v := recover(); v != nil {
			needs, err = nil, panicked(v)
		}
	}()
	return req.op.Access(ctx, sc, req.input)
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
func denied(api *wire.Service, sc auth.Scope, need auth.Access, d auth.Decision) error {
	if sc.Principal.Kind == auth.Anonymous {
		return accessDenied(api, "Access Denied")
	}
	who := sc.Principal.ARN
	if who == "" {
		who = sc.Principal.Service
	}
	text := "User: " + who + " is not authorized to perform: " + need.Action
	if need.Resource != "*" && need.Resource != "" {
		text += " on resource: " + quoted(api, need.Resource)
	}
	return accessDenied(api, text+" "+d.Reason(need.Action))
}

// quoted is how a service writes the resource in its texts: S3 puts it in
// quotation marks.
func quoted(api *wire.Service, resource string) string {
	if api.NoErrorWrapping {
		return `"` + resource + `"`
	}
	return resource
}

// accessDenied is the protocol's code for a refusal.
func accessDenied(api *wire.Service, text string) error {
	switch {
	case api.Speaks(wire.EC2Query):
		return awserr.New(http.StatusForbidden, "UnauthorizedOperation", "You are not authorized to perform this operation. %s", text)
	case api.Speaks(wire.RESTXML), api.Speaks(wire.AWSQuery) && !api.QueryCompatible:
		return awserr.New(http.StatusForbidden, "AccessDenied", "%s", text)
	case api.Speaks(wire.RESTJSON1):
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
