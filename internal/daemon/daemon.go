package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"skerry/internal/base/clock"
	"skerry/internal/engine"
	"skerry/internal/engine/image/remote"
	"skerry/internal/loop"
	"skerry/internal/store"
)

// Deps are what a Daemon needs.
type Deps struct {
	Store   *store.DB
	Engine  engine.Engine
	Clock   clock.Clock
	Log     *slog.Logger
	Dir     string // the folder of its volumes
	Account string // whose its containers are, to the engine
	Version string // of the binary
	Wake    func(loop string)
}

// Daemon serves the Docker Engine API from rows and an engine.
type Daemon struct {
	db         *store.DB
	engine     engine.Engine
	clock      clock.Clock
	log        *slog.Logger
	dir        string
	account    string
	version    string
	wake       func(loop string)
	routes     []route
	bus        bus
	locks      keyed // one change of a container at a time
	late       late
	keepers    *loop.Children
	running    *loop.Children // programs of exec
	terms      terminals
	readers    readers
	registries *remote.Client // for logins; images are the engine's
	boot       sync.Once      // the first look at the rows, see settle
}

// The names of the loops.
const (
	containerLoop = "daemon/containers"
	execLoop      = "daemon/execs"
)

// New returns a Daemon. It does nothing before its loops run.
func New(d Deps) *Daemon {
	s := &Daemon{
		db: d.Store, engine: d.Engine, clock: d.Clock, log: d.Log, dir: d.Dir, account: d.Account, version: d.Version, wake: d.Wake,
		keepers: loop.NewChildren(d.Log), running: loop.NewChildren(d.Log),
		registries: remote.New(remote.Config{Agent: "skerry/" + d.Version}),
	}
	s.bus.clock = d.Clock
	s.keepers.Ended = func(_ string, err error) {
		if err != nil {
			s.log.Warn("docker: background work ended", "err", err)
		}
	}
	s.routes = s.table()
	return s
}

