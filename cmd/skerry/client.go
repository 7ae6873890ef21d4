package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"skerry/internal/auth"
	"skerry/internal/cloud"
	"skerry/internal/wire"
)

// client speaks to a cloud's public API, as an SDK would.
type client struct {
	endpoint, region string
	key              cloud.RootKey
}

// key returns the root key of the cloud that a command asks.
func (t *target) key(s cloud.Server) (cloud.RootKey, error) {
	if s.Loopback {
		return cloud.RootKey{ID: "test", Secret: "test"}, nil
	}
	key, made, err := cloud.LoadRootKey(t.data)
	if err == nil && made {
		err = fmt.Errorf("no cloud has run on %s yet", t.data)
	}
	return key, err
}

// call runs an operation of a service and returns its output.
func call[O any](ctx context.Context, c *client, service *wire.Service, operation string, in any) (*O, error) {
	speaker := wire.Client{Service: service, Protocol: service.Protocols[0], Endpoint: c.endpoint}
	r, err := speaker.Request(ctx, operation, in)
	if err != nil {
		return nil, err
	}
	var body []byte
	if r.GetBody != nil {
		b, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		if body, err = io.ReadAll(b); err != nil {
			return nil, err
		}
	}
	auth.Sign(r, auth.Credential{AccessKey: c.key.ID, Secret: c.key.Secret}, c.region, service.SigningName, body, time.Now())
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, fmt.Errorf("no cloud answers at %s (start one with: skerry up): %w", c.endpoint, err)
	}
	out := new(O)
	if err := speaker.Response(operation, answer, out); err != nil {
		return nil, fmt.Errorf("%s %s: %w", service.ID, operation, err)
	}
	return out, nil
}
