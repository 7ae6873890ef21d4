// Package op is the seam between the gateway and the services: an operation as
// a value, made of its name, the rule that authorises it and the function that
// does it.
package op

import (
	"context"
	"fmt"
	"reflect"

	"skerry/internal/auth"
	"skerry/internal/wire"
)

// A Rule tells what a call needs: every Access it returns must be allowed. It
// may read the resource in order to return its owner, tags and policy, and may
// fail as the operation would (a missing bucket is NoSuchBucket, not
// AccessDenied), where the real service does so.
type Rule[I any] func(ctx context.Context, sc auth.Scope, in *I) ([]auth.Access, error)

// A Handler does an operation. It never sees HTTP.
type Handler[I, O any] func(ctx context.Context, sc auth.Scope, in *I) (*O, error)

// Operation is one operation of a service.
type Operation struct {
	Name    string
	In, Out reflect.Type // the struct types, not pointers to them
	rule    func(ctx context.Context, sc auth.Scope, in any) ([]auth.Access, error)
	handle  func(ctx context.Context, sc auth.Scope, in any) (any, error)
}

// New makes an operation. It panics without a rule or a handler: an operation
// that anyone may call says so with NoPermission.
func New[I, O any](name string, rule Rule[I], handler Handler[I, O]) Operation {
	if rule == nil || handler == nil {
		panic(fmt.Sprintf("op: %s has no rule or no handler", name))
	}
	return Operation{
		Name: name,
		In:   reflect.TypeFor[I](),
		Out:  reflect.TypeFor[O](),
		rule: func(ctx context.Context, sc auth.Scope, in any) ([]auth.Access, error) {
			return rule(ctx, sc, in.(*I))
		},
		handle: func(ctx context.Context, sc auth.Scope, in any) (any, error) {
			out, err := handler(ctx, sc, in.(*I))
			if err != nil {
				return nil, err
			}
			return out, nil
		},
	}
}

// NoPermission is the rule of the few operations that need none, such as
// sts:GetCallerIdentity. Authentication still happens unless the model says
// otherwise.
func NoPermission[I any](context.Context, auth.Scope, *I) ([]auth.Access, error) { return nil, nil }

// Access returns what the call needs. in is a pointer to the input struct.
func (o Operation) Access(ctx context.Context, sc auth.Scope, in any) ([]auth.Access, error) {
	return o.rule(ctx, sc, in)
}

// Do runs the handler. Only the gateway calls it, after it has authorised.
func (o Operation) Do(ctx context.Context, sc auth.Scope, in any) (any, error) {
	return o.handle(ctx, sc, in)
}

// Service is what a service package gives to the assembly: its schema and the
// operations that are built. The schema's other operations answer that they are
// not.
type Service struct {
	API        *wire.Service
	Operations []Operation
	// Actions are the IAM actions of the operations whose action has another name
	// than they: ListBuckets is ListAllMyBuckets.
	Actions map[string]string
	// Data are the operations on what a resource holds rather than on the resource,
	// such as GetObject. IAM tells when a service was last used by them, and does not
	// tell the action.
	Data []string
}

// Namespace is the service's prefix in the actions of policies.
func (s Service) Namespace() string {
	if s.API.SigningName == "monitoring" {
		return "cloudwatch"
	}
	return s.API.SigningName
}

// Action returns the IAM action of an operation, such as s3:ListAllMyBuckets.
func (s Service) Action(operation string) string {
	if a, ok := s.Actions[operation]; ok {
		operation = a
	}
	return s.Namespace() + ":" + operation
}

// Caller reaches the operations of other services in process: the same
// validation, policy evaluation and log as a request from outside, without
// serialising. The gateway implements it.
type Caller interface {
	// Call runs an operation as the scope's principal. service is the schema's ID;
	// in is a pointer to the input struct, and the result one to the output struct.
	Call(ctx context.Context, sc auth.Scope, service, operation string, in any) (any, error)
}

// Call runs an operation of another service and returns its output.
func Call[O any](ctx context.Context, c Caller, sc auth.Scope, service, operation string, in any) (*O, error) {
	out, err := c.Call(ctx, sc, service, operation, in)
	if err != nil {
		return nil, err
	}
	typed, ok := out.(*O)
	if !ok {
		return nil, fmt.Errorf("op: %s.%s answers %T, not %T", service, operation, out, typed)
	}
	return typed, nil
}
