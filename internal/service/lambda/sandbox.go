package lambda

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"

	"skerry/internal/base/ids"
	"skerry/internal/blob"
	"skerry/internal/engine"
	"skerry/internal/engine/resolver"
	"skerry/internal/service/lambda/runtime"
)

// Where things are inside of a sandbox.
const (
	resolverAddress = "169.254.169.253" // the resolver, and Skerry as *.amazonaws.com
	functionUID     = 993               // sbx_user1051, as on AWS
	functionGID     = 990
)

// How many connections a sandbox holds at a time, to the Runtime API and to each
// address of AWS's: each costs this process a descriptor and memory, of which a
// function could otherwise take all there are. More of them wait.
const (
	maxRuntime = 32
	maxCalls   = 256
)

// fleetKey is what sandboxes have in common that can stand in for each other: a
// version of a function as it is now.
type fleetKey struct {
	Account, Region, Name string
	Number                int64
	Revision              string
}

// sandbox is a running copy of a function, or an interpreter that was started
// ahead and waits for one.
type sandbox struct {
	id      engine.ID
	key     fleetKey
	account string
	runtime string
	api     *runtime.Endpoint
	stream  *logStream
	expires time.Time // of the key in its environment
	started time.Time

	exited chan struct{} // closed after exit is set
	exit   engine.Exit

	initDuration time.Duration
	initTold     bool         // INIT_START was written, and Init Duration reported
	attached     [][]blob.Ref // the zip files of each folder of code that is mounted

	settled chan struct{} // closed when the last invocation's logs are read
	used    time.Time     // when the last invocation ended; under the fleet's lock
	busy    atomic.Bool

	freezing sync.Mutex // guards frozen and the engine's calls that change it
	frozen   bool

	reading  sync.Mutex
	cursor   engine.Cursor // in the engine's logs
	partial  []byte        // a line that is not whole yet
	record   *transcript   // of the invocation that runs
	recorded time.Time     // when that began

	peak   int64 // MB used at most
	peakAt time.Time
}

// closedChan is a channel that is closed.
func closedChan() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// limits are those of a function; while it initialises it may use all processors,
// as on AWS.
func limits(memory int32, initialising bool) engine.Limits {
	l := engine.Limits{Memory: int64(memory) << 20, Pids: engine.DefaultPids, CPUShares: max(2, int64(memory)*1024/memoryOfCPU)}
	if !initialising {
		l.CPU = float64(memory) / memoryOfCPU
	}
	return l
}

// spec is what all sandboxes of an interpreter have in common.
func (s *Service) spec(i *interpreter, account string, memory, storage int32) engine.Spec {
	dirs := []string{"/var/node_modules"}
	if i.prefix != "" {
		dirs = append(dirs, i.prefix)
	}
	mounts := []engine.Mount{{Kind: engine.MountDisk, Target: "/tmp", Size: int64(storage) << 20, Mode: fs.ModeSticky | 0o777}}
	if i.dir != "" {
		mounts = append(mounts, engine.Mount{Kind: engine.MountBind, Source: i.dir, Target: "/var/runtime", ReadOnly: true})
	}
	if s.CABundle != "" {
		mounts = append(mounts, engine.Mount{Kind: engine.MountBind, Source: s.CABundle, Target: caBundle, ReadOnly: true})
	}
	network := engine.NetworkNone
	if s.Outside {
		network = engine.NetworkNAT
	}
	root := engine.Root{Host: &engine.HostRoot{
		Files: []engine.File{
			{Path: "/etc/resolv.conf", Content: []byte("nameserver " + resolverAddress + "\noptions timeout:5 attempts:2\n")},
			{Path: "/etc/passwd", Content: []byte("root:x:0:0:root:/root:/sbin/nologin\nsbx_user1051:x:993:990::/home/sbx_user1051:/sbin/nologin\n")},
		},
		Dirs: dirs,
	}}
	if i.image != "" {
		root = engine.Root{Image: i.image} // which has the resolver's address from the engine
	}
	return engine.Spec{
		ID:       engine.ID("lambda-" + ids.Hex(16)),
		Account:  account,
		Labels:   map[string]string{"service": "lambda"},
		Root:     root,
		Command:  i.command,
		Dir:      "/var/task",
		User:     engine.User{UID: functionUID, GID: functionGID},
		Hostname: resolverAddress,
		Mounts:   append(mounts, i.mounts...),
		Network:  engine.Network{Mode: network},
		Limits:   limits(memory, true),
		Rlimits:  []engine.Rlimit{{Name: "nofile", Soft: 1024, Hard: 1024}, {Name: "core", Soft: 0, Hard: 0}},
	}
}

