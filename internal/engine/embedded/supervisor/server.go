//go:build linux && amd64

package supervisor

import (
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/protocol"
)

// serveConn answers a connection's requests, one after the other. Only
// processes of this user, or of root, are listened to. first, if there is one, is
// the end of an answer that an earlier program owes.
func (s *supervisor) serveConn(conn *protocol.Conn, first func() error) {
	defer conn.Close()
	if !trusted(conn) {
		return
	}
	s.mu.Lock()
	s.conns++
	s.asked = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.conns--
		s.mu.Unlock()
	}()
	if first != nil {
		s.gate.enter()
		err := first()
		s.gate.leave()
		if err != nil {
			return
		}
	}
	for {
		var req protocol.Request
		fds, err := conn.Receive(&req)
		if err != nil {
			return
		}
		s.gate.enter()
		err = s.answer(conn, &req, fds)
		s.gate.leave()
		closeAll(fds...)
		if err != nil {
			return
		}
	}
}

func trusted(c *protocol.Conn) bool {
	cred := c.Peer()
	return cred != nil && (cred.Uid == 0 || int(cred.Uid) == os.Geteuid())
}

// answer does what a request asks for. An error ends the connection.
func (s *supervisor) answer(conn *protocol.Conn, req *protocol.Request, fds []int) (err error) {
	switch req.Op {
	case protocol.OpInfo:
		return conn.Send(protocol.Reply{Info: &s.caps})
	case protocol.OpCreate:
		if req.Spec == nil {
			return s.fail(conn, engine.ErrInvalid)
		}
		return s.fail(conn, s.create(req.Spec, image{req.Image, req.Layers}))
	case protocol.OpLaunch:
		return s.launch(conn, req)
	case protocol.OpList:
		return s.list(conn)
	case protocol.OpFirewall:
		return s.fail(conn, s.setFirewall(req.Network, req.Groups))
	case protocol.OpEvents:
		s.gate.outside(func() { err = s.events(conn, req.After) })
		return err
	case protocol.OpUpgrade:
		s.gate.outside(func() { err = s.upgrade(conn, fds) })
		return s.fail(conn, err)
	case protocol.OpShutdown:
		s.mu.Lock()
		if !s.ending {
			s.ending = true
			close(s.stop)
		}
		s.mu.Unlock()
		return conn.Send(protocol.Reply{})
	}
	c, err := s.get(req.ID)
	if err != nil {
		if req.Op == protocol.OpRemove {
			err = nil
		}
		return s.fail(conn, err)
	}
	switch req.Op {
	case protocol.OpStart:
		return s.fail(conn, s.start(c))
	case protocol.OpSignal:
		return s.fail(conn, s.signal(c, syscall.Signal(req.Signal)))
	case protocol.OpFreeze:
		return s.fail(conn, s.freeze(c, req.Frozen))
	case protocol.OpRemove:
		s.remove(c)
		return s.fail(conn, nil)
	case protocol.OpInspect:
		st := c.status()
		return conn.Send(protocol.Reply{Status: &st})
	case protocol.OpUpdate:
		if req.Limits == nil {
			return s.fail(conn, engine.ErrInvalid)
		}
		return s.fail(conn, s.update(c, *req.Limits))
	case protocol.OpConnect:
		return s.fail(conn, s.connect(c, req.Links))
	case protocol.OpAttach:
		if req.Mount == nil {
			return s.fail(conn, engine.ErrInvalid)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		return s.fail(conn, s.attach(c, *req.Mount))
	case protocol.OpStats:
		st, err := s.stats(c)
		return conn.Send(protocol.Reply{Stats: &st, Error: protocol.FromError(err)})
	}
	return s.answerLonger(conn, req, c, fds)
}

// launch makes a container, opens sockets in it and starts it.
func (s *supervisor) launch(conn *protocol.Conn, req *protocol.Request) error {
	if req.Spec == nil {
		return s.fail(conn, engine.ErrInvalid)
	}
	if err := s.create(req.Spec, image{req.Image, req.Layers}); err != nil {
		return s.fail(conn, err)
	}
	c, err := s.get(req.Spec.ID)
	if err != nil { // removed meanwhile
		return s.fail(conn, err)
	}
	var opened []int
	if len(req.Sockets) > 0 {
		opened, err = s.listen(c, req.Sockets)
	}
	defer func() { closeAll(opened...) }()
	if err == nil {
		err = s.start(c)
	}
	if err != nil {
		s.remove(c)
		return s.fail(conn, err)
	}
	return conn.Send(protocol.Reply{}, opened...)
}

// answerLonger is for what waits, or has more to it than an answer.
func (s *supervisor) answerLonger(conn *protocol.Conn, req *protocol.Request, c *container, fds []int) error {
	switch req.Op {
	case protocol.OpListen:
		opened, err := s.listen(c, req.Sockets)
		if err != nil {
			return s.fail(conn, err)
		}
		defer closeAll(opened...)
		return conn.Send(protocol.Reply{}, opened...)
	case protocol.OpInput:
		fd, run, err := c.openedInput()
		if err != nil {
			return s.fail(conn, err)
		}
		defer unix.Close(fd)
		return conn.Send(protocol.Reply{Run: run}, fd)
	case protocol.OpEndInput:
		return conn.Send(protocol.Reply{Run: c.endInput(req.Run)})
	case protocol.OpResize:
		return s.fail(conn, c.resize(req.Size))
	case protocol.OpRoot:
		c.mu.Lock()
		fd, root, err := s.rootFor(c)
		c.mu.Unlock()
		if err != nil {
			return s.fail(conn, err)
		}
		defer unix.Close(fd)
		return conn.Send(protocol.Reply{Root: &root}, fd)
	case protocol.OpLayer:
		c.mu.Lock()
		fd, root, err := s.layerOf(c)
		c.mu.Unlock()
		if err != nil {
			return s.fail(conn, err)
		}
		if fd < 0 {
			return conn.Send(protocol.Reply{Root: &root})
		}
		defer unix.Close(fd)
		return conn.Send(protocol.Reply{Root: &root}, fd)
	case protocol.OpWait:
		return s.wait(conn, c)
	case protocol.OpLog:
		return s.log(conn, c, req)
	case protocol.OpExec:
		if req.Exec == nil {
			return s.fail(conn, engine.ErrInvalid)
		}
		return s.execute(conn, c, req.Exec, fds)
	}
	return s.fail(conn, fmt.Errorf("engine: %w: request %q", engine.ErrInvalid, req.Op))
}

// wait tells how a container's run has ended, once it has.
func (s *supervisor) wait(conn *protocol.Conn, c *container) (err error) {
	c.mu.Lock()
	run := c.run
	c.mu.Unlock()
	s.gate.outside(func() {
		gone, stop := watch(conn)
		defer stop()
		select {
		case <-run.exited:
			stop()
			err = conn.Send(protocol.Reply{Exit: run.exit})
		case <-gone:
			err = net.ErrClosed
		}
	})
	return err
}

func (s *supervisor) fail(conn *protocol.Conn, err error) error {
	return conn.Send(protocol.Reply{Error: protocol.FromError(err)})
}

// watch tells when the other side goes away while an answer is awaited. stop
// ends the watching, after which the connection can be read again.
func watch(conn *protocol.Conn) (gone <-chan struct{}, stop func()) {
	ch, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		var b [1]byte
		if _, err := conn.Read(b[:]); err != nil && !os.IsTimeout(err) {
			close(ch)
		}
	}()
	return ch, func() {
		_ = conn.SetReadDeadline(time.Unix(1, 0))
		<-ended
		_ = conn.SetReadDeadline(time.Time{})
	}
}

