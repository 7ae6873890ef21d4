// Package gateway is the one path of an AWS request:
//
//	identify -> authenticate -> decode -> authorise -> handle -> encode
//
// serve is one straight function; each step returns a value that a later one
// needs, so that leaving one out does not compile. Decoding stands before
// authorisation because most protocols carry the resource's name in the body.
//
// The gateway also implements op.Caller, by which one service calls another: the
// same validation, authorisation and log, in process.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/base/clock"
	"skerry/internal/op"
	"skerry/internal/wire"
)

// Config is what a gateway is made of.
type Config struct {
	Services  []op.Service
	Directory auth.Directory
	Region    string // of requests that name none
	// TestKeys tells whether an access key is one of those that everybody knows.
	// They work only for clients on this machine: see origin.go. May be nil.
	TestKeys func(accessKey string) bool
	// CORS answers for the buckets of S3. May be nil.
	CORS BucketCORS
	// Domains are names besides the usual ones below which the cloud's hosts live:
	// bucket.<domain>, s3.<domain>. May be nil.
	Domains []string
	// Used is told of each authenticated request and each call from inside, allowed
	// or not, for the dates at which keys, users and roles were last used. action is
	// an IAM action, such as s3:PutObject; it ends at the colon where the request
	// names no operation that is built. It must not block. May be nil.
	Used func(p auth.Principal, action, region string, at time.Time)
	// EncodeDenial returns the message that EC2 adds to its refusals, which
	// sts:DecodeAuthorizationMessage reads. May be nil.
	EncodeDenial func(ctx context.Context, sc auth.Scope, need auth.Access, d auth.Decision) (string, error)
	Clock        clock.Clock
	Log          *slog.Logger
}

// Gateway serves AWS requests.
type Gateway struct {
	services  []*service // in the order of the Config
	byID      map[string]*service
	directory auth.Directory
	verifier  *auth.Verifier
	region    string
	testKeys  func(string) bool
	cors      BucketCORS
	domains   []string
	used      func(p auth.Principal, action, region string, at time.Time)
	encode    func(ctx context.Context, sc auth.Scope, need auth.Access, d auth.Decision) (string, error)
	clock     clock.Clock
	log       *slog.Logger
	patience  time.Duration
	failures  atomic.Uint64
	requests  atomic.Uint64
}

// service is a service with its operations by name.
type service struct {
	api        *wire.Service
	operations map[string]operation
	unsigned   bool   // has operations that need no signature
	noAction   string // what is told to be used where the operation is unknown
}

// operation is an operation with its IAM action.
type operation struct {
	op.Operation
	action string
}

// New makes a gateway. It fails if an operation is not in its service's tables,
// comes twice, or has other structs than the tables say.
func New(c Config) (*Gateway, error) {
	g := &Gateway{
		byID:      map[string]*service{},
		directory: c.Directory,
		verifier:  auth.NewVerifier(c.Directory, c.Clock),
		region:    c.Region,
		testKeys:  c.TestKeys,
		cors:      c.CORS,
		domains:   append(slices.Clone(baseDomains), c.Domains...),
		used:      c.Used,
		encode:    c.EncodeDenial,
		clock:     c.Clock,
		log:       c.Log,
		patience:  patience,
	}
	if g.testKeys == nil {
		g.testKeys = func(string) bool { return false }
	}
	if g.used == nil {
		g.used = func(auth.Principal, string, string, time.Time) {}
	}
	for _, s := range c.Services {
		svc := &service{api: s.API, operations: map[string]operation{}, noAction: s.Namespace() + ":"}
		svc.unsigned = slices.ContainsFunc(s.API.Operations, func(o wire.Operation) bool { return o.NoAuth })
		for _, o := range s.Operations {
			model := s.API.Operation(o.Name)
			if model == nil || !model.Built() {
				return nil, fmt.Errorf("gateway: %s has no operation %s in its tables", s.API.ID, o.Name)
			}
			if in, out := typeOf(model.In), typeOf(model.Out); o.In != in || o.Out != out {
				return nil, fmt.Errorf("gateway: %s.%s is %v -> %v, its tables say %v -> %v", s.API.ID, o.Name, o.In, o.Out, in, out)
			}
			if _, twice := svc.operations[o.Name]; twice {
				return nil, fmt.Errorf("gateway: %s.%s is there twice", s.API.ID, o.Name)
			}
			svc.operations[o.Name] = operation{o, s.Action(o.Name)}
		}
		g.services = append(g.services, svc)
		g.byID[s.API.ID] = svc
	}
	return g, nil
}

// Failures returns how many requests and calls have failed by a fault of ours
// since the start: anything but zero is a bug.
func (g *Gateway) Failures() uint64 { return g.failures.Load() }

// Requests returns how many requests have been served since the start.
func (g *Gateway) Requests() uint64 { return g.requests.Load() }

