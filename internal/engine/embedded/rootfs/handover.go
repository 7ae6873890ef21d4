//go:build linux && amd64

package rootfs

// RootsState is Roots as they are handed to another program that goes on with
// them in the same process. Descriptors keep their numbers.
type RootsState struct {
	Room   int
	Made   []PreparedState
	Next   int
	Dev    bool
	Places []string
}

// PreparedState is a prepared root likewise.
type PreparedState struct {
	Key  []byte
	Path string
	Used int
}

// TreeState is a tree likewise. Its layers are mounted, if it is.
type TreeState struct {
	Layers           []string
	Upper            string
	OnDisk           bool
	Base             uint32
	Trusted, Devices bool
	Path             string
	Mounted, Whole   bool
	Begin            look
}

// SharedDiskState is a shared disk likewise.
type SharedDiskState struct {
	Loop, Mount int
	Path        string
}

// State describes the room by the descriptor of its namespace.
func (r *Room) State(keep func(fds ...int)) int {
	keep(r.fd)
	return r.fd
}

// TakeOverRoom returns the room of a description.
func TakeOverRoom(fd int) (*Room, error) {
	r := &Room{fd: -1}
	if err := r.openHome(); err != nil {
		r.Close()
		return nil, err
	}
	r.fd = fd
	return r, nil
}

// State describes the roots, which nobody uses meanwhile. keep is told their
// descriptors.
func (r *Roots) State(keep func(fds ...int)) RootsState {
	s := RootsState{Room: r.room.State(keep), Next: r.next, Dev: r.dev, Places: r.places}
	for key, p := range r.made {
		s.Made = append(s.Made, PreparedState{key[:], p.path, p.used})
	}
	return s
}

// TakeOverRoots returns the roots of a description.
func TakeOverRoots(s RootsState, skeleton string) (*Roots, error) {
	room, err := TakeOverRoom(s.Room)
	if err != nil {
		return nil, err
	}
	// the skeleton is there, and a layer of what is mounted
	r := &Roots{room: room, made: map[[32]byte]*prepared{}, next: s.Next, dev: s.Dev, skeleton: skeleton, places: s.Places}
	for _, p := range s.Made {
		var key [32]byte
		copy(key[:], p.Key)
		r.made[key] = &prepared{p.Path, p.Used}
	}
	return r, nil
}

// State describes the tree, which nobody uses meanwhile; nil is none.
func (t *Tree) State() *TreeState {
	if t == nil {
		return nil
	}
	i := t.image
	return &TreeState{i.Layers, i.Upper, i.Disk > 0, i.Base, i.Trusted, i.Devices, t.path, t.mounted, t.whole, t.begin}
}

// TakeOverTree returns the tree of a description; nil is none.
func (r *Roots) TakeOverTree(s *TreeState) *Tree {
	if s == nil {
		return nil
	}
	i := Image{Layers: s.Layers, Upper: s.Upper, Base: s.Base, Trusted: s.Trusted, Devices: s.Devices}
	if s.OnDisk {
		i.Disk = 1 // used up: it is not looked at again but for whether there is one
	}
	return &Tree{roots: r, image: i, path: s.Path, mounted: s.Mounted, whole: s.Whole, begin: s.Begin}
}

// State describes the disk.
func (s *SharedDisk) State(keep func(fds ...int)) SharedDiskState {
	keep(s.loop, s.mount)
	return SharedDiskState{s.loop, s.mount, s.path}
}

// TakeOverDisk returns the disk of a description.
func TakeOverDisk(s SharedDiskState) *SharedDisk { return &SharedDisk{s.Loop, s.Mount, s.Path} }
