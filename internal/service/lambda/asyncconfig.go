package lambda

import (
	"context"
	"strings"

	api "skerry/internal/api/lambda"
	"skerry/internal/auth"
	"skerry/internal/base/arn"
	"skerry/internal/base/awserr"
	"skerry/internal/store"
)

func (a *asyncRow) describe() *api.FunctionEventInvokeConfig {
	r := ref{Account: a.Account, Region: a.Region, Name: a.Name, Qualifier: a.Qualifier}
	out := &api.FunctionEventInvokeConfig{LastModified: &a.Modified, FunctionArn: new(r.ARN()),
		MaximumRetryAttempts: a.Retries, MaximumEventAgeInSeconds: a.MaxAge,
		DestinationConfig: &api.DestinationConfig{OnSuccess: &api.OnSuccess{}, OnFailure: &api.OnFailure{}}}
	out.DestinationConfig.OnSuccess.Destination = a.OnSuccess
	out.DestinationConfig.OnFailure.Destination = a.OnFailure
	return out
}

// asyncChange is the common part of PutFunctionEventInvokeConfig and
// UpdateFunctionEventInvokeConfig.
type asyncChange struct {
	name, qualifier *string
	retries, maxAge *int32
	destinations    *api.DestinationConfig
	replace         bool
}

func (s *Service) changeAsync(ctx context.Context, sc auth.Scope, ch asyncChange) (*api.FunctionEventInvokeConfig, error) {
	r, err := parseRef(sc, ch.name, ch.qualifier)
	if err != nil {
		return nil, err
	}
	if r.Qualifier == "" {
		r.Qualifier = latest
	}
	var out *asyncRow
	err = s.Store.Update(ctx, func(tx *store.Tx) error {
		if _, _, err := find(tx, r); err != nil {
			return err
		}
		a, err := asyncs.Get(tx, r.key()+store.K(r.Qualifier))
		if err != nil && err != store.ErrNotFound {
			return err
		}
		if a == nil || ch.replace {
			if a == nil && !ch.replace {
				return r.noAsync()
			}
			a = &asyncRow{Account: r.Account, Region: r.Region, Name: r.Name, Qualifier: r.Qualifier}
		}
		if ch.retries != nil {
			a.Retries = ch.retries
		}
		if ch.maxAge != nil {
			a.MaxAge = ch.maxAge
		}
		if d := ch.destinations; d != nil {
			if d.OnSuccess != nil {
				a.OnSuccess = orNil(deref(d.OnSuccess.Destination))
			}
			if d.OnFailure != nil {
				a.OnFailure = orNil(deref(d.OnFailure.Destination))
			}
		}
		if err := s.checkDestinations(r, a.OnSuccess, a.OnFailure); err != nil {
			return err
		}
		a.Modified, out = s.Clock.Now(), a
		return asyncs.Put(tx, a)
	})
	if err != nil {
		return nil, err
	}
	return out.describe(), nil
}

func (r ref) noAsync() error {
	return notFound("The function %s doesn't have an EventInvokeConfig", r.ARN())
}

// deliverable refuses a target that no service of this cloud takes deliveries
// for: what is stored would never be honoured.
func (s *Service) deliverable(target string) error {
	if target == "" || s.Outbox == nil || s.Outbox.Routes(target) {
		return nil
	}
	return awserr.New(501, "NotImplementedException", "Skerry has no service yet that takes deliveries for %s.", target)
}

// checkDestinations refuses what cannot be one.
func (s *Service) checkDestinations(r ref, destinations ...*string) error {
	for _, d := range destinations {
		if d == nil {
			continue
		}
		a, err := arn.Parse(*d)
		if err != nil {
			return invalid("The provided destination config DestinationConfig is invalid: %s", *d)
		}
		switch a.Service {
		case "sqs", "sns", "lambda", "events", "s3":
		default:
			return invalid("The provided destination config DestinationConfig is invalid: destinations are SQS queues, SNS topics, Lambda functions, EventBridge buses and S3 buckets.")
		}
		if a.Service == "lambda" && strings.HasPrefix(*d, r.functionARN()) {
			return invalid("You can't specify the function as a destination for itself.")
		}
		if err := s.deliverable(*d); err != nil {
			return err
		}
	}
	return nil
}

