//go:build linux && amd64

package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/cgroup"
)

// maxPast is how many events of a container's earlier runs are told.
const maxPast = 64

// again makes a container that has exited ready for another run: with the same
// files, mounts, network and limits, and its log goes on. undo makes it what it
// was before, as an error does. c.mu is held.
func (s *supervisor) again(c *container) (undo func(), err error) {
	if s.isEnding() {
		return nil, fmt.Errorf("engine: the supervisor is ending: %w", engine.ErrState)
	}
	if c.spec == nil {
		return nil, fmt.Errorf("engine: start %s again, of which nothing but its exit is known: %w", c.id, engine.ErrState)
	}
	group, exit, cursors, last := c.group, c.exit, c.cursors, c.run
	undo = func() {
		c.ready.close()
		c.ready = nil
		s.closeStdio(c)
		if unused := c.group; unused != group {
			s.janitor.Go(func() { s.releaseGroup(unused) })
		}
		c.group, c.state, c.exit, c.cursors, c.run = group, engine.Exited, exit, cursors, last
		if err := s.recordExit(c); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	c.log.open()
	err = s.prepare(c)
	if err == nil {
		// from here on a supervisor that finds the record finds a run that was lost
		err = os.Remove(filepath.Join(s.runs(), string(c.id), exitFile))
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err != nil {
		undo()
		return nil, fmt.Errorf("engine: start %s again: %w", c.id, err)
	}
	c.state, c.exit, c.cursors, c.run = engine.Created, nil, [2]engine.Cursor{}, newRun()
	return undo, nil
}

// remember keeps the events of a run before the one that has begun; c.mu is held.
func (s *supervisor) remember(c *container, cursors [2]engine.Cursor) {
	for _, cursor := range cursors {
		if cursor != 0 {
			c.past = append(c.past, cursor)
		}
	}
	if n := len(c.past) - maxPast; n > 0 {
		s.journal.forget(c.past[:n]...)
		c.past = append(c.past[:0], c.past[n:]...)
	}
}

// closeStdio ends a run's log, which is whole, and closes its input and output.
func (s *supervisor) closeStdio(c *container) {
	c.log.drain()
	s.pump.remove(c.log)
	c.log.close()
	c.stdio.close()
}

// releaseGroup gives a control group back.
func (s *supervisor) releaseGroup(g *cgroup.Group) {
	if g == nil {
		return
	}
	if err := s.tree.Release(g); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
