//go:build linux

package cgroup

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// View is a group as its own container may see it: a mount that is nowhere yet.
type View struct {
	Name string // of the hierarchy's folder; empty in version 2, which has one
	FD   int    // close it
}

// Views returns the group in every hierarchy that limits or counts it, which
// the freezer does not, to be mounted read-only. It shows this group alone.
func (g *Group) Views() (all []View, err error) {
	for i, dir := range g.dirs() {
		v := View{}
		if g.tree.Version == 1 && g.tree.v1[i].first == "freezer" {
			continue
		}
		if g.tree.Version == 1 {
			v.Name = filepath.Base(filepath.Dir(g.tree.v1[i].path))
		}
		if v.FD, err = unix.OpenTree(dir, g.name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC); err == nil {
			all = append(all, v)
			err = unix.MountSetattr(v.FD, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY |
				unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC, Propagation: unix.MS_PRIVATE})
		}
		if err != nil {
			for _, v := range all {
				unix.Close(v.FD)
			}
			return nil, fmt.Errorf("cgroup: a view of %s: %w", g.name, err)
		}
	}
	return all, nil
}