// errNoEntry says that custom code has no bootstrap.
var errNoEntry = errors.New("no bootstrap")

// bootstrapOf is the program of a custom runtime: the code's, or else a layer's.
func bootstrapOf(mounts []engine.Mount) string {
	for _, m := range mounts {
		if _, err := os.Lstat(filepath.Join(m.Source, "bootstrap")); err == nil {
			return m.Target + "/bootstrap"
		}
	}
	return ""
}

// codeMounts are a function's code and its layers.
func (s *Service) codeMounts(ctx context.Context, v *versionRow) ([]engine.Mount, [][]blob.Ref, error) {
	refs := [][]blob.Ref{{v.Code.Ref}}
	dir, err := s.codeDir(ctx, v.Code.Ref)
	if err != nil {
		return nil, nil, err
	}
	out := []engine.Mount{{Kind: engine.MountBind, Source: dir, Target: "/var/task", ReadOnly: true}}
	if len(v.Config.Layers) > 0 {
		var of []blob.Ref
		for _, l := range v.Config.Layers {
			of = append(of, l.Ref)
		}
		if dir, err = s.codeDir(ctx, of...); err != nil {
			return nil, nil, err
		}
		out = append(out, engine.Mount{Kind: engine.MountBind, Source: dir, Target: "/opt", ReadOnly: true})
		refs = append(refs, of)
	}
	return out, refs, nil
}

// environ writes an environment as a program gets it.
func environ(env map[string]string) []string {
	out := make([]string, 0, len(env))
	for name, value := range env {
		out = append(out, name+"="+value)
	}
	sort.Strings(out)
	return out
}

// create makes a sandbox and what it finds on its network, and starts its program.
func (s *Service) create(ctx context.Context, spec engine.Spec) (*sandbox, error) {
	places := s.places()
	id, opened, err := s.launch(ctx, spec, places)
	if err != nil {
		return nil, fmt.Errorf("lambda: start sandbox: %w", err)
	}
	sb := &sandbox{id: id, account: spec.Account, api: runtime.NewEndpoint(s.Clock.Now), exited: make(chan struct{}),
		settled: closedChan(), started: s.Clock.Now()}
	s.surround(sb, places, opened)
	s.children.Start("wait/"+string(sb.id), func(ctx context.Context) error { return s.watch(ctx, sb) })
	return sb, nil
}

// launch has /tmp in memory where the machine has no disks to give.
func (s *Service) launch(ctx context.Context, spec engine.Spec, places []engine.Socket) (engine.ID, []engine.Listening, error) {
	if !s.diskless.Load() {
		id, opened, err := s.Engine.Launch(ctx, spec, places...)
		if !errors.Is(err, engine.ErrUnsupported) {
			return id, opened, err
		}
	}
	spec.Mounts = slices.Clone(spec.Mounts)
	for i := range spec.Mounts {
		if spec.Mounts[i].Kind == engine.MountDisk {
			spec.Mounts[i].Kind = engine.MountTmpfs
		}
	}
	id, opened, err := s.Engine.Launch(ctx, spec, places...)
	if err == nil && !s.diskless.Swap(true) {
		s.Log.Warn("/tmp of functions counts towards their memory, since this machine has no disks of a fixed size: see skerry doctor")
	}
	return id, opened, err
}

