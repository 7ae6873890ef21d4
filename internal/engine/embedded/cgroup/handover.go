//go:build linux

package cgroup

import "errors"

// TreeState is a tree as it is handed to another program that goes on with it in
// the same process. Descriptors keep their numbers.
type TreeState struct {
	Version     int
	Controllers map[string]bool
	Why         map[string]string
	V1          []HierarchyState
	Of          map[string]int
	Devices     string
	Usual, V2   int
	Path        string
	Next        int
	Reserved    int64
	Spare       []GroupState
	CPUs, Mems  string
	CPUSet      string // the folder
}

// HierarchyState is one of version 1.
type HierarchyState struct {
	Path, First string
	FD          int
}

// GroupState is a group likewise.
type GroupState struct {
	Name              string
	Limits            Limits
	Kills, CPU        int64
	Devices           string
	Reserved          int64
	Frozen, Unlimited bool
	CPUSet            string // the folder
}

// ParentState is a parent likewise.
type ParentState struct {
	Group    GroupState
	Users    int
	Reserved int64
}

// State describes the tree, which nobody uses meanwhile. keep is told its
// descriptors.
func (t *Tree) State(keep func(fds ...int)) TreeState {
	s := TreeState{Version: t.Version, Controllers: t.Controllers, Why: map[string]string{}, Of: t.of, Devices: t.devices,
		Usual: t.usual, V2: t.v2, Path: t.path, Next: t.next, Reserved: t.reserved,
		CPUs: t.CPUs, Mems: t.Mems, CPUSet: t.cpus}
	for what, why := range t.Why {
		s.Why[what] = why.Error()
	}
	for _, h := range t.v1 {
		keep(h.fd)
		s.V1 = append(s.V1, HierarchyState{h.path, h.first, h.fd})
	}
	for _, g := range t.spare {
		s.Spare = append(s.Spare, g.State())
	}
	if t.usual > 0 {
		keep(t.usual)
	}
	keep(t.v2)
	return s
}

// TakeOver returns the tree of a description. Nothing of the machine is changed.
func TakeOver(s TreeState) *Tree {
	t := &Tree{Version: s.Version, Controllers: s.Controllers, Why: map[string]error{}, of: s.Of, devices: s.Devices,
		usual: s.Usual, v2: s.V2, path: s.Path, next: s.Next, reserved: s.Reserved,
		CPUs: s.CPUs, Mems: s.Mems, cpus: s.CPUSet}
	for what, why := range s.Why {
		t.Why[what] = errors.New(why)
	}
	for _, h := range s.V1 {
		t.v1 = append(t.v1, hierarchy{h.Path, h.FD, h.First})
	}
	for _, g := range s.Spare {
		t.spare = append(t.spare, t.TakeOverGroup(g, nil))
	}
	return t
}

// State describes the group. Where processes join it is opened again at need.
func (g *Group) State() GroupState {
	return GroupState{g.name, g.limits, g.kills, g.cpu, g.devices, g.reserved, g.frozen, g.unlimited, g.cpus}
}

// TakeOverGroup returns the group of a description; parent is the one it is in, or
// nil.
func (t *Tree) TakeOverGroup(s GroupState, parent *Parent) *Group {
	return &Group{tree: t, name: s.Name, parent: parent, limits: s.Limits, kills: s.Kills, cpu: s.CPU, devices: s.Devices,
		reserved: s.Reserved, frozen: s.Frozen, unlimited: s.Unlimited, cpus: s.CPUSet}
}

// State describes the parent.
func (p *Parent) State() ParentState { return ParentState{p.group.State(), p.users, p.reserved} }

// TakeOverParent returns the parent of a description.
func (t *Tree) TakeOverParent(s ParentState) *Parent {
	return &Parent{group: t.TakeOverGroup(s.Group, nil), users: s.Users, reserved: s.Reserved}
}