// table is the API that is served.
func (d *Daemon) table() []route {
	const get, post, put, head, del = "GET", "POST", "PUT", "HEAD", "DELETE"
	return []route{
		{get, "/_ping", d.ping}, {head, "/_ping", d.ping},
		{get, "/version", d.getVersion}, {get, "/info", d.info}, {get, "/events", d.events}, {get, "/system/df", d.diskUsage}, {post, "/auth", d.auth},

		{get, "/containers/json", d.listContainers}, {post, "/containers/create", d.createContainer}, {post, "/containers/prune", d.pruneContainers},
		{get, "/containers/{id}/json", d.inspectContainer}, {get, "/containers/{id}/top", d.top}, {get, "/containers/{id}/logs", d.logs},
		{get, "/containers/{id}/stats", d.stats}, {get, "/containers/{id}/export", d.export}, {post, "/containers/{id}/attach", d.attach},
		{post, "/containers/{id}/start", d.startContainer}, {post, "/containers/{id}/stop", d.stopContainer},
		{post, "/containers/{id}/restart", d.restartContainer}, {post, "/containers/{id}/kill", d.killContainer},
		{post, "/containers/{id}/update", d.updateContainer}, {post, "/containers/{id}/rename", d.renameContainer},
		{post, "/containers/{id}/pause", d.pauseContainer}, {post, "/containers/{id}/unpause", d.unpauseContainer},
		{post, "/containers/{id}/wait", d.waitContainer}, {post, "/containers/{id}/resize", d.resizeContainer},
		{del, "/containers/{id}", d.removeContainer},
		{head, "/containers/{id}/archive", d.statArchive}, {get, "/containers/{id}/archive", d.getArchive}, {put, "/containers/{id}/archive", d.putArchive},

		{post, "/containers/{id}/exec", d.createExec}, {post, "/exec/{id}/start", d.startExec}, {post, "/exec/{id}/resize", d.resizeExec},
		{get, "/exec/{id}/json", d.inspectExec},

		{get, "/images/json", d.listImages}, {post, "/images/create", d.pullImage}, {post, "/images/load", d.loadImages},
		{post, "/images/prune", d.pruneImages}, {get, "/images/get", d.saveImages}, {get, "/images/{name...}/get", d.saveImages},
		{get, "/images/{name...}/json", d.inspectImage}, {get, "/images/{name...}/history", d.imageHistory},
		{post, "/images/{name...}/push", d.pushImage}, {post, "/images/{name...}/tag", d.tagImage}, {del, "/images/{name...}", d.removeImage},

		{get, "/networks", d.listNetworks}, {post, "/networks/create", d.createNetwork}, {post, "/networks/prune", d.pruneNetworks},
		{get, "/networks/{id}", d.inspectNetwork}, {del, "/networks/{id}", d.removeNetwork},
		{post, "/networks/{id}/connect", d.connectNetwork}, {post, "/networks/{id}/disconnect", d.disconnectNetwork},

		{get, "/volumes", d.listVolumes}, {post, "/volumes/create", d.createVolume}, {post, "/volumes/prune", d.pruneVolumes},
		{get, "/volumes/{name}", d.inspectVolume}, {del, "/volumes/{name}", d.removeVolume},

		{post, "/build", absent("docker build; build elsewhere, then push or load")}, {post, "/build/prune", d.pruneBuilds},
		{post, "/build/cancel", absent("docker build")}, {post, "/session", absent("BuildKit sessions")}, {post, "/grpc", absent("BuildKit")},
		{post, "/commit", d.commit}, {get, "/images/search", absent("docker search")},
		{get, "/containers/{id}/changes", d.changes}, {get, "/containers/{id}/attach/ws", absent("attaching by WebSocket")},
		{get, "/distribution/{name...}/json", absent("inspecting an image in its registry")},
		{get, "/swarm", noSwarm}, {post, "/swarm/init", absent("swarm mode")}, {post, "/swarm/join", absent("swarm mode")},
		{get, "/nodes", noSwarm}, {get, "/nodes/{x}", noSwarm}, {get, "/services", noSwarm}, {get, "/services/{x}", noSwarm},
		{post, "/services/create", noSwarm}, {get, "/tasks", noSwarm}, {get, "/tasks/{x}", noSwarm}, {get, "/secrets", noSwarm},
		{get, "/secrets/{x}", noSwarm}, {get, "/configs", noSwarm}, {get, "/configs/{x}", noSwarm},
		{get, "/plugins", noPlugins}, {get, "/plugins/{name...}/json", noPlugin}, {post, "/plugins/{x...}", absent("plugins")}, {get, "/plugins/privileges", absent("plugins")},
		{post, "/containers/{id}/checkpoints", absent("checkpoints")}, {get, "/containers/{id}/checkpoints", absent("checkpoints")},
	}
}

// noSwarm answers as a daemon outside of swarm mode does.
func noSwarm(*call) error {
	return &fault{http.StatusServiceUnavailable, "This node is not a swarm manager. Skerry does not support swarm mode."}
}

// noPlugins lists none, and noPlugin finds none.
func noPlugins(c *call) error { return c.ok([]any{}) }

func noPlugin(c *call) error { return notFound("plugin %q not found", c.vars["name"]) }

// pruneBuilds answers for a cache in which there is never anything; docker system
// prune asks.
func (d *Daemon) pruneBuilds(c *call) error {
	return c.ok(map[string]any{"CachesDeleted": []string{}, "SpaceReclaimed": 0})
}

// absent answers for a part of the API that is not built.
func absent(what string) handler {
	return func(*call) error { return unsupported("%s", what) }
}

// Close ends what the loops leave behind; the containers go on.
func (d *Daemon) Close() {
	d.bus.close()
	d.registries.Close()
}