// PutFunctionEventInvokeConfig sets how asynchronous invocations are handled.
func (s *Service) PutFunctionEventInvokeConfig(ctx context.Context, sc auth.Scope, in *api.PutFunctionEventInvokeConfigInput) (*api.PutFunctionEventInvokeConfigOutput, error) {
	out, err := s.changeAsync(ctx, sc, asyncChange{in.FunctionName, in.Qualifier, in.MaximumRetryAttempts, in.MaximumEventAgeInSeconds, in.DestinationConfig, true})
	return (*api.PutFunctionEventInvokeConfigOutput)(out), err
}

// UpdateFunctionEventInvokeConfig changes what is given of it.
func (s *Service) UpdateFunctionEventInvokeConfig(ctx context.Context, sc auth.Scope, in *api.UpdateFunctionEventInvokeConfigInput) (*api.UpdateFunctionEventInvokeConfigOutput, error) {
	out, err := s.changeAsync(ctx, sc, asyncChange{in.FunctionName, in.Qualifier, in.MaximumRetryAttempts, in.MaximumEventAgeInSeconds, in.DestinationConfig, false})
	return (*api.UpdateFunctionEventInvokeConfigOutput)(out), err
}

// GetFunctionEventInvokeConfig tells it.
func (s *Service) GetFunctionEventInvokeConfig(ctx context.Context, sc auth.Scope, in *api.GetFunctionEventInvokeConfigInput) (*api.GetFunctionEventInvokeConfigOutput, error) {
	r, err := parseRef(sc, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	if r.Qualifier == "" {
		r.Qualifier = latest
	}
	var a *asyncRow
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		if _, err := getFunction(tx, r); err != nil {
			return err
		}
		a, err = asyncs.Get(tx, r.key()+store.K(r.Qualifier))
		if err == store.ErrNotFound {
			return r.noAsync()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return (*api.GetFunctionEventInvokeConfigOutput)(a.describe()), nil
}

// DeleteFunctionEventInvokeConfig goes back to the defaults.
func (s *Service) DeleteFunctionEventInvokeConfig(ctx context.Context, sc auth.Scope, in *api.DeleteFunctionEventInvokeConfigInput) (*api.DeleteFunctionEventInvokeConfigOutput, error) {
	r, err := parseRef(sc, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	if r.Qualifier == "" {
		r.Qualifier = latest
	}
	err = s.Store.Update(ctx, func(tx *store.Tx) error {
		if _, err := getFunction(tx, r); err != nil {
			return err
		}
		key := r.key() + store.K(r.Qualifier)
		if ok, err := asyncs.Has(tx, key); err != nil {
			return err
		} else if !ok {
			return r.noAsync()
		}
		return asyncs.Delete(tx, key)
	})
	if err != nil {
		return nil, err
	}
	return &api.DeleteFunctionEventInvokeConfigOutput{}, nil
}

// ListFunctionEventInvokeConfigs lists those of a function, its versions and
// aliases.
func (s *Service) ListFunctionEventInvokeConfigs(ctx context.Context, sc auth.Scope, in *api.ListFunctionEventInvokeConfigsInput) (*api.ListFunctionEventInvokeConfigsOutput, error) {
	r, err := parseRef(sc, in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	after, err := s.marker(in.Marker, r.key())
	if err != nil {
		return nil, err
	}
	n := limit(in.MaxItems)
	out := &api.ListFunctionEventInvokeConfigsOutput{FunctionEventInvokeConfigs: []api.FunctionEventInvokeConfig{}}
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		if _, err := getFunction(tx, r); err != nil {
			return err
		}
		var last store.Key
		for a, err := range asyncs.Scan(tx, store.Range{Prefix: r.key(), After: after}) {
			if err != nil {
				return err
			}
			if len(out.FunctionEventInvokeConfigs) == n {
				out.NextMarker = markerOf(last)
				return nil
			}
			out.FunctionEventInvokeConfigs = append(out.FunctionEventInvokeConfigs, *a.describe())
			last = r.key() + store.K(a.Qualifier)
		}
		return nil
	})
	return out, err
}
