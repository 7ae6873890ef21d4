//go:build linux

// Package cgroup limits, counts and freezes the processes of a container,
// through control groups version 1 or 2. A Tree is the engine's own group, a
// Group is one container's; in version 1 each is a folder in every controller's
// hierarchy.
//
// A process is placed without writing its number into cgroup.procs, which waits
// for a grace period of the kernel when starts are sparse (milliseconds): in
// version 1 the child itself writes "0" into an inherited descriptor (Join), in
// version 2 it is cloned into the group (Group.Folder).
package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrNone means that the machine has no usable cgroups mounted.
var ErrNone = errors.New("no control groups are mounted")

// Mounts is where a machine's cgroups are.
type Mounts struct {
	V1 map[string]string // controller -> folder of its hierarchy
	V2 string            // folder of the unified hierarchy
}

// FindMounts reads them from a mountinfo file such as /proc/self/mountinfo.
func FindMounts(mountinfo string) (Mounts, error) {
	m := Mounts{V1: map[string]string{}}
	f, err := os.Open(mountinfo)
	if err != nil {
		return m, fmt.Errorf("cgroup: %w", err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		before, after, ok := strings.Cut(s.Text(), " - ")
		fields, super := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(super) < 3 {
			continue
		}
		switch super[0] {
		case "cgroup2":
			m.V2 = fields[4]
		case "cgroup":
			for _, c := range strings.Split(super[2], ",") {
				if slices.Contains(v1Controllers, c) {
					m.V1[c] = fields[4]
				}
			}
		}
	}
	return m, nil
}

// v1Controllers are the ones that are used.
var v1Controllers = []string{"memory", "cpu", "cpuacct", "pids", "freezer", "devices", "cpuset"}

// v2Controllers limit; the rest needs no controller.
var v2Controllers = []string{"memory", "cpu", "pids", "cpuset"}

// Tree is the engine's own group, in which the containers' are.
type Tree struct {
	Version     int
	Controllers map[string]bool  // which of memory, cpu, pids, cpuset limit here; freezer, devices
	Why         map[string]error // one that is there cannot be had
	v1          []hierarchy
	of          map[string]int // controller -> index into v1
	CPUs, Mems  string         // processors and memory nodes, with cpuset
	cpus        string         // the folder in the cpuset controller, v1
	devices     string         // the folder in the devices controller, v1
	usual       int            // where those with the usual devices join
	v2          int            // descriptor of the engine's folder
	path        string         // of it

	mu       sync.Mutex
	spare    []*Group // used groups of version 1, empty, with their last limits
	next     int      // number of the next new group
	reserved int64    // memory, by all groups, version 2
}

// hierarchy is a folder of the engine in one mount of version 1.
type hierarchy struct {
	path  string
	fd    int
	first string // one of its controllers
}

// Open makes or finds the engine's group of that name. Version 0 takes what
// the machine has: version 1 if its controllers are mounted, else 2.
func Open(m Mounts, name string, version int) (*Tree, error) {
	if version == 0 {
		switch {
		case m.V1["memory"] != "" || m.V1["freezer"] != "":
			version = 1
		case m.V2 != "":
			version = 2
		default:
			return nil, fmt.Errorf("cgroup: %w", ErrNone)
		}
	}
	t := &Tree{Version: version, Controllers: map[string]bool{}, Why: map[string]error{}, of: map[string]int{}, v2: -1}
	var err error
	if version == 2 {
		err = t.openV2(m.V2, name)
	} else {
		err = t.openV1(m.V1, name)
	}
	if err != nil {
		t.closeAll()
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	return t, nil
}

func (t *Tree) openV1(mounts map[string]string, name string) error {
	seen := map[string]int{}
	for _, c := range v1Controllers {
		mount := mounts[c]
		if mount == "" {
			continue
		}
		path := filepath.Join(mount, name)
		if c == "devices" {
			if err := t.openDevices(path); err != nil {
				return err
			}
			continue
		}
		if c == "cpuset" {
			if err := t.openCPUs(path); err != nil { // it can be had without
				t.Why[c] = err
			}
			continue
		}
		i, ok := seen[mount]
		if !ok {
			fd, err := openFolder(path)
			if err != nil {
				return err
			}
			i = len(t.v1)
			seen[mount] = i
			t.v1 = append(t.v1, hierarchy{path, fd, c})
		}
		t.of[c] = i
		t.Controllers[c] = true
	}
	if len(t.v1) == 0 {
		return ErrNone
	}
	return nil
}

func (t *Tree) openV2(mount, name string) error {
	if mount == "" {
		return ErrNone
	}
	has, err := os.ReadFile(filepath.Join(mount, "cgroup.controllers"))
	if err != nil {
		return err
	}
	t.path = filepath.Join(mount, name)
	if t.v2, err = openFolder(t.path); err != nil {
		return err
	}
	wanted := slices.DeleteFunc(strings.Fields(string(has)), func(c string) bool { return !slices.Contains(v2Controllers, c) })
	if len(wanted) > 0 {
		if err := vacate(mount); err != nil { // it can be had without limits
			for _, c := range wanted {
				t.Why[c] = err
			}
			wanted = nil
		}
	}
	for _, c := range wanted {
		// one at a time: what cannot be had does not take the others along
		for _, dir := range []string{mount, t.path} {
			err = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0)
			if err != nil {
				break
			}
		}
		if t.Controllers[c] = err == nil; err != nil {
			t.Why[c] = err
		}
	}
	if t.Controllers["memory"] { // an engine that died may have left some
		if err := write(t.v2, "memory.low", "0"); err != nil {
			return err
		}
	}
	t.Controllers["freezer"] = true
	if t.Controllers["cpuset"] {
		if err := t.findCPUs(); err != nil {
			t.Controllers["cpuset"], t.Why["cpuset"] = false, err
		}
	}
	dir, err := unix.Open(t.path, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if err := attachDevices(dir, allowedDevices); err != nil { // a kernel may have no such filters
		t.Why["devices"] = err
	} else {
		t.Controllers["devices"] = true
	}
	return nil
}

// vacate moves the processes of a folder of version 2 into one below it. Where
// the engine is in a container, the folder that it sees as the root is not the
// machine's and has the container's processes in it: the groups below would get
// no controllers, or with some of them no processes.
func vacate(mount string) error {
	if _, err := os.Stat(filepath.Join(mount, "cgroup.type")); err != nil {
		return nil // the machine's own root may have both
	}
	for range 100 { // they may be starting others
		b, err := os.ReadFile(filepath.Join(mount, "cgroup.procs"))
		if err != nil {
			return err
		}
		pids := strings.Fields(string(b))
		if len(pids) == 0 {
			return nil
		}
		if slices.Contains(pids, "0") { // of another pid namespace; to write it would be to move this process
			return fmt.Errorf("%s has processes that are not to be seen from here", mount)
		}
		to := filepath.Join(mount, "init")
		if err := os.Mkdir(to, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		for _, pid := range pids {
			err := os.WriteFile(filepath.Join(to, "cgroup.procs"), []byte(pid), 0)
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("make %s free of processes: %w", mount, err)
			}
		}
	}
	return fmt.Errorf("make %s free of processes: more are always started", mount)
}

// openFolder makes a folder if need be and returns its descriptor.
func openFolder(path string) (int, error) {
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return -1, err
	}
	fd, err := unix.Open(path, unix.O_DIRECTORY|unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", path, err)
	}
	return fd, nil
}

// folders are the engine's folders, one in version 2.
func (t *Tree) folders() []string {
	if t.Version == 2 {
		return []string{t.path}
	}
	var all []string
	for _, h := range t.v1 {
		all = append(all, h.path)
	}
	return all
}

// Names are the groups that are there, such as those of an engine that died, those
// in others first.
func (t *Tree) Names() ([]string, error) {
	seen := map[string]bool{}
	var names []string
	for _, dir := range t.folders() {
		all, err := below(unix.AT_FDCWD, dir)
		if err != nil {
			return nil, err
		}
		for _, name := range all {
			if !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// Group is the group of that name, which may have been made by an earlier
// process.
func (t *Tree) Group(name string) *Group { return &Group{tree: t, name: name} }

// Close removes the engine's own group, which must be empty.
func (t *Tree) Close() error {
	var errs []error
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, g := range t.spare {
		errs = append(errs, g.Remove())
	}
	t.spare = nil
	for _, dir := range t.folders() {
		errs = append(errs, removeAt(unix.AT_FDCWD, dir))
	}
	errs = append(errs, t.closeDevices(), t.closeCPUs())
	t.closeAll()
	return errors.Join(errs...)
}

func (t *Tree) closeAll() {
	for _, h := range t.v1 {
		unix.Close(h.fd)
	}
	if t.usual > 0 {
		unix.Close(t.usual)
		t.usual = 0
	}
	if t.v2 >= 0 {
		unix.Close(t.v2)
	}
}

// write writes a file of a group. Signals of the Go runtime interrupt some of
// these (memory limits in version 1), so it tries again.
func write(dir int, file, value string) error {
	fd, err := unix.Openat(dir, file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: file, Err: err}
	}
	defer unix.Close(fd)
	for {
		_, err = unix.Write(fd, []byte(value))
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return &os.PathError{Op: "write " + value + " to", Path: file, Err: err}
		}
	}
}

// read reads a small file of a group.
func read(dir int, file string) (string, error) {
	fd, err := unix.Openat(dir, file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: file, Err: err}
	}
	defer unix.Close(fd)
	var b [4096]byte
	for {
		n, err := unix.Read(fd, b[:])
		if err == nil {
			return strings.TrimSpace(string(b[:n])), nil
		}
		if err != unix.EINTR {
			return "", &os.PathError{Op: "read", Path: file, Err: err}
		}
	}
}
