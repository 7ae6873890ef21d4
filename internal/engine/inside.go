package engine

import (
	"context"
	"net"
	"sync"
)

// Walled is a listener inside of a container. To whoever serves it, its clients
// come from the container's address: what is loopback inside is not this
// machine's, and must not be trusted as such. Without an address they come from a
// link-local one.
func Walled(ctx context.Context, e Engine, id ID, l net.Listener) net.Listener {
	ctx = context.WithoutCancel(ctx)
	return walled{l, sync.OnceValue(func() net.Addr {
		st, err := e.Inspect(ctx, id)
		if err != nil || !st.Address.IsValid() {
			return &net.TCPAddr{IP: net.IPv4(169, 254, 100, 1)}
		}
		return &net.TCPAddr{IP: st.Address.AsSlice()}
	})}
}

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
