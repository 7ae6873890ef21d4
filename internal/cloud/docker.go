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
	"time"

	"skerry/internal/base/clock"
	"skerry/internal/daemon"
)

// newDaemon builds what serves the Docker Engine API; nil if nothing does.
func (c *Cloud) newDaemon(p *parts, when clock.Clock) *daemon.Daemon {
	if c.config.socket() == "" {
		return nil
	}
	return daemon.New(daemon.Deps{
		Store: c.db, Engine: c.engine, Clock: when, Log: c.log, Dir: filepath.Join(c.config.Data, "docker"), Account: c.config.Account,
		Version: c.config.Version, Wake: func(name string) { p.loops.Wake(name) },
	})
}

// openDocker makes the socket of the Docker Engine API. Only its owner, who is
// root where containers run, and the owner's group can open it: who can is as
// good as root.
func openDocker(ctx context.Context, path string) (net.Listener, error) {
	fault := func(err error) (net.Listener, error) { return nil, fmt.Errorf("the docker socket %s: %w", path, err) }
	if st, err := os.Lstat(path); err == nil {
		if st.Mode().Type() != os.ModeSocket {
			return fault(errors.New("something else is there"))
		}
		if conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path); err == nil {
			_ = conn.Close()
			return fault(errors.New("another daemon listens there"))
		}
	}
	// Made where nobody else looks and then moved, it is never open to others.
	dir, err := os.MkdirTemp(filepath.Dir(path), ".skerry")
	if err != nil {
		return fault(err)
	}
	defer os.RemoveAll(dir)
	folder, err := os.Open(dir)
	if err != nil {
		return fault(err)
	}
	defer folder.Close() // its number stands for a path that may be too long
	made := filepath.Join(dir, "s")
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/s", folder.Fd()))
	if err != nil {
		return fault(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // it moves
	if err := errors.Join(os.Chmod(made, 0o660), os.Rename(made, path)); err != nil {
		return fault(errors.Join(err, l.Close()))
	}
	return l, nil
}

// serveDocker serves the socket until it is closed.
func (c *Cloud) serveDocker(l net.Listener) *http.Server {
	s := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.parts.Load().daemon.ServeHTTP(w, r) }),
		ReadHeaderTimeout: 30 * time.Second, ErrorLog: slog.NewLogLogger(c.log.Handler(), slog.LevelWarn),
	}
	go func() {
		if err := s.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			c.log.Error("the docker socket ended", "err", err)
		}
	}()
	return s
}

// closeDocker closes the socket and waits for what is under way; streams are cut.
func (c *Cloud) closeDocker() error {
	if c.docker == nil {
		return nil
	}
	if p := c.parts.Load(); p != nil {
		p.daemon.Close() // streams end, so that the wait below is short
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := c.docker.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = c.docker.Close()
	}
	return errors.Join(err, os.Remove(c.config.socket()))
}
