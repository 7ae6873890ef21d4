package task

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
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
	handler := r.metadata(t.ID, v.task.Credentials)
	serve := map[string]func(net.Listener) error{
		metadataAddress + ":80": func(l net.Listener) error {
			s := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
			return s.Serve(l)
		},
	}
	if r.Serve != nil {
		from := sync.OnceValue(func() net.Addr { return r.addressOf(by) })
		outside := func(l net.Listener) error { return r.Serve(walled{l, from}) }
		serve[resolverAddress+":443"] = outside
		if r.Inside != "" {
			serve[r.Inside] = outside
		}
	}
	for address, fn := range serve {
		l, err := r.Engine.Listen(ctx, by, "tcp4", address)
		if err != nil {
			return err
		}
		r.inside(t.ID, sandbox, address, l.Close, func(context.Context) error { return fn(l) })
	}
	if r.Resolver != nil {
		p, err := r.Engine.ListenPacket(ctx, by, "udp4", resolverAddress+":53")
		if err != nil {
			return err
		}
		key := childName("dns", string(t.ID), string(sandbox))
		r.inside(t.ID, sandbox, "53", p.Close, func(ctx context.Context) error { return r.Resolver(t).Serve(ctx, p, r.beside(key)) })
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.surrounded[sandbox] = by
	return nil
}

// inside runs what serves at an address of a sandbox, as a child. One that served
// there before, by a container that is gone, is waited for by its name.
func (r *Runner) inside(task, sandbox engine.ID, address string, end func() error, serve func(ctx context.Context) error) {
	key := childName("inside", string(task), string(sandbox), address)
	ok := r.children.Start(key, func(ctx context.Context) error {
		defer context.AfterFunc(ctx, func() { _ = end() })()
		err := serve(ctx)
		if errors.Is(err, net.ErrClosed) || errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return err
	})
	if !ok {
		_ = end()
	}
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

// addressOf is a sandbox's address, as those see it whom it calls.
func (r *Runner) addressOf(id engine.ID) net.Addr {
	st, err := r.Engine.Inspect(context.Background(), id)
	if err != nil || !st.Address.IsValid() {
		return &net.TCPAddr{IP: net.IPv4(169, 254, 100, 1)}
	}
	return &net.TCPAddr{IP: st.Address.AsSlice()}
}

// walled is a listener inside of a sandbox. To whoever serves it, its clients come
// from the sandbox's address: what is loopback inside is not this machine's, and
// must not be trusted as such.
type walled struct {
	net.Listener
	from func() net.Addr
}

// Accept implements net.Listener.
func (l walled) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return walledConn{c, l.from()}, nil
}

type walledConn struct {
	net.Conn
	from net.Addr
}

// RemoteAddr implements net.Conn.
func (c walledConn) RemoteAddr() net.Addr { return c.from }
