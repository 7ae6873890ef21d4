package remote

import (
	"context"
	"net/http"

	"skerry/internal/engine"
)

// Login asks a registry whether it takes the credentials; a *Error with the
// status 401 says that it does not.
func (c *Client) Login(ctx context.Context, host string, auth engine.Auth) error {
	r, err := c.Repository(host, "", auth, true)
	if err != nil {
		return err
	}
	e := r.registry()
	e.scopes = nil
	a, err := e.do(ctx, request{method: http.MethodGet})
	if err != nil {
		return err
	}
	return a.Body.Close()
}
