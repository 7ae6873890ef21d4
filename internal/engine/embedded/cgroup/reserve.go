//go:build linux

package cgroup

import (
	"errors"
	"strconv"
)

// setReserve sets the memory that the group keeps when the machine has little.
func (g *Group) setReserve(n int64) error {
	if g.tree.Version == 1 {
		return g.write("memory", "memory.soft_limit_in_bytes", or(n, "-1"))
	}
	n = max(n, 0)
	return errors.Join(g.write("memory", "memory.low", strconv.FormatInt(n, 10)), g.reserve(n))
}

// reserve tells the folder above what the group reserves. In version 2 a group
// keeps no more than what is reserved at each level above it.
func (g *Group) reserve(n int64) error {
	more := n - g.reserved
	if more == 0 || !g.tree.Controllers["memory"] {
		return nil
	}
	g.reserved = n
	if g.parent != nil {
		return g.parent.reserve(more)
	}
	t := g.tree
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reserved += more
	return write(t.v2, "memory.low", strconv.FormatInt(t.reserved, 10))
}

// reserve counts what a group in the parent reserves, beside what the parent
// itself does.
func (p *Parent) reserve(more int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reserved += more
	return p.group.setReserve(max(p.group.limits.Reserve, p.reserved))
}
