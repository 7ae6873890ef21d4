//go:build linux

package cgroup

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Parent is a group without processes, whose limits bound the sum of what the
// groups in it use. It is removed when it has been closed and the last of those
// is gone.
type Parent struct {
	group *Group

	mu       sync.Mutex
	users    int   // groups in it, and its maker
	reserved int64 // memory, by the groups in it, version 2
}

// Parent makes one.
func (t *Tree) Parent(l Limits) (*Parent, error) {
	t.mu.Lock()
	t.next++
	p := &Parent{group: &Group{tree: t, name: "p" + strconv.Itoa(t.next)}, users: 1}
	t.mu.Unlock()
	if err := p.group.make(); err != nil {
		return nil, err
	}
	err := p.group.Set(l)
	if t.Version == 2 {
		err = errors.Join(err, p.delegate())
	}
	if err != nil {
		return nil, errors.Join(err, p.group.Remove())
	}
	return p, nil
}

// delegate lets the groups in a parent of version 2 have limits of their own.
func (p *Parent) delegate() error {
	for _, c := range v2Controllers {
		if p.group.tree.Controllers[c] {
			if err := p.group.write(c, "cgroup.subtree_control", "+"+c); err != nil {
				return err
			}
		}
	}
	return nil
}

// Create makes a group in the parent.
func (p *Parent) Create(l Limits) (*Group, error) {
	p.mu.Lock()
	p.users++
	p.mu.Unlock()
	t := p.group.tree
	t.mu.Lock()
	t.next++
	g := &Group{tree: t, parent: p, name: p.group.name + "/c" + strconv.Itoa(t.next)}
	t.mu.Unlock()
	if err := g.begin(l); err != nil {
		return nil, errors.Join(err, p.Close()) // as many as there were
	}
	return g, nil
}

// Close lets go of the parent.
func (p *Parent) Close() error {
	p.mu.Lock()
	p.users--
	last := p.users == 0
	p.mu.Unlock()
	if !last {
		return nil
	}
	return p.group.Remove()
}

// Name is of the parent's folder.
func (p *Parent) Name() string { return p.group.name }

// within keeps a group's quota below its parent's: version 1 refuses one that is
// above it.
func (p *Parent) within(l Limits) Limits {
	if most := p.group.limits.CPU; most > 0 && l.CPU > most {
		l.CPU = most
	}
	return l
}

// below lists the groups in a folder, those in others first.
func below(dir int, name string) (all []string, err error) {
	fd, err := unix.Openat(dir, name, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cgroup: open %s: %w", name, err)
	}
	defer unix.Close(fd)
	var b [4096]byte
	for {
		n, err := unix.ReadDirent(fd, b[:])
		if err != nil || n <= 0 {
			return all, err
		}
		_, _, names := unix.ParseDirent(b[:n], -1, nil)
		for _, sub := range names {
			var st unix.Stat_t
			if unix.Fstatat(fd, sub, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
				continue
			}
			deeper, err := below(fd, sub)
			if err != nil && !errors.Is(err, unix.ENOENT) {
				return nil, err
			}
			for _, d := range deeper {
				all = append(all, sub+"/"+d)
			}
			all = append(all, sub)
		}
	}
}

// base is the last part of a group's name, which no other has.
func (g *Group) base() string { return g.name[strings.LastIndexByte(g.name, '/')+1:] }
