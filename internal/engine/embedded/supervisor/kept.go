//go:build linux && amd64

package supervisor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/engine/embedded/rootfs"
)

// kept are the roots of containers that have been removed and have left them as
// they were: mounted, for the next container of the same image, account and
// range of ids. Most tasks write nothing to their root, and to make folders on a
// disk, to mount an overlay and to remove it all again is more than half of what
// such a container costs.
type kept struct {
	mu   sync.Mutex
	all  []keptTree // the oldest first
	next int        // number of the next folder that is nobody's
}

type keptTree struct {
	key   string
	tree  *rootfs.Tree
	upper string // the folder of what is written; empty: nothing can be
	since time.Time
}

// How many are kept, and how long: the folders of layers that are removed are not
// free before.
const (
	maxTrees = 64
	keepFor  = 10 * time.Second
)

// put keeps a tree, or says that there are enough.
func (k *kept) put(t keptTree) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.all) >= maxTrees {
		return false
	}
	k.all = append(k.all, t)
	return true
}

// take returns the youngest of that key.
func (k *kept) take(key string) (t keptTree, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := len(k.all) - 1; i >= 0; i-- {
		if k.all[i].key == key {
			t = k.all[i]
			k.all = append(k.all[:i], k.all[i+1:]...)
			return t, true
		}
	}
	return t, false
}

// drop takes those down that have not been used since.
func (k *kept) drop(since time.Time) {
	k.mu.Lock()
	var old, young []keptTree
	for _, t := range k.all {
		if t.since.Before(since) {
			old = append(old, t)
		} else {
			young = append(young, t)
		}
	}
	k.all = young
	k.mu.Unlock()
	for _, t := range old {
		t.close()
	}
}

func (t keptTree) close() {
	if t.tree != nil {
		t.tree.Close()
	}
	if t.upper != "" {
		if err := os.RemoveAll(t.upper); err != nil {
			fmt.Fprintln(os.Stderr, "supervisor:", err)
		}
	}
}

// place is a path among the folders of what is written that no container has.
func (s *supervisor) place() string {
	s.kept.mu.Lock()
	defer s.kept.mu.Unlock()
	s.kept.next++
	return filepath.Join(s.uppers(), fmt.Sprintf(".spare%d", s.kept.next))
}

// treeKey is the same for containers of which one can have another's root; empty:
// it is for no other. Layers are told apart by what their folders are now: those of
// an image that has been removed are gone, though still mounted.
func (s *supervisor) treeKey(c *container, written bool) string {
	if c.bounds.privileged || c.bounds.mounts || c.spec.Root.Size > 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%q %d %t %t", c.account, c.base(), written, c.bounds.newPrivileges)
	for _, l := range c.image.layers {
		var st unix.Stat_t
		if unix.Lstat(l, &st) != nil {
			return ""
		}
		fmt.Fprintf(&b, " %d:%d", st.Dev, st.Ino)
	}
	return b.String()
}

// keptRoot gives a container a root that was kept, if there is one.
func (s *supervisor) keptRoot(c *container, written bool) bool {
	key := s.treeKey(c, written)
	if key == "" {
		return false
	}
	t, ok := s.kept.take(key)
	if ok && written {
		if err := os.Rename(t.upper, s.upper(c.id)); err != nil {
			t.close()
			return false
		}
	}
	if ok {
		c.tree, c.written = t.tree, written
	}
	return ok
}

// takeTree takes a container's root from it; c.mu is held, and its network still
// its own.
func (s *supervisor) takeTree(c *container) keptTree {
	t := keptTree{tree: c.tree}
	if c.tree != nil && !c.opened {
		t.key = s.treeKey(c, c.written)
	}
	c.tree = nil
	return t
}

// dropTree gives up the root of a container and what it has written, whose name is
// free when it returns. What it returns does the rest, which may take long; nil:
// there is nothing more to do.
func (s *supervisor) dropTree(c *container, t keptTree) (rest func()) {
	if c.image.id == "" {
		return nil
	}
	if place := s.place(); os.Rename(s.upper(c.id), place) == nil {
		t.upper = place
	}
	return func() {
		<-c.run.gone
		if t.key != "" && t.tree.Untouched() {
			t.since = time.Now()
			if s.kept.put(t) {
				return
			}
		}
		t.close()
	}
}
