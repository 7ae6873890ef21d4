package gateway

import (
	"context"

	"skerry/internal/auth"
	"skerry/internal/wire"
)

// What the gateway does for the doors beside it, whose requests come in protocols
// of their own: the registry's.

// Authorise asks the policies whether a scope has every access, and refuses in the
// words of the JSON protocols.
func (g *Gateway) Authorise(ctx context.Context, sc auth.Scope, needs []auth.Access) error {
	for _, need := range needs {
		g.note(sc, need.Action, sc.Request.Time)
	}
	return g.allow(ctx, sc, request{service: &service{api: &wire.Service{Protocols: []wire.Protocol{wire.AWSJSON11}}}}, needs)
}

// Plain tells whether a host names no bucket and no service.
func (g *Gateway) Plain(host string) bool {
	n := g.parseHost(host)
	return n.bucket == "" && n.service == ""
}
