//go:build linux && amd64

package spawn

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Low are low numbers of descriptors that this process keeps free. A child of one
// that has thousands of descriptors open would get a copy of them all, for as long
// as it lives the space for so many, and has them to close. Instead what its table
// uses is copied to low numbers first; the child begins with its parent's
// descriptors, and its first calls leave it with a copy of those alone.
type Low struct {
	null int      // what is open at a number that is free
	free chan int // where ranges begin
}

// So many ranges of so many numbers, from the first on: one for each child that is
// being made. More of either, and the child gets the copy of all.
const (
	firstOwn  = 3 // those before are standard
	firstLow  = 16
	lowRange  = 32
	lowRanges = 8
)

// ReserveLow keeps them free from now on: call it when little is open yet.
func ReserveLow() (*Low, error) {
	null, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("spawn: %w", err)
	}
	l := &Low{null: null, free: make(chan int, lowRanges)}
	for n := range lowRanges {
		if l.reserve(firstLow + n*lowRange) {
			l.free <- firstLow + n*lowRange
		}
	}
	return l, nil
}

// reserve fills a range in which nothing is open.
func (l *Low) reserve(from int) bool {
	for fd := from; fd < from+lowRange; fd++ {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != unix.EBADF {
			return false
		}
	}
	for fd := from; fd < from+lowRange; fd++ {
		if unix.Dup3(l.null, fd, unix.O_CLOEXEC) != nil {
			return false
		}
	}
	return true
}

// fileTag marks an argument that is a descriptor; no pointer and no other number
// that a call takes looks like it.
const fileTag, tagMask = uintptr(0x4fd0) << 48, uintptr(0xffff) << 48

// File is the argument that stands for a descriptor of this process.
func File(fd int) uintptr { return fileTag | uintptr(fd) }

// lower makes descriptors of the arguments that File has made: copies at low
// numbers, and the child's first call such that it keeps no others. done lets the
// numbers go once there is the child. Where that cannot be, they stay what they are.
func (t *Table) lower(l *Low) (lowered bool, done func()) {
	from, numbers := -1, map[uintptr]uintptr{}
	if l != nil && t.own {
		select {
		case from = <-l.free:
		default:
		}
	}
	done = func() {
		for n := range len(numbers) {
			_ = unix.Dup3(l.null, from+n, unix.O_CLOEXEC)
		}
		if from >= 0 {
			l.free <- from
		}
	}
	if from >= 0 {
		for _, fd := range t.files() {
			n := from + len(numbers)
			if n == from+lowRange || unix.Dup3(int(fd), n, unix.O_CLOEXEC) != nil {
				done()
				from, numbers = -1, map[uintptr]uintptr{}
				break
			}
			numbers[fd] = uintptr(n)
		}
	}
	t.replace(numbers)
	if from >= 0 {
		t.calls[0].args = [6]uintptr{uintptr(from + lowRange), ^uintptr(0), unix.CLOSE_RANGE_UNSHARE}
		// a child that is parked would hold for long what somebody waits for the end of
		t.calls[1].args = [6]uintptr{firstOwn, uintptr(from - 1), 0}
	}
	return from >= 0, done
}

// files are the descriptors among the arguments, each once.
func (t *Table) files() (all []uintptr) {
	seen := map[uintptr]bool{}
	for i := range t.calls {
		for _, a := range t.calls[i].args {
			if a&tagMask == fileTag && !seen[a&^tagMask] {
				seen[a&^tagMask] = true
				all = append(all, a&^tagMask)
			}
		}
	}
	return all
}

// replace makes them numbers again: others, where there are.
func (t *Table) replace(numbers map[uintptr]uintptr) {
	for i := range t.calls {
		args := &t.calls[i].args
		for j, a := range args {
			if a&tagMask != fileTag {
				continue
			}
			args[j] = a &^ tagMask
			if n, ok := numbers[args[j]]; ok {
				args[j] = n
			}
		}
	}
}
