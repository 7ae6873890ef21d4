//go:build linux

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Device is a rule: what of a device may be done. Nothing else may be.
type Device struct {
	Block        bool
	Major, Minor uint32 // Any is all
	Access       string // of r, w and m (make a node)
}

// Any stands for all numbers.
const Any = ^uint32(0)

func (d Device) String() string {
	kind := "c"
	if d.Block {
		kind = "b"
	}
	number := func(n uint32) string {
		if n == Any {
			return "*"
		}
		return strconv.FormatUint(uint64(n), 10)
	}
	return kind + " " + number(d.Major) + ":" + number(d.Minor) + " " + d.Access
}

// allowedDevices are null, zero, full, random, urandom, tty, ptmx and the
// pseudo-terminals; making nodes is allowed, using others is not.
var allowedDevices = []Device{
	{false, Any, Any, "m"}, {true, Any, Any, "m"}, {false, 1, 3, "rwm"}, {false, 1, 5, "rwm"}, {false, 1, 7, "rwm"},
	{false, 1, 8, "rwm"}, {false, 1, 9, "rwm"}, {false, 5, 0, "rwm"}, {false, 5, 2, "rwm"}, {false, 136, Any, "rwm"},
}

// openDevices makes the group in which most containers are, since they have the
// same devices. Beside it are those of containers with others; above them all
// is one in which every device is allowed.
func (t *Tree) openDevices(path string) error {
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	t.devices = path
	t.Controllers["devices"] = true
	err := setDevices(filepath.Join(path, usualDevices), nil)
	if err == nil {
		t.usual, err = openTasks(unix.AT_FDCWD, filepath.Join(path, usualDevices))
	}
	return err
}

const usualDevices = "usual"

// setDevices makes a group of version 1 with the usual devices and more.
func setDevices(path string, more []Device) error {
	fd, err := openFolder(path)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := write(fd, "devices.deny", "a"); err != nil {
		return err
	}
	for _, rules := range [][]Device{allowedDevices, more} {
		for _, d := range rules {
			if err := write(fd, "devices.allow", d.String()); err != nil {
				return err
			}
		}
	}
	return nil
}

// closeDevices removes the groups of the devices controller, which must be empty.
func (t *Tree) closeDevices() error {
	if t.devices == "" {
		return nil
	}
	left, err := os.ReadDir(t.devices)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cgroup: %w", err)
	}
	var errs []error
	for _, e := range left {
		if e.IsDir() {
			errs = append(errs, removeAt(unix.AT_FDCWD, filepath.Join(t.devices, e.Name())))
		}
	}
	return errors.Join(append(errs, removeAt(unix.AT_FDCWD, t.devices))...)
}

// AllowDevices lets the group's processes, who come later, use more than the
// usual devices.
func (g *Group) AllowDevices(more []Device) error {
	if !g.tree.Controllers["devices"] {
		return fmt.Errorf("cgroup: no control of devices: %w", errors.ErrUnsupported)
	}
	if g.tree.Version == 2 {
		return g.attachDevices(append(append([]Device{}, allowedDevices...), more...))
	}
	g.devices = filepath.Join(g.tree.devices, g.base())
	return setDevices(g.devices, more)
}

// AllowAllDevices ends the control of devices for the processes who come later.
func (g *Group) AllowAllDevices() error {
	switch {
	case !g.tree.Controllers["devices"]:
		return nil
	case g.tree.Version == 2:
		return g.attachDevices([]Device{{false, Any, Any, "rwm"}, {true, Any, Any, "rwm"}})
	}
	g.devices, g.unlimited = g.tree.devices, true
	return nil
}

// dropDevices gives a group's own devices up.
func (g *Group) dropDevices() error {
	own := g.devices
	g.devices = ""
	if g.ownJoin > 0 {
		unix.Close(g.ownJoin)
		g.ownJoin = 0
	}
	if own == "" || own == g.tree.devices {
		return nil
	}
	return removeAt(unix.AT_FDCWD, own)
}

// devicesJoin is where a process of version 1 joins, 0 without such a controller.
func (g *Group) devicesJoin() (fd int, err error) {
	if g.devices == "" {
		return g.tree.usual, nil
	}
	if g.ownJoin == 0 {
		if fd, err = openTasks(unix.AT_FDCWD, g.devices); err != nil {
			return 0, err
		}
		g.ownJoin = fd
	}
	return g.ownJoin, nil
}

