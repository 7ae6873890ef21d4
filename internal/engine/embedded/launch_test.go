//go:build linux && amd64

package embedded

import (
	"context"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"skerry/internal/engine"
)

// Mains that are killed, or stop waiting, while a supervisor starts leave it to
// the next, who does not wait in line behind it.
func TestLaunchAbandoned(t *testing.T) {
	t.Parallel()
	d := open(t)
	for i := range 5 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*time.Millisecond)
		_, _ = d.List(ctx)
		cancel()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := d.List(ctx); err != nil {
		t.Fatal(err)
	}
}

// A main that ends while a supervisor starts waits until it is there: it makes no
// folders behind the back of who removes the data.
func TestCloseWaitsForLaunch(t *testing.T) {
	d := open(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := d.List(ctx); err == nil {
		t.Skip("the supervisor was there within a millisecond")
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := d.dial()
	if err != nil {
		t.Fatalf("it is not there yet: %v", err)
	}
	_ = c.Close()
}

// A socket apart leaves its port to the container's programs, and is reached at
// its address alone; one that comes later takes its place.
func TestListenApart(t *testing.T) {
	t.Parallel()
	d := open(t)
	spec := probeSpec(t, "serve", "0.0.0.0:80", "program")
	spec.Network.Mode = engine.NetworkNAT
	id, err := d.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Remove(context.Background(), id) }()
	socket := engine.Socket{Network: "tcp4", Address: "169.254.170.2:80", Apart: true}
	for range 2 {
		l, err := d.ListenAll(t.Context(), id, socket)
		if err != nil {
			t.Fatal(err)
		}
		go say(l[0].Listener, "outside")
	}
	if err := d.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	serving(t, d, id)
	for address, want := range map[string]string{"169.254.170.2:80": "outside", "127.0.0.1:80": "program 127.0.0.1", "169.254.169.254:80": "program 169.254.169.254"} {
		var out strings.Builder
		exit, err := d.Exec(t.Context(), id, engine.ExecSpec{Command: append(slices.Clone(spec.Command[:2]), "ask", address)}, engine.Streams{Stdout: &out})
		if err != nil || exit.Code != 0 || strings.TrimSpace(out.String()) != want {
			t.Errorf("%s: %q, %+v, %v", address, out.String(), exit, err)
		}
	}
	socket.Address = "127.0.0.1:81"
	if _, err := d.ListenAll(t.Context(), id, socket); err == nil {
		t.Error("a socket apart on an address that programs have")
	}
}

// say tells a text to all who connect.
func say(l net.Listener, text string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, text)
		_ = c.Close()
	}
}