// ServeHTTP implements http.Handler.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.requests.Add(1)
	a := newAnswer(g, w, r)
	defer a.end()
	if g.preflight(a, r) {
		return
	}
	r = g.bounded(w, r)
	if err := g.guarded(func() error { return g.serve(a, r) }); err != nil {
		a.fail(err)
	}
}

// guarded makes an error of a panic: a fault of ours that ends one request alone.
func (g *Gateway) guarded(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = panicked(v)
		}
	}()
	return f()
}

// serve is the path of a request.
func (g *Gateway) serve(a *answer, r *http.Request) error {
	to, err := g.identify(r)
	a.arrived(to)
	if err != nil {
		return err
	}
	g.allowOrigin(a, r, to)
	if to.isForm(r) {
		return g.serveForm(a, r, to)
	}
	caller, err := g.authenticate(r, to, a.id)
	a.scope = caller.scope
	if err != nil {
		return err
	}
	req, err := g.decode(to, caller)
	a.call = req.call
	if err != nil {
		return err
	}
	permit, err := g.authorise(r.Context(), caller.scope, req)
	if err != nil {
		return err
	}
	out, err := g.handle(r.Context(), permit)
	if err != nil {
		return err
	}
	return a.encode(out)
}

// request is a decoded request: an operation and its input.
type request struct {
	service *service
	op      operation
	input   any
	call    *wire.Call // nil for calls from inside
}

// decode finds the operation, reads the input, and checks it against the
// service's tables. Its request has the call even when it fails, so that the
// error is answered in the client's protocol.
func (g *Gateway) decode(to destination, c caller) (request, error) {
	to.request.Body, to.request.Length = c.body, c.length
	call, err := wire.Identify(to.service.api, to.request)
	req := request{service: to.service, call: call}
	if err != nil {
		g.note(c.scope, to.service.noAction, c.scope.Request.Time)
		return req, err
	}
	name := call.Operation.Name
	o, built := to.service.operations[name]
	if !built {
		o.action = to.service.noAction
	}
	g.note(c.scope, o.action, c.scope.Request.Time)
	if err := signedEnough(to, c.scope, call.Operation); err != nil {
		return req, err
	}
	if !built || !call.Operation.Built() {
		return req, notBuilt(to.service.api, call.Protocol, name)
	}
	req.op, req.input = o, call.Operation.NewInput()
	if err := call.Decode(req.input); err != nil {
		return req, err
	}
	return req, wire.Validate(to.service.api, call.Operation, req.input)
}

// note tells what a caller has tried to use. Callers without a credential of their
// own have used nothing.
func (g *Gateway) note(sc auth.Scope, action string, at time.Time) {
	switch sc.Principal.Kind {
	case auth.Root, auth.User, auth.AssumedRole, auth.FederatedUser:
		g.used(sc.Principal, action, sc.Region, at)
	}
}

// notBuilt is the answer for an operation that exists on AWS and not here.
func notBuilt(api *wire.Service, p wire.Protocol, name string) error {
	code := "NotImplementedException"
	if inXML(p) {
		code = "NotImplemented"
	}
	return awserr.New(http.StatusNotImplemented, code, "Skerry has not built %s of %s yet.", name, api.Title)
}

// inXML tells whether a protocol answers in XML, where codes do not end in
// Exception.
func inXML(p wire.Protocol) bool {
	return p == wire.RESTXML || p == wire.AWSQuery || p == wire.EC2Query
}

// permit is an authorised request: the only thing that handle takes.
type permit struct {
	scope auth.Scope
	req   request
}

// handle runs the operation.
func (g *Gateway) handle(ctx context.Context, p permit) (any, error) {
	return p.req.op.Do(ctx, p.scope, p.req.input)
}

// Call implements op.Caller.
func (g *Gateway) Call(ctx context.Context, sc auth.Scope, serviceID, operation string, in any) (any, error) {
	svc := g.byID[serviceID]
	if svc == nil {
		return nil, fmt.Errorf("gateway: there is no service %s: %w", serviceID, errors.ErrUnsupported)
	}
	o, built := svc.operations[operation]
	if !built {
		return nil, notBuilt(svc.api, svc.api.Protocols[0], operation)
	}
	if typeOf(in) != o.In {
		return nil, fmt.Errorf("gateway: %s.%s takes *%v, not %T", serviceID, operation, o.In, in)
	}
	start := g.clock.Now()
	g.note(sc, o.action, start)
	var out any
	err := g.guarded(func() (err error) {
		out, err = g.call(ctx, sc, svc, o, in)
		return err
	})
	g.logCall(ctx, sc, svc, operation, g.clock.Now().Sub(start), err)
	return out, err
}

// call is serve without a wire.
func (g *Gateway) call(ctx context.Context, sc auth.Scope, svc *service, o operation, in any) (any, error) {
	if err := wire.Validate(svc.api, svc.api.Operation(o.Name), in); err != nil {
		return nil, err
	}
	p, err := g.authorise(ctx, sc, request{service: svc, op: o, input: in})
	if err != nil {
		return nil, err
	}
	return g.handle(ctx, p)
}
