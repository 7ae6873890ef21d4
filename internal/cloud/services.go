package cloud

import (
	"context"
	"errors"
	"path/filepath"

	"skerry/internal/auth"
	"skerry/internal/base/clock"
	"skerry/internal/daemon"
	"skerry/internal/engine/image"
	"skerry/internal/events"
	"skerry/internal/gateway"
	"skerry/internal/loop"
	"skerry/internal/meter"
	"skerry/internal/op"
	"skerry/internal/registry"
	"skerry/internal/service/ecr"
	"skerry/internal/service/iam"
	"skerry/internal/service/lambda"
	"skerry/internal/service/logs"
	"skerry/internal/service/s3"
	"skerry/internal/service/sts"
)

// parts is everything that is built over the state: a reset builds it anew.
type parts struct {
	services []op.Service
	gateway  *gateway.Gateway
	loops    *loop.Driver
	outbox   *events.Outbox
	meter    *meter.Meter
	iam      *iam.Service
	sts      *sts.Service
	lambda   *lambda.Service
	logs     *logs.Service
	s3       *s3.Service
	registry *registry.Registry
	images   *image.Store
	ecr      *ecr.Service
	daemon   *daemon.Daemon // nil unless its socket was asked for
}

// build makes the services, the gateway and the loops, in the order in which
// they need each other.
func (c *Cloud) build() error {
	var (
		p    = &parts{images: c.images}
		call = &caller{}
		log  = c.log
		when = clock.Real
	)
	p.outbox = events.New(c.db, when, log)
	route(p.outbox, call, when)
	p.meter = meter.New(c.db, when)
	p.logs = logs.New(logs.Deps{Store: c.db, Clock: when, Log: log, Cloud: call, Outbox: p.outbox, Meter: p.meter})

	var err error
	if p.iam, err = iam.New(iam.Deps{Store: c.db, Clock: when, Log: log, Services: func() []op.Service { return p.services }}); err != nil {
		return err
	}
	p.sts = sts.New(sts.Deps{Store: c.db, Clock: when, Log: log, Identities: p.iam})
	who := directory{
		account: c.config.Account, loopback: c.config.Loopback(), keys: c.rootKeys, sts: p.sts,
	}
	p.lambda = lambda.New(lambda.Deps{
		Store: c.db, Blobs: c.blobs, Clock: when, Log: log, Cloud: call, Directory: who, Outbox: p.outbox, Meter: p.meter,
		Engine: c.engine, Wake: func(name string) { p.loops.Wake(name) },
		Config: lambda.Config{
			Dir: filepath.Join(c.config.Data, "lambda"), Endpoint: c.endpoint, Serve: c.server.Serve, CABundle: c.bundle,
			Outside: true, Ahead: 1, Interpreters: c.config.Runtimes, NodeModules: c.config.NodeModules,
		},
	})

	p.s3 = s3.New(s3.Deps{Store: c.db, Directory: who, Blobs: c.blobs, Clock: when, Log: log, Cloud: call, Outbox: p.outbox, Meter: p.meter})
	p.outbox.Handle(s3.ReplicationKind, p.s3.Replicator())

	p.registry = c.newRegistry(p, when)
	p.ecr = ecr.New(ecr.Deps{
		Store: c.db, Clock: when, Log: log, Registry: p.registry, Outbox: p.outbox, Meter: p.meter,
		Wake: func(name string) { p.loops.Wake(name) }, Endpoint: c.endpoint, Feed: c.config.Vulnerabilities,
	})
	hooks := p.ecr.Hooks()
	hooks.Told, hooks.Wake = c.unpack(p), func() { p.loops.Wake(unpackLoopName) }
	p.registry.Use(hooks)
	p.outbox.Handle(ecr.ReplicationKind, p.ecr.Replicator())
	p.daemon = c.newDaemon(p, when)

	p.services = []op.Service{
		p.ecr.Service(),
		p.iam.Service(),
		p.sts.Service(),
		p.lambda.Service(),
		p.logs.Service(),
		p.s3.Service(),
	}
	p.gateway, err = gateway.New(gateway.Config{
		Services:     p.services,
		Directory:    who,
		Used:         p.iam.Used,
		EncodeDenial: p.sts.EncodeDenial,
		Region:       c.config.Region,
		CORS:         p.s3,
		TestKeys:     func(key string) bool { return c.config.Loopback() && (key == testKey || accountForm.MatchString(key)) },
		Clock:        when,
		Log:          log,
	})
	if err != nil {
		return err
	}
	call.to = p.gateway
	p.loops = loop.NewDriver(when, log, p.background(c.blobs)...)
	p.loops.Wake(image.LoopName) // for what a crash or a reset has left
	c.parts.Store(p)
	return nil
}

// stop ends the background work and what runs for it.
func (p *parts) stop() error {
	if p.daemon != nil {
		p.daemon.Close()
	}
	err := stopLoops(p.loops)
	ctx, cancel := context.WithTimeout(context.Background(), loopTime)
	defer cancel()
	return errors.Join(err, p.lambda.Close(ctx), p.iam.Flush(ctx), p.meter.Flush(ctx))
}

// erase removes what the services keep outside of the store and the blobs.
func (p *parts) erase() error {
	err := p.lambda.Erase()
	if p.daemon != nil {
		ctx, cancel := context.WithTimeout(context.Background(), loopTime)
		defer cancel()
		err = errors.Join(err, p.daemon.Erase(ctx))
	}
	return err
}

// caller reaches the gateway for services that are made before it.
type caller struct{ to op.Caller }

// Call implements op.Caller.
func (c *caller) Call(ctx context.Context, sc auth.Scope, service, operation string, in any) (any, error) {
	return c.to.Call(ctx, sc, service, operation, in)
}
