//go:build linux && amd64

// Package spawn starts a process by a precomputed table of raw system calls:
// the child is cloned with vfork's semantics, goes through the table, whose
// last entry is execve, and never runs a line of Go. That makes a container in
// about a millisecond however big the calling process is: no page table is
// copied and no helper is executed.
//
// # The rules of code between vfork and exec
//
// The child shares all memory with its parent, the stack included, while the
// parent's thread waits inside clone3 and the parent's other threads run on.
// So, until it executes a program or exits, the child must not
//
//  1. touch the stack, return, or call: the parent goes on with that stack.
//     Hence a loop in assembly that keeps all it needs in registers.
//  2. run Go: no allocation, no stack growth, no write barrier, no scheduler.
//     Everything is computed before: strings, arrays, descriptors, masks.
//  3. take a signal: a Go handler would run on the parent's structures. All
//     signals are blocked before clone3, and CLONE_CLEAR_SIGHAND puts the
//     handlers back to the default; the table unblocks just before execve,
//     and a signal that waits then ends the child, not the parent.
//  4. write anywhere but into the table's own result words and the frame's
//     error words, which nobody else reads before clone3 has returned. (One that
//     is parked also reads what others have written for it: see Park.)
//
// And the parent must
//
//  5. keep everything that the table points to reachable until clone3 has
//     returned (Table.arena and Table.keep), at a fixed address: the heap's
//     objects do not move; nothing in the table points into a stack.
//  6. tell the runtime that the thread is in a system call (entersyscallblock), so
//     that neither garbage collection nor other goroutines wait for a child.
//
// Descriptors, working directory and namespaces are copies (no CLONE_FILES, no
// CLONE_FS, unless asked for; with Low from the first call on), so what the child
// does to them is its own.
package spawn

