//go:build linux && amd64

package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/segment"
)

// stored is a container's record: what the next supervisor tells of it.
type stored struct {
	Status  engine.Status
	Started engine.Cursor
	Exited  engine.Cursor
	Spec    *engine.Spec `json:",omitempty"` // of recordFile
	Layers  []string     `json:",omitempty"`
}

const (
	recordFile = "record.json"
	exitFile   = "exit.json"
	stdoutFile = "stdout" // pipes
	stderrFile = "stderr"
)

// record writes that a container is there, and is to run; c.mu is held.
func (s *supervisor) record(c *container) error {
	return s.write(c, recordFile, c.toRun())
}

// toRun is the record of a container that is to run.
func (c *container) toRun() stored {
	st := c.statusLocked()
	st.State, st.Exit = engine.Created, nil // of an earlier run
	return stored{Status: st, Spec: c.spec, Layers: c.image.layers}
}

// recordExit writes the exit; c.mu is held.
func (s *supervisor) recordExit(c *container) error {
	return s.replace(c, exitFile, stored{Status: c.statusLocked(), Started: c.cursors[0]})
}

// replace writes a record. The rename makes it whole or absent.
func (s *supervisor) replace(c *container, name string, r stored) error {
	if err := s.write(c, name+".new", r); err != nil {
		return err
	}
	dir := filepath.Join(s.runs(), string(c.id))
	if err := os.Rename(filepath.Join(dir, name+".new"), filepath.Join(dir, name)); err != nil {
		return fmt.Errorf("supervisor: record of %s: %w", c.id, err)
	}
	return nil
}

// removeRun removes the folder of a container's records and pipes.
func (s *supervisor) removeRun(id engine.ID) error {
	dir := filepath.Join(s.runs(), string(id))
	for _, name := range []string{recordFile, exitFile, stdoutFile, stderrFile} {
		_ = unix.Unlink(dir + "/" + name) // some are not there
	}
	if unix.Rmdir(dir) == nil {
		return nil
	}
	return os.RemoveAll(dir) // there is more in it, as with images
}

func (s *supervisor) write(c *container, name string, r stored) error {
	text, err := json.Marshal(r)
	if err == nil {
		err = os.WriteFile(filepath.Join(s.runs(), string(c.id), name), text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("supervisor: record of %s: %w", c.id, err)
	}
	return nil
}

// recover finds what an earlier supervisor has left: containers that have
// exited are kept, and those that had not are killed and reported.
func (s *supervisor) recover() error {
	entries, err := os.ReadDir(s.runs())
	if err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	groups, err := s.tree.Names()
	if err != nil {
		return err
	}
	for _, name := range groups {
		g := s.tree.Group(name)
		if err := errors.Join(g.Kill(), g.Remove()); err != nil {
			return err
		}
	}
	for _, e := range entries {
		if err := s.recoverOne(engine.ID(e.Name())); err != nil {
			return err
		}
	}
	return errors.Join(s.sweep(s.logs()), s.sweep(s.uppers()))
}

// sweep removes the folders of containers that are not known any more.
func (s *supervisor) sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	for _, e := range entries {
		if s.containers[engine.ID(e.Name())] == nil {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("supervisor: %w", err)
			}
		}
	}
	return nil
}

func (s *supervisor) recoverOne(id engine.ID) error {
	dir := filepath.Join(s.runs(), string(id))
	made, err := readRecord(filepath.Join(dir, recordFile))
	if err != nil { // its Create was never answered
		return os.RemoveAll(dir)
	}
	r, err := readRecord(filepath.Join(dir, exitFile))
	if err != nil {
		r = made
	}
	st := r.Status
	c := s.newAgain(made)
	c.account, c.labels, c.created, c.started = st.Account, st.Labels, st.Created, st.Started
	if c.log.segments, err = segment.List(c.log.dir); err != nil {
		return err
	}
	if c.log.end, err = segment.End(c.log.dir); err != nil {
		return err
	}
	s.containers[id] = c
	if r.Started != 0 {
		s.journal.restore(engine.Event{Cursor: r.Started, Time: st.Started, Kind: engine.EventStarted, ID: id, Labels: st.Labels})
		c.cursors[0] = r.Started
	}
	exit := st.Exit
	if exit == nil {
		exit = &engine.Exit{Code: -1, Reason: "lost: the engine's supervisor ended before the container did", Finished: time.Now()}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.finish(c, *exit)
	return nil
}

// newAgain is a container of which there is a record.
func (s *supervisor) newAgain(r stored) *container {
	img := image{r.Status.Image, r.Layers}
	if r.Spec != nil {
		if c, err := s.newContainer(r.Spec, img); err == nil {
			return c
		}
	}
	return &container{id: r.Status.ID, image: img, state: engine.Created, pidfd: -1, mounts: -1, run: newRun(), stdio: noStdio,
		log: &log{dir: filepath.Join(s.logs(), string(r.Status.ID)), pipes: [2]int{-1, -1}, file: -1}}
}

func readRecord(path string) (r stored, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(text, &r)
}