func (g *Group) attachDevices(rules []Device) error {
	fd, err := g.Folder()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return attachDevices(fd, rules)
}

// attachDevices puts a filter of devices on a group of version 2: a program that
// goes through the rules. That of a group below takes its place.
func attachDevices(group int, rules []Device) error {
	code := deviceProgram(rules)
	license := []byte("MIT\x00")
	load := struct {
		kind, count   uint32
		code, license uint64
		_             [96]byte
	}{kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: uint32(len(code)),
		code: uint64(uintptr(unsafe.Pointer(&code[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0])))}
	// the kernel's check of the program gives up for a signal, and the Go runtime sends many
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, was unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^uint64(0)
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &was); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	prog, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&load)), unsafe.Sizeof(load))
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &was, nil); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	runtime.KeepAlive(code)
	runtime.KeepAlive(license)
	if errno != 0 {
		return fmt.Errorf("cgroup: load a filter of devices: %w", errno)
	}
	defer unix.Close(int(prog))
	attach := struct{ target, program, kind, flags uint32 }{uint32(group), uint32(prog), unix.BPF_CGROUP_DEVICE, unix.BPF_F_ALLOW_OVERRIDE}
	if _, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_ATTACH, uintptr(unsafe.Pointer(&attach)), unsafe.Sizeof(attach)); errno != 0 {
		return fmt.Errorf("cgroup: attach a filter of devices: %w", errno)
	}
	return nil
}

// instruction is one of eBPF.
type instruction struct {
	op   uint8
	regs uint8 // destination, and source << 4
	off  int16
	imm  int32
}

// deviceProgram answers 1 when a rule allows what is asked: its argument points
// to the kind (the lower half of a word) and access (the upper), the major and
// the minor number.
func deviceProgram(rules []Device) []instruction {
	const (
		loadWord = unix.BPF_LDX | unix.BPF_MEM | unix.BPF_W
		andImm   = unix.BPF_ALU64 | unix.BPF_AND | unix.BPF_K
		shiftImm = unix.BPF_ALU64 | unix.BPF_RSH | unix.BPF_K
		moveReg  = unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_X
		moveImm  = unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_K
		notEqual = unix.BPF_JMP32 | unix.BPF_JNE | unix.BPF_K
		exit     = unix.BPF_JMP | unix.BPF_EXIT
	)
	const context, kind, access, major, minor, rest = 1, 2, 3, 4, 5, 6 // registers
	code := []instruction{
		{loadWord, kind | context<<4, 0, 0}, {moveReg, access | kind<<4, 0, 0}, {shiftImm, access, 0, 16}, {andImm, kind, 0, 0xffff},
		{loadWord, major | context<<4, 4, 0}, {loadWord, minor | context<<4, 8, 0},
	}
	for _, r := range rules {
		k := int32(unix.BPF_DEVCG_DEV_CHAR)
		if r.Block {
			k = unix.BPF_DEVCG_DEV_BLOCK
		}
		allowed := int32(0)
		for _, a := range r.Access {
			allowed |= map[rune]int32{'m': unix.BPF_DEVCG_ACC_MKNOD, 'r': unix.BPF_DEVCG_ACC_READ, 'w': unix.BPF_DEVCG_ACC_WRITE}[a]
		}
		// each jumps over the rest when it is not so
		tests := []instruction{{notEqual, kind, 0, k}}
		if r.Major != Any {
			tests = append(tests, instruction{notEqual, major, 0, int32(r.Major)})
		}
		if r.Minor != Any {
			tests = append(tests, instruction{notEqual, minor, 0, int32(r.Minor)})
		}
		tests = append(tests, instruction{moveReg, rest | access<<4, 0, 0}, instruction{andImm, rest, 0, ^allowed},
			instruction{notEqual, rest, 0, 0}, instruction{moveImm, 0, 0, 1}, instruction{exit, 0, 0, 0})
		for i := range tests {
			if tests[i].op == notEqual {
				tests[i].off = int16(len(tests) - i - 1)
			}
		}
		code = append(code, tests...)
	}
	return append(code, instruction{moveImm, 0, 0, 0}, instruction{exit, 0, 0, 0})
}