import (
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Ref names the result of an earlier call, for use as an argument.
type Ref int

// call is one entry. The assembly knows its layout.
type call struct {
	number   uintptr
	args     [6]uintptr
	result   uintptr // where the result is written too; 0 = nowhere
	tolerate uintptr // an error (negative errno) that is passed over; anyError passes over all
}

const anyError = 1

// Table is a list of system calls for a child to make. The zero Table is empty
// and ready. It is for one use by one goroutine, but for what Park brings.
type Table struct {
	calls []call
	names []string // of each call, for errors
	refs  []reference
	arena []byte
	keep  []any
	own   bool // the first calls are for the child's own descriptors
	park  *park
}

// ownCalls are those for the child's own descriptors.
const ownCalls = 2

// NewTable returns a table with space for so many calls, whose child does not need
// a copy of all descriptors: see Low.
func NewTable(calls int) *Table {
	t := &Table{calls: make([]call, 0, calls), names: make([]string, 0, calls), own: true}
	for range ownCalls {
		t.Add("own descriptors", unix.SYS_CLOSE_RANGE, ^uintptr(0)>>32, ^uintptr(0)>>32, 0) // none, unless lower changes it
	}
	return t
}

// reference says that an argument is an earlier call's result.
type reference struct{ call, arg, from int }

// Add appends a call. Pointers among its arguments are made by String, Strings
// and Keep. The name is for the error.
func (t *Table) Add(name string, number uintptr, args ...uintptr) Ref {
	c := call{number: number}
	copy(c.args[:], args)
	t.calls = append(t.calls, c)
	t.names = append(t.names, name)
	return Ref(len(t.calls) - 1)
}

// Use makes an argument (0 to 5) of the call added last the result of an
// earlier one.
func (t *Table) Use(arg int, from Ref) {
	t.refs = append(t.refs, reference{len(t.calls) - 1, arg, int(from)})
}

// Store has a call's result written to a word that Keep gave the address of.
func (t *Table) Store(from Ref, word uintptr) { t.calls[from].result = word }

// Tolerate has the call added last pass over one error.
func (t *Table) Tolerate(errno syscall.Errno) { t.calls[len(t.calls)-1].tolerate = -uintptr(errno) }

// TolerateAny has the call added last pass over every error.
func (t *Table) TolerateAny() { t.calls[len(t.calls)-1].tolerate = anyError }

// String puts a string, zero-ended, where the child can read it.
func (t *Table) String(s string) uintptr {
	if cap(t.arena)-len(t.arena) < len(s)+1 {
		t.keep = append(t.keep, t.arena)
		t.arena = make([]byte, 0, max(4096, len(s)+1))
	}
	at := len(t.arena)
	t.arena = append(append(t.arena, s...), 0)
	return uintptr(unsafe.Pointer(&t.arena[at]))
}

// Strings makes an array of strings that ends in a null pointer, as execve
// takes it.
func (t *Table) Strings(list []string) uintptr {
	array := make([]uintptr, len(list)+1)
	for i, s := range list {
		array[i] = t.String(s)
	}
	t.keep = append(t.keep, array)
	return uintptr(unsafe.Pointer(&array[0]))
}

// Keep returns the address of what p points to, which must be on the heap, and
// keeps it until the child has gone its own way.
func Keep[T any](t *Table, p *T) uintptr {
	t.keep = append(t.keep, p)
	return uintptr(unsafe.Pointer(p))
}

// Error is a call of the table that failed.
type Error struct {
	Name  string // the entry's
	Errno syscall.Errno
}

func (e *Error) Error() string { return e.Name + ": " + e.Errno.Error() }

// Unwrap returns the error number.
func (e *Error) Unwrap() error { return e.Errno }

// Clone says how the child is made.
type Clone struct {
	Flags  uint64 // CLONE_NEW*, CLONE_FILES
	Cgroup int    // descriptor of a cgroup v2 folder, 0 = the parent's
	Silent bool   // no SIGCHLD: only a wait for this very child sees its end
	Low    *Low   // for tables of NewTable; nil: the child gets a copy of all descriptors
}

// cloneArgs is struct clone_args of clone3(2).
//
//lint:ignore U1000 the kernel reads all of it
type cloneArgs struct {
	flags, pidfd, childTid, parentTid, exitSignal uint64
	stack, stackSize, tls, setTid, setTidSize     uint64
	cgroup                                        uint64
}

// frame is what parent and child share. The assembly knows its layout.
//
//lint:ignore U1000 the assembly uses what Go does not
type frame struct {
	clone     *cloneArgs
	size      uintptr
	calls     *call
	count     uintptr
	pid       uintptr // result of clone3
	errno     uintptr // of the call that failed
	left      uintptr // calls left, the failed one included
	all, kept uint64  // signal masks
}

const clearSighand = 0x100000000 // CLONE_CLEAR_SIGHAND

// Run makes a child and returns once it has executed its program, or has gone
// through a table without one and exited. An *Error is a call that failed; the
// child is a zombie then as well, and pid is set: the caller waits for it.
func (t *Table) Run(c Clone) (pid, pidfd int, err error) {
	t.lock()
	defer t.unlock()
	defer t.park.end()
	if t.park != nil {
		t.park.begun = true
	}
	if err := t.link(); err != nil {
		return 0, -1, err
	}
	lowered, done := t.lower(c.Low)
	done = sync.OnceFunc(done)
	defer done()
	if t.park != nil && !lowered {
		return 0, -1, errCrowded
	}
	if lowered {
		c.Flags |= unix.CLONE_FILES // until the first call
	}
	fd := new(int32)
	*fd = -1
	if t.park != nil {
		t.park.pidfd, t.park.done = fd, done
	}
	args := &cloneArgs{
		flags:      c.Flags | unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_PIDFD | clearSighand,
		pidfd:      uint64(uintptr(unsafe.Pointer(fd))),
		exitSignal: uint64(unix.SIGCHLD),
	}
	if c.Silent {
		args.exitSignal = 0
	}
	if c.Cgroup > 0 {
		args.flags |= unix.CLONE_INTO_CGROUP
		args.cgroup = uint64(c.Cgroup)
	}
	f := &frame{clone: args, size: unsafe.Sizeof(*args), calls: unsafe.SliceData(t.calls), count: uintptr(len(t.calls)), all: ^uint64(0)}
	t.unlock()
	run(f)
	t.lock()
	runtime.KeepAlive(t)
	runtime.KeepAlive(fd)
	if int(f.pid) < 0 {
		return 0, -1, &Error{"clone3", syscall.Errno(-int(f.pid))}
	}
	if f.errno != 0 {
		err = &Error{t.names[len(t.calls)-int(f.left)], syscall.Errno(f.errno)}
	}
	return int(f.pid), int(*fd), err
}

// link makes results the arguments that they are to be.
func (t *Table) link() error {
	for _, r := range t.refs {
		// several users of one result: the first gets it by its result word,
		// the others would need more words, so results go to one place each
		if from := &t.calls[r.from]; from.result == 0 {
			from.result = uintptr(unsafe.Pointer(&t.calls[r.call].args[r.arg]))
		} else {
			return fmt.Errorf("spawn: the result of %s is used twice", t.names[r.from])
		}
	}
	return nil
}

// run is a blocking system call to the runtime: see rule 6.
//
//go:nosplit
//go:norace
func run(f *frame) {
	entersyscallblock()
	vfork(f)
	exitsyscall()
}

//go:noescape
func vfork(f *frame)

//go:linkname entersyscallblock runtime.entersyscallblock
func entersyscallblock()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()
