package daemon

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/moby/moby/api/types/registry"

	"skerry/internal/engine"
	"skerry/internal/engine/image/remote"
)

// loginTime is the time that a registry is given to answer a login.
const loginTime = 20 * time.Second

// auth answers POST /auth, by which docker login has a password checked.
func (d *Daemon) auth(c *call) error {
	var in registry.AuthConfig
	if err := c.body(&in); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context(), loginTime)
	defer cancel()
	host := registryHost(in.ServerAddress)
	err := d.registries.Login(ctx, host, engine.Auth{
		Username: in.Username, Password: in.Password, IdentityToken: in.IdentityToken, RegistryToken: in.RegistryToken,
	})
	if errors.Is(err, remote.ErrDenied) {
		return &fault{http.StatusUnauthorized, "login attempt to " + host + " failed: " + err.Error()}
	}
	if err != nil {
		return err
	}
	return c.ok(map[string]string{"Status": "Login Succeeded", "IdentityToken": ""})
}

// registryHost is the host of a server's address as clients send it: Docker's own
// registry is known by an old URL.
func registryHost(address string) string {
	host := strings.TrimPrefix(strings.TrimPrefix(address, "https://"), "http://")
	host, _, _ = strings.Cut(host, "/")
	if host == "" || host == "index.docker.io" || host == "registry-1.docker.io" {
		return "docker.io"
	}
	return host
}
