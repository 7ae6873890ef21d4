// Package cloud is the assembly: it builds every part, starts them in order and
// stops them in the reverse order. services.go and background.go are the lists
// to read first.
package cloud

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"skerry/internal/blob"
	"skerry/internal/console"
	"skerry/internal/engine"
	"skerry/internal/engine/docker"
	"skerry/internal/engine/embedded"
	"skerry/internal/engine/image"
	"skerry/internal/engine/image/remote"
	"skerry/internal/listen"
	"skerry/internal/loop"
	"skerry/internal/service/lambda"
	"skerry/internal/service/s3"
	"skerry/internal/store"
)

// The deadlines of an orderly stop.
const (
	drainTime = 10 * time.Second // for requests under way
	loopTime  = 10 * time.Second // for loops to end their run
)

// Cloud is a running server.
type Cloud struct {
	config    Config
	started   time.Time
	endpoint  string
	db        *store.DB
	blobs     *blob.Files
	authority *listen.Authority
	bundle    string
	rootKeys  []RootKey
	engine    engine.Engine
	images    *image.Store
	server    *listen.Server
	docker    *http.Server // nil unless its socket was asked for
	named     func() bool  // names below localhost resolve here
	log       *slog.Logger

	parts  atomic.Pointer[parts] // replaced whole by a reset
	resets chan struct{}         // holds one token: a reset under way
}

func storeFolder(data string) string { return filepath.Join(data, "store") }
func blobFolder(data string) string  { return filepath.Join(data, "blob") }

// Run starts the cloud, tells ready once the socket is open, serves until ctx
// ends, and stops in order.
func Run(ctx context.Context, c Config, ready func(Ready)) error {
	began := time.Now()
	if err := c.Check(); err != nil {
		return err
	}
	cl := &Cloud{config: c, started: began, log: c.Log, named: newNamed(), resets: make(chan struct{}, 1)}
	made, err := cl.open()
	if err != nil {
		return errors.Join(err, cl.close())
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return errors.Join(fmt.Errorf("cannot listen on %s: %w", c.Listen, err), cl.close())
	}
	cl.endpoint = "http://" + reachable(l.Addr())
	cl.server = listen.New(cl.doors(), http.HandlerFunc(cl.serveAWS), cl.authority, c.Log)
	if err := cl.build(); err != nil {
		return errors.Join(err, l.Close(), cl.close())
	}
	if path := c.socket(); path != "" {
		socket, err := openDocker(ctx, path)
		if err != nil {
			return errors.Join(err, l.Close(), cl.close())
		}
		cl.docker = cl.serveDocker(socket)
	}
	ended := make(chan error, 1)
	go func() { ended <- cl.server.Serve(l) }()
	err = writeServer(c.Data, Server{
		Endpoint: cl.endpoint, PID: os.Getpid(), Account: c.Account, Region: c.Region, Loopback: c.Loopback(), Bundle: cl.bundle,
		Docker: c.socket(),
	})
	if err == nil {
		cl.log.Info("up", "endpoint", cl.endpoint, "data", c.Data, "version", c.Version, "took", time.Since(began))
		ready(cl.ready(began, made))
		cl.parts.Load().loops.Start()
		select {
		case <-ctx.Done():
		case err = <-ended:
		}
	}
	cl.log.Info("stopping")
	return errors.Join(err, cl.close())
}

// reachable is where clients on this machine find a listener: one on all
// addresses is on loopback too.
func reachable(a net.Addr) string {
	if t, ok := a.(*net.TCPAddr); ok && t.IP.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(t.Port))
	}
	return a.String()
}

// open opens what outlives a reset: the state, the certificate authority and the
// root keys. made is the root key if this start made one that matters.
func (c *Cloud) open() (made RootKey, err error) {
	if err := os.MkdirAll(c.config.Data, 0o700); err != nil {
		return made, fmt.Errorf("the data folder: %w", err)
	}
	relaxed := c.config.Durability == "relaxed"
	if c.db, err = store.Open(storeFolder(c.config.Data), store.Options{Relaxed: relaxed, Log: c.log}); err != nil {
		if errors.Is(err, store.ErrDamaged) {
			err = fmt.Errorf("%w\nthis server does not start on damaged state; see: skerry doctor --data %s", err, c.config.Data)
		}
		return made, err
	}
	if c.blobs, err = blob.Open(blobFolder(c.config.Data), blob.Options{Relaxed: relaxed}); err != nil {
		return made, err
	}
	if c.authority, err = listen.OpenAuthority(filepath.Join(c.config.Data, "tls"), time.Now); err != nil {
		return made, err
	}
	if c.bundle, err = c.authority.Bundle(); err != nil {
		return made, err
	}
	if err := c.openEngine(relaxed); err != nil {
		return made, err
	}
	c.rootKeys = c.config.RootKeys
	if c.config.Loopback() {
		return made, nil
	}
	key, fresh, err := LoadRootKey(c.config.Data)
	if err != nil {
		return made, err
	}
	c.rootKeys = append(c.rootKeys[:len(c.rootKeys):len(c.rootKeys)], key)
	if fresh {
		made = key
	}
	return made, nil
}

