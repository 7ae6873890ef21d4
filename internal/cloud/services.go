package cloud

import (
	"context"
	"errors"

	"skerry/internal/auth"
	"skerry/internal/base/clock"
	"skerry/internal/events"
	"skerry/internal/gateway"
	"skerry/internal/loop"
	"skerry/internal/meter"
	"skerry/internal/op"
	"skerry/internal/service/logs"
)

// parts is everything that is built over the state: a reset builds it anew.
type parts struct {
	services []op.Service
	gateway  *gateway.Gateway
	loops    *loop.Driver
	outbox   *events.Outbox
	meter    *meter.Meter
	logs     *logs.Service
}

// build makes the services, the gateway and the loops, in the order in which
// they need each other.
func (c *Cloud) build() error {
	var (
		p    = &parts{}
		call = &caller{}
		log  = c.log
		when = clock.Real
	)
	p.outbox = events.New(c.db, when, log)
	route(p.outbox, call, when)
	p.meter = meter.New(c.db, when)
	p.logs = logs.New(logs.Deps{Store: c.db, Clock: when, Log: log, Cloud: call, Outbox: p.outbox, Meter: p.meter})

	p.services = []op.Service{
		p.logs.Service(),
	}
	var err error
	p.gateway, err = gateway.New(gateway.Config{
		Services: p.services,
		Directory: directory{
			account: c.config.Account, loopback: c.config.Loopback(), keys: c.rootKeys,
		},
		Region:   c.config.Region,
		TestKeys: func(key string) bool { return c.config.Loopback() && (key == testKey || accountForm.MatchString(key)) },
		Clock:    when,
		Log:      log,
	})
	if err != nil {
		return err
	}
	call.to = p.gateway
	p.loops = loop.NewDriver(when, log, p.background()...)
	c.parts.Store(p)
	return nil
}

// stop ends the background work and what runs for it.
func (p *parts) stop() error {
	return errors.Join(stopLoops(p.loops))
}

// erase removes what the services keep outside of the store and the blobs.
func (p *parts) erase(context.Context) error { return nil }

// caller reaches the gateway for services that are made before it.
type caller struct{ to op.Caller }

// Call implements op.Caller.
func (c *caller) Call(ctx context.Context, sc auth.Scope, service, operation string, in any) (any, error) {
	return c.to.Call(ctx, sc, service, operation, in)
}
