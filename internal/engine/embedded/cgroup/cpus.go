//go:build linux

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Which processors and memory nodes a group's processes use is a matter of the
// controller cpuset. Most use all: so in version 1 only the groups that are told
// otherwise have a folder there, and the others cost nothing more.

// openCPUs makes the engine's folder there, version 1, with all that the one above
// has: a new one has nothing, and nobody can join it.
func (t *Tree) openCPUs(path string) error {
	fd, err := openFolder(path)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for name, to := range map[string]*string{"cpus": &t.CPUs, "mems": &t.Mems} {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(path), "cpuset."+name))
		if err != nil {
			return err
		}
		*to = strings.TrimSpace(string(text))
		if err := write(fd, "cpuset."+name, *to); err != nil {
			return err
		}
	}
	t.cpus = path
	t.Controllers["cpuset"] = true
	return nil
}

// findCPUs reads what there is, version 2.
func (t *Tree) findCPUs() error {
	for name, to := range map[string]*string{"cpus": &t.CPUs, "mems": &t.Mems} {
		text, err := read(t.v2, "cpuset."+name+".effective")
		if err != nil {
			return err
		}
		*to = text
	}
	return nil
}

// closeCPUs removes the engine's folder, with what earlier engines have left in it.
func (t *Tree) closeCPUs() error {
	if t.cpus == "" {
		return nil
	}
	left, err := os.ReadDir(t.cpus)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cgroup: %w", err)
	}
	var errs []error
	for _, e := range left {
		if e.IsDir() {
			errs = append(errs, removeAt(unix.AT_FDCWD, filepath.Join(t.cpus, e.Name())))
		}
	}
	return errors.Join(append(errs, removeAt(unix.AT_FDCWD, t.cpus))...)
}

// setCPUs says which processors and memory nodes the group's processes use, those
// included that run; empty is all.
func (g *Group) setCPUs(cpus, mems string) error {
	t := g.tree
	if !t.Controllers["cpuset"] {
		return fmt.Errorf("cgroup: no cpuset controller: %w", errors.ErrUnsupported)
	}
	if t.Version == 2 {
		return errors.Join(g.write("cpuset", "cpuset.cpus", cpus+"\n"), g.write("cpuset", "cpuset.mems", mems+"\n"))
	}
	if cpus == "" {
		cpus = t.CPUs
	}
	if mems == "" {
		mems = t.Mems
	}
	path := filepath.Join(t.cpus, g.base())
	fd, err := openFolder(path)
	if err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	defer unix.Close(fd)
	g.cpus = path
	if err := errors.Join(write(fd, "cpuset.cpus", cpus), write(fd, "cpuset.mems", mems)); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	return g.follow(fd)
}

// follow moves the group's processes to its folder there, until those that they
// start meanwhile are there too.
func (g *Group) follow(fd int) error {
	for {
		all, err := os.ReadFile(filepath.Join(g.tree.v1[0].path, g.name, "cgroup.procs"))
		if err != nil {
			return fmt.Errorf("cgroup: %w", err)
		}
		there, err := os.ReadFile(filepath.Join(g.cpus, "cgroup.procs"))
		if err != nil {
			return fmt.Errorf("cgroup: %w", err)
		}
		moved, known := 0, strings.Fields(string(there))
		for _, pid := range strings.Fields(string(all)) {
			if slices.Contains(known, pid) {
				continue
			}
			switch err := write(fd, "cgroup.procs", pid); {
			case err == nil:
				moved++
			case !errors.Is(err, unix.ESRCH): // else it has ended
				return fmt.Errorf("cgroup: %w", err)
			}
		}
		if moved == 0 {
			return nil
		}
	}
}

// joinCPUs is where a process of version 1 joins the folder there, or 0.
func (g *Group) joinCPUs() (fd int, err error) {
	if g.cpus != "" && g.cpusJoin == 0 {
		g.cpusJoin, err = openTasks(unix.AT_FDCWD, g.cpus)
	}
	return g.cpusJoin, err
}

// dropCPUs gives the folder there up.
func (g *Group) dropCPUs() error {
	own := g.cpus
	g.cpus, g.limits.CPUs, g.limits.Mems = "", "", ""
	if g.cpusJoin > 0 {
		unix.Close(g.cpusJoin)
		g.cpusJoin = 0
	}
	if own == "" {
		return nil
	}
	return removeAt(unix.AT_FDCWD, own)
}