// places are where a function finds something on its network: the Runtime API, the
// resolver, and Skerry under AWS's names, which that knows, and under its own.
func (s *Service) places() []engine.Socket {
	places := []engine.Socket{{Network: "tcp4", Address: runtimeAPI}, {Network: "udp4", Address: resolverAddress + ":53"}}
	if s.Serve != nil {
		places = append(places, engine.Socket{Network: "tcp4", Address: resolverAddress + ":443"},
			engine.Socket{Network: "tcp4", Address: s.insideAddress()})
	}
	return places
}

// surround serves what is open at those places. A program that is faster waits.
func (s *Service) surround(sb *sandbox, places []engine.Socket, opened []engine.Listening) {
	s.children.Start("api/"+string(sb.id), func(ctx context.Context) error {
		defer context.AfterFunc(ctx, func() { _ = opened[0].Close() })()
		s.api.Serve(netutil.LimitListener(opened[0].Listener, maxRuntime), sb.api)
		return nil
	})
	s.children.Start("dns/"+string(sb.id), func(ctx context.Context) error {
		return s.resolver.Serve(ctx, opened[1].Packets, s.beside("dns/"+string(sb.id)))
	})
	for i, l := range opened[2:] {
		s.children.Start("aws/"+string(sb.id)+"/"+places[2+i].Address, func(ctx context.Context) error {
			defer context.AfterFunc(ctx, func() { _ = l.Close() })()
			_ = s.Serve(engine.Walled(ctx, s.Engine, sb.id, netutil.LimitListener(l.Listener, maxCalls))) // it says that the listener is closed
			return nil
		})
	}
}

// beside starts functions as children under numbered names.
func (s *Service) beside(name string) func(func(context.Context)) bool {
	var n atomic.Uint64
	return func(fn func(context.Context)) bool {
		return s.children.Start(name+"/"+strconv.FormatUint(n.Add(1), 10), func(ctx context.Context) error { fn(ctx); return nil })
	}
}

// watch waits for a sandbox's program to end.
func (s *Service) watch(ctx context.Context, sb *sandbox) error {
	exit, err := s.Engine.Wait(ctx, sb.id)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		exit = engine.Exit{Code: -1, Reason: err.Error()}
	}
	sb.exit = exit
	close(sb.exited)
	return nil
}

// remove ends a sandbox and all that serves it.
func (s *Service) remove(ctx context.Context, sb *sandbox) {
	ctx = context.WithoutCancel(ctx) // it is dropped already: nobody else would
	if err := s.Engine.Remove(ctx, sb.id); err != nil {
		s.Log.Warn("a sandbox cannot be removed", "sandbox", sb.id, "err", err)
	}
	for _, what := range []string{"wait/", "dns/", "api/"} {
		s.children.End(what + string(sb.id))
	}
}

// freeze stops or thaws a sandbox. To freeze one that has work meanwhile does
// nothing.
func (s *Service) freeze(ctx context.Context, sb *sandbox, frozen bool) error {
	sb.freezing.Lock()
	defer sb.freezing.Unlock()
	if sb.frozen == frozen || frozen && sb.busy.Load() {
		return nil
	}
	if err := s.Engine.Freeze(ctx, sb.id, frozen); err != nil {
		return err
	}
	sb.frozen = frozen
	return nil
}

// newResolver makes the resolver of all sandboxes.
func newResolver() *resolver.Resolver {
	return &resolver.Resolver{Address: netip.MustParseAddr(resolverAddress)}
}

// insideAddress is where a sandbox finds Skerry under its own name: on its
// loopback, at the port that Skerry has outside, so that the links a function
// makes are good on the machine as well.
func (s *Service) insideAddress() string { return net.JoinHostPort("127.0.0.1", s.insidePort()) }

func (s *Service) insideEndpoint() string { return "http://" + s.insideAddress() }

func (s *Service) insidePort() string {
	const usual = 4566
	if _, port, err := net.SplitHostPort(hostOf(s.Endpoint)); err == nil {
		return port
	}
	return strconv.Itoa(usual)
}
