//go:build linux && amd64

package supervisor

// A privileged container is no wall: it has the machine's user ids, all
// capabilities that the engine has, all devices, no filter and no masks. What it
// still has of its own are its mounts, processes, host name, shared memory,
// network and limits.

// base is the machine's id of a container's user 0.
func (c *container) base() uint32 {
	if c.bounds.privileged {
		return 0
	}
	return c.slot.Base
}

// userns is the descriptor of a container's user namespace, 0 when it has the
// machine's.
func (c *container) userns() int {
	if c.bounds.privileged {
		return 0
	}
	return c.slot.User
}