// openEngine opens what runs functions and containers, and the images that the
// embedded engine makes containers of: Docker has its own.
func (c *Cloud) openEngine(relaxed bool) (err error) {
	c.images, err = image.Open(image.Config{
		Dir: filepath.Join(c.config.Data, "layers"), Store: c.db, Blobs: c.blobs, Log: c.log, Relaxed: relaxed,
		Registries: remote.Config{Mirrors: c.config.Mirrors, Agent: "skerry/" + c.config.Version},
		Used:       c.usedImages, Wake: func() { c.parts.Load().loops.Wake(image.LoopName) },
	})
	if err != nil {
		return err
	}
	if path := c.config.dockerPath(); path != "" {
		c.engine = docker.Open(path)
		return nil
	}
	c.engine, err = embedded.Open(embedded.Config{Data: filepath.Join(c.config.Data, "engine"), Images: c.images, Upgrade: true})
	return err
}

// usedImages tells which images have containers.
func (c *Cloud) usedImages(ctx context.Context) (map[string]bool, error) {
	all, err := c.engine.List(ctx)
	if errors.Is(err, engine.ErrUnsupported) {
		return nil, nil // it runs none
	}
	used := map[string]bool{}
	for _, one := range all {
		used[one.Image] = true
	}
	return used, err
}

// close stops everything, in the reverse order of the start.
func (c *Cloud) close() error {
	errs := []error{c.closeDocker()}
	if c.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), drainTime)
		if err := c.server.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			errs = append(errs, err)
		}
		cancel()
	}
	if p := c.parts.Load(); p != nil {
		errs = append(errs, p.stop())
	}
	if c.images != nil {
		errs = append(errs, c.images.Close())
	}
	if c.engine != nil {
		errs = append(errs, c.engine.Close())
	}
	if c.db != nil {
		errs = append(errs, c.db.Close())
	}
	return errors.Join(errs...)
}

// doors lists who takes a request before the gateway does.
func (c *Cloud) doors() []listen.Door {
	return []listen.Door{
		{Name: "websites of buckets", Match: isWebsite, Handler: http.HandlerFunc(c.serveWebsite)},
		{Name: "code of functions", Match: isCode, Handler: http.HandlerFunc(c.serveCode)},
		{Name: "registry", Match: c.isRegistry, Handler: http.HandlerFunc(c.serveRegistry)},
		{Name: "own pages", Match: isOwn, Handler: c.ownPages(console.Handler())},
	}
}

func isWebsite(r *http.Request) bool {
	_, ok := s3.WebsiteBucket(r)
	return ok
}

func isCode(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, lambda.LinkPath) }

func (c *Cloud) serveCode(w http.ResponseWriter, r *http.Request) {
	c.parts.Load().lambda.CodeHandler().ServeHTTP(w, r)
}

func (c *Cloud) serveWebsite(w http.ResponseWriter, r *http.Request) {
	c.parts.Load().s3.Websites().ServeHTTP(w, r)
}

// serveAWS hands a request to the gateway of the moment.
func (c *Cloud) serveAWS(w http.ResponseWriter, r *http.Request) {
	c.parts.Load().gateway.ServeHTTP(w, r)
}

// ready describes the started cloud to its user.
func (c *Cloud) ready(began time.Time, made RootKey) Ready {
	r := Ready{
		Version: c.config.Version, Endpoint: c.endpoint, Data: c.config.Data, Took: time.Since(began), Docker: c.config.socket(),
		NewRootKey: made, RootKeyFile: filepath.Join(c.config.Data, rootKeyFile),
	}
	if os.Geteuid() != 0 {
		_, r.Off = c.engineStatus(context.Background()) // quick: without root there is no supervisor to ask
	}
	self, err := os.Executable()
	if err != nil {
		self = "skerry"
	}
	r.ShellLine = `eval "$(` + self + ` env`
	if c.config.Data != DefaultData() {
		r.ShellLine += " --data " + c.config.Data
	}
	r.ShellLine += `)"`
	return r
}

// reset erases all state and builds the services anew. The doors stay open:
// requests meanwhile see the old cloud or the new one, or fail.
func (c *Cloud) reset(ctx context.Context) error {
	select {
	case c.resets <- struct{}{}:
		defer func() { <-c.resets }()
	case <-ctx.Done():
		return ctx.Err()
	}
	old := c.parts.Load()
	if err := old.stop(); err != nil {
		return err
	}
	if err := old.erase(); err != nil {
		return err
	}
	if err := c.db.Clear(ctx); err != nil {
		return err
	}
	for b, err := range c.blobs.List(ctx) {
		if err == nil {
			err = c.blobs.Delete(ctx, b.Ref)
		}
		if err != nil {
			return err
		}
	}
	if err := c.build(); err != nil {
		return err
	}
	c.parts.Load().loops.Start()
	c.log.Info("all state is erased")
	return nil
}

// stopLoops ends the background work.
func stopLoops(d *loop.Driver) error {
	ctx, cancel := context.WithTimeout(context.Background(), loopTime)
	defer cancel()
	return d.Stop(ctx)
}
