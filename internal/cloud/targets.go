package cloud

import (
	"context"
	"errors"
	"time"

	"skerry/internal/api/lambda"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/base/clock"
	"skerry/internal/base/ids"
	"skerry/internal/events"
	"skerry/internal/op"
)

// route tells the outbox how each kind of ARN is reached: by the public
// operation of the service, called as the service that delivers, so that the
// target's own policy has its say.
func route(o *events.Outbox, call op.Caller, when clock.Clock) {
	o.Route("lambda", events.TargetFunc(func(ctx context.Context, d events.Delivery) error {
		_, err := op.Call[lambda.InvokeOutput](ctx, call, deliverer(d, when.Now()), lambda.Schema.ID, "Invoke", &lambda.InvokeInput{
			FunctionName:   &d.Target,
			InvocationType: new("Event"),
			Payload:        d.Payload,
		})
		return final(err)
	}))
}

// deliverer is the scope of the service that delivers.
func deliverer(d events.Delivery, now time.Time) auth.Scope {
	return auth.ServiceScope(d.Service, d.Account, d.Region, d.Source, ids.UUID(), now)
}

// final marks the refusals that trying again does not mend: whatever blames the
// caller, except for being too fast.
func final(err error) error {
	var status int
	if e, ok := errors.AsType[*awserr.Error](err); ok {
		status = e.Status
	}
	switch code := awserr.Code(err); code {
	case "ResourceNotFoundException", "AccessDeniedException", "AccessDenied", "InvalidParameterValueException", "RequestTooLargeException":
		return events.Permanent(err)
	case "TooManyRequestsException", "ThrottlingException", "":
		return err
	}
	if status >= 400 && status < 500 {
		return events.Permanent(err)
	}
	return err
}