func (s *supervisor) list(conn *protocol.Conn) error {
	s.mu.Lock()
	all := make([]*container, 0, len(s.containers))
	for _, c := range s.containers {
		all = append(all, c)
	}
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b *container) int { return a.created.Compare(b.created) })
	for _, c := range all {
		st := c.status()
		if err := conn.Send(protocol.Reply{Status: &st, More: true}); err != nil {
			return err
		}
	}
	return conn.Send(protocol.Reply{})
}

// events goes on until the other side hangs up.
func (s *supervisor) events(conn *protocol.Conn, after engine.Cursor) error {
	gone, stop := watch(conn)
	defer stop()
	for {
		due, more := s.journal.after(after)
		for i := range due {
			if err := conn.Send(protocol.Reply{Event: &due[i], More: true}); err != nil {
				return err
			}
			after = due[i].Cursor
		}
		select {
		case <-more:
		case <-gone:
			return net.ErrClosed
		}
	}
}

// log says how far the log reaches now, or waits until it is beyond After.
func (s *supervisor) log(conn *protocol.Conn, c *container, req *protocol.Request) (err error) {
	c.log.drain()
	first, end, ended, more := c.log.extent()
	reply := func() error {
		return conn.Send(protocol.Reply{Log: &protocol.Log{First: engine.Cursor(first), End: engine.Cursor(end), Exited: ended}})
	}
	if !req.Wait || ended || engine.Cursor(end) > req.After {
		return reply()
	}
	s.gate.outside(func() {
		gone, stop := watch(conn)
		for !ended && engine.Cursor(end) <= req.After {
			select {
			case <-more:
			case <-gone:
				stop()
				err = net.ErrClosed
				return
			}
			first, end, ended, more = c.log.extent()
		}
		stop()
		err = reply()
	})
	return err
}