// Erase removes the daemon's containers from the engine, and its volumes: the
// part of its state that is not in rows. Nothing may use the daemon meanwhile.
func (d *Daemon) Erase(ctx context.Context) error {
	all, err := d.engine.List(ctx)
	if errors.Is(err, engine.ErrUnsupported) {
		return nil // none could ever run
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range all {
		if s.Labels[owned] != "" {
			errs = append(errs, d.engine.Remove(ctx, s.ID))
		}
	}
	return errors.Join(append(errs, os.RemoveAll(d.dir))...)
}

// folder is where a volume's files are.
func (d *Daemon) folder(volume string) string {
	return filepath.Join(d.dir, "volumes", volume, "_data")
}

// keyed is a mutex for each key.
type keyed struct {
	mu   sync.Mutex
	held map[string]*held
}

type held struct {
	sync.Mutex
	users int
}

// hold notes a key without waiting for it, or takes the note away.
func (k *keyed) hold(key string, on bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held == nil {
		k.held = map[string]*held{}
	}
	h := k.held[key]
	if h == nil {
		h = &held{}
		k.held[key] = h
	}
	if on {
		h.users++
	} else {
		h.users--
	}
	if h.users == 0 {
		delete(k.held, key)
	}
}

// holds tells whether a key is noted or locked.
func (k *keyed) holds(key string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.held[key] != nil
}

// lock waits for a key and returns what frees it.
func (k *keyed) lock(key string) (unlock func()) {
	k.mu.Lock()
	if k.held == nil {
		k.held = map[string]*held{}
	}
	h := k.held[key]
	if h == nil {
		h = &held{}
		k.held[key] = h
	}
	h.users++
	k.mu.Unlock()
	h.Lock()
	return func() {
		h.Unlock()
		k.mu.Lock()
		defer k.mu.Unlock()
		if h.users--; h.users == 0 {
			delete(k.held, key)
		}
	}
}

// find returns the container of a name, an id or the beginning of one.
func (d *Daemon) find(ctx context.Context, ref string) (row *containerRow, err error) {
	for {
		swaps := d.late.count()
		err = d.db.View(ctx, func(tx *store.Tx) error { row, err = findContainer(tx, ref); return err })
		if err != nil || d.late.over(swaps, &row) {
			return row, err
		}
	}
}

func findContainer(tx *store.Tx, ref string) (*containerRow, error) {
	if len(ref) == 64 {
		if row, err := containers.Get(tx, store.K(ref)); !errors.Is(err, store.ErrNotFound) {
			return row, err
		}
	}
	if row, err := named(tx, ref); row != nil || err != nil {
		return row, err
	}
	var found *containerRow
	if len(ref) > 0 && len(ref) < 64 {
		for row, err := range containers.Scan(tx, store.Range{Prefix: store.KPrefix(ref)}) {
			if err != nil {
				return nil, err
			}
			if found != nil {
				return nil, badRequest("Multiple IDs found with provided prefix: %s", ref)
			}
			found = row
		}
	}
	if found == nil {
		return nil, notFound("No such container: %s", ref)
	}
	return found, nil
}

// named returns the container of a name, or nil.
func named(tx *store.Tx, name string) (*containerRow, error) {
	if name != "" && name[0] == '/' {
		name = name[1:]
	}
	for row, err := range byName.Scan(tx, store.Range{Prefix: store.K(name)}) {
		return row, err
	}
	return nil, nil
}

// all lists the containers, the newest first.
func (d *Daemon) all(ctx context.Context) (rows []*containerRow, err error) {
	for {
		swaps := d.late.count()
		rows = rows[:0]
		err = d.db.View(ctx, func(tx *store.Tx) error {
			for row, err := range containers.Scan(tx, store.Range{}) {
				if err != nil {
					return err
				}
				rows = append(rows, row)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("daemon: list containers: %w", err)
		}
		at := make([]**containerRow, len(rows))
		for i := range rows {
			at[i] = &rows[i]
		}
		if d.late.over(swaps, at...) {
			sortNewest(rows)
			return rows, nil
		}
	}
}
