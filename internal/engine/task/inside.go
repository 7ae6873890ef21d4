package task

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"skerry/internal/engine"
)

// Where containers find what the runner serves inside of their network.
const (
	metadataAddress = "169.254.170.2"
	resolverAddress = "169.254.169.253"
)

// sandboxOf names the network that a container has, and tells whether the runner
// serves in there.
func sandboxOf(t *Task, name string) (sandbox engine.ID, served bool) {
	switch t.Network.Mode {
	case AWSVPC:
		return t.ID, true
	case Host:
		return "", false // it is the machine's
	}
	return containerID(t.ID, name), true
}

// taskOf is the task of a container's id.
func taskOf(id engine.ID) engine.ID {
	if i := strings.LastIndexByte(string(id), '-'); i >= 0 {
		return id[:i]
	}
	return ""
}

// insideEnvironment tells a container of what is served inside of its network.
func (r *Runner) insideEnvironment(v *view, c *Container) (all []Variable) {
	add := func(name, value string) { all = append(all, Variable{name, value}) }
	if _, served := sandboxOf(v.spec, c.Name); served {
		add("ECS_CONTAINER_METADATA_URI_V4", "http://"+metadataAddress+"/v4/"+string(containerID(v.spec.ID, c.Name)))
		if v.task.Credentials != "" {
			add("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", credentialsPath+v.task.Credentials)
		}
	}
	if r.Serve != nil && r.Inside != "" {
		add("AWS_ENDPOINT_URL", "http://"+r.Inside)
	}
	if r.CABundle != "" {
		add("AWS_CA_BUNDLE", caBundle)
		add("SSL_CERT_FILE", caBundle)
		add("REQUESTS_CA_BUNDLE", caBundle)
	}
	return all
}

// surround opens what containers find inside of their network, once in a sandbox
// and process.
func (r *Runner) surround(ctx context.Context, v *view, name string) error {
	t := v.spec
	sandbox, served := sandboxOf(t, name)
	if !served {
		return nil
	}
	r.mu.Lock()
	_, done := r.mu.surrounded[sandbox]
	r.mu.Unlock()
	if done {
		return nil
	}
	by := containerID(t.ID, name)
	rooms := r.rooms(v, by)
	sockets := make([]engine.Socket, len(rooms))
	for i := range rooms {
		sockets[i] = rooms[i].Socket
	}
	open, err := r.Engine.ListenAll(ctx, by, sockets...)
	if err != nil {
		return err
	}
	for i, l := range open {
		key := childName("inside", string(t.ID), string(sandbox), rooms[i].Network+" "+rooms[i].Address)
		if !r.children.Start(key, func(ctx context.Context) error { return serveUntil(ctx, l, rooms[i].serve) }) {
			_ = l.Close() // the runner ends
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.surrounded[sandbox] = by
	return nil
}

// room is a socket in a sandbox, and what serves there.
type room struct {
	engine.Socket
	serve func(ctx context.Context, l engine.Listening) error
}

// rooms are what is served in a sandbox, by one of its containers.
func (r *Runner) rooms(v *view, by engine.ID) []room {
	handler := r.metadata(v.spec.ID, v.task.Credentials)
	all := []room{{engine.Socket{Network: "tcp4", Address: metadataAddress + ":80", Apart: true}, func(_ context.Context, l engine.Listening) error {
		return (&http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}).Serve(l.Listener)
	}}}
	if r.Serve != nil {
		outside := func(ctx context.Context, l engine.Listening) error {
			return r.Serve(engine.Walled(ctx, r.Engine, by, l.Listener))
		}
		all = append(all, room{engine.Socket{Network: "tcp4", Address: resolverAddress + ":443", Apart: true}, outside})
		if r.Inside != "" {
			all = append(all, room{engine.Socket{Network: "tcp4", Address: r.Inside}, outside})
		}
	}
	if r.Resolver != nil {
		names := r.Resolver(v.spec)
		beside := r.beside(childName("dns", string(v.spec.ID), string(by)))
		all = append(all, room{engine.Socket{Network: "udp4", Address: resolverAddress + ":53", Apart: true}, func(ctx context.Context, l engine.Listening) error {
			return names.Serve(ctx, l.Packets, beside)
		}}, room{engine.Socket{Network: "tcp4", Address: resolverAddress + ":53", Apart: true}, func(ctx context.Context, l engine.Listening) error {
			return names.ServeStream(ctx, l.Listener, beside)
		}})
	}
	return all
}

// serveUntil serves until the socket is closed or ctx ends.
func serveUntil(ctx context.Context, l engine.Listening, serve func(ctx context.Context, l engine.Listening) error) error {
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	err := serve(ctx, l)
	if errors.Is(err, net.ErrClosed) || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// unsurround notes that a container is removed, and with it what listens by it.
func (r *Runner) unsurround(v *view, id engine.ID) {
	r.mu.Lock()
	var gone []engine.ID
	for sandbox, by := range r.mu.surrounded {
		if by == id {
			gone = append(gone, sandbox)
			delete(r.mu.surrounded, sandbox)
		}
	}
	r.mu.Unlock()
	for _, sandbox := range gone {
		prefix := childName("inside", string(v.task.ID), string(sandbox)) + "/"
		for _, key := range r.children.Keys() {
			if strings.HasPrefix(key, prefix) {
				r.children.End(key)
			}
		}
	}
}

// beside starts functions as children under numbered names.
func (r *Runner) beside(name string) func(func(context.Context)) bool {
	var n atomic.Uint64
	return func(fn func(context.Context)) bool {
		return r.children.Start(childName(name, strconv.FormatUint(n.Add(1), 10)), func(ctx context.Context) error { fn(ctx); return nil })
	}
}
