package cloud

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os/exec"
	"sync"
	"time"

	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/base/clock"
	"skerry/internal/loop"
	"skerry/internal/registry"
)

// newRegistry builds the registry, which asks the gateway what callers may do.
func (c *Cloud) newRegistry(p *parts, when clock.Clock) *registry.Registry {
	_, port, err := net.SplitHostPort(c.endpoint[len("http://"):])
	if err != nil {
		port = "4566"
	}
	return registry.New(registry.Deps{
		Store: c.db, Blobs: c.blobs, Clock: when, Log: c.log, Account: c.config.Account, Region: c.config.Region,
		Port: port, Named: c.named,
		Authorise: func(ctx context.Context, sc auth.Scope, needs []auth.Access) error {
			// A password outlives a restart with another address.
			if key := sc.Principal.AccessKey; !c.config.Loopback() && (key == testKey || accountForm.MatchString(key)) {
				return registry.Refuse("Your Authorization Token is invalid.")
			}
			if err := p.ecr.UnderRegistryPolicy(ctx, needs); err != nil {
				return err
			}
			err := p.gateway.Authorise(ctx, sc, needs)
			if e, ok := errors.AsType[*awserr.Error](err); ok {
				return registry.Refuse(e.Message)
			}
			return err
		},
	})
}

// isRegistry tells whether a request is for the registry, and not for a bucket or
// an API with a path that looks like it.
func (c *Cloud) isRegistry(r *http.Request) bool {
	return registry.IsRequest(r) && (registry.IsHost(r.Host) || c.parts.Load().gateway.Plain(r.Host))
}

func (c *Cloud) serveRegistry(w http.ResponseWriter, r *http.Request) {
	c.parts.Load().registry.ServeHTTP(w, r)
}

// registryLoop returns the loop that tidies the registry up.
func (p *parts) registryLoop() loop.Loop {
	return loop.Loop{
		Name: "registry/collect", Does: "forgets abandoned uploads and layers that no image names",
		Period: time.Hour, Deadline: 10 * time.Minute, Run: p.registry.Collect,
	}
}

// namesWork tells whether names below localhost lead to this machine, for programs
// that use the system's resolver.
func namesWork(ctx context.Context) bool {
	const name = "000000000000.dkr.ecr.us-east-1.localhost"
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if getent, err := exec.LookPath("getent"); err == nil {
		return exec.CommandContext(ctx, getent, "ahosts", name).Run() == nil
	}
	_, err := net.DefaultResolver.LookupHost(ctx, name)
	return err == nil
}

// newNamed returns namesWork, asked once, when it is first wanted.
func newNamed() func() bool {
	return sync.OnceValue(func() bool { return namesWork(context.Background()) })
}

// checkNames tells by which form of address images are named.
func checkNames() Check {
	c := Check{What: "names below localhost (registry hosts such as 000000000000.dkr.ecr.us-east-1.localhost)", OK: namesWork(context.Background())}
	if c.OK {
		c.Why = "resolve"
		return c
	}
	c.Why = "do not resolve; images are named localhost:4566/<account>/<region>/<name> instead"
	c.Mend = "apt-get install -y libnss-myhostname"
	return c
}
