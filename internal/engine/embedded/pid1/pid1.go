//go:build linux && amd64

// Package pid1 is the small program that is process 1 of a container that asks
// for an init: it runs the command, passes every signal on to it, reaps the
// orphans, and ends as the command does, with 128+n for signal n.
//
// The program is a hundred instructions of assembly in this package. Open
// puts a copy of them, with the head of an executable before it, into a sealed
// file in memory, from which it is executed in the container. So there is no
// file to install, none that the container could reach or change, and this
// program itself, whose initialization takes milliseconds, is not executed
// there.
package pid1

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Report is the descriptor on which the program says why the command could not
// be executed: an error number, 4 bytes. It is closed once the command has been.
const Report = 3

// maxCode bounds the search for the code's end.
const maxCode = 4096

// end is behind the code.
var end = []byte("skeryEnd")

// program is never called: see code.
//
//lint:ignore U1000 the assembly uses it
func program()

// code returns where program begins.
func code() *byte

// Args are the program's arguments: the places where the command may be, which
// are tried in turn, and the command.
func Args(places, command []string) []string {
	return slices.Concat([]string{"init"}, places, []string{"--"}, command)
}

// Open returns the program as a file in memory that cannot be changed.
func Open() (fd int, err error) {
	text := unsafe.Slice(code(), maxCode)
	n := bytes.Index(text, end)
	if n < 0 {
		return -1, errors.New("pid1: the code has no end")
	}
	fd, err = unix.MemfdCreate("init", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if err == unix.EINVAL { // before Linux 6.3, where all are executable
		fd, err = unix.MemfdCreate("init", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return -1, fmt.Errorf("pid1: %w", err)
	}
	if _, err = unix.Write(fd, executable(text[:n])); err == nil {
		err = unix.Fchmod(fd, 0o555)
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("pid1: %w", err)
	}
	return fd, nil
}

// base is the address at which the file is mapped, head and all.
const base = 0x400000

// executable puts the head of an ELF file before the code.
func executable(text []byte) []byte {
	const head, entry = 64, 56
	start := uint64(head + 2*entry)
	size := start + uint64(len(text))
	le := binary.LittleEndian
	b := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9)...) // 64 bits, little endian
	b = le.AppendUint16(b, 2)                                      // executable
	b = le.AppendUint16(b, 62)                                     // for x86-64
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, base+start)
	b = le.AppendUint64(b, head)       // the program headers
	b = append(b, make([]byte, 12)...) // no sections, no flags
	for _, n := range []uint16{head, entry, 2, 0, 0, 0} {
		b = le.AppendUint16(b, n)
	}
	segment := func(kind, flags uint32, at, size uint64) {
		b = le.AppendUint32(b, kind)
		b = le.AppendUint32(b, flags)
		for _, n := range []uint64{0, at, at, size, size, 4096} {
			b = le.AppendUint64(b, n)
		}
	}
	segment(1, 4|1, base, size)    // PT_LOAD, read and execute
	segment(0x6474e551, 4|2, 0, 0) // PT_GNU_STACK, which is not executed
	return append(b, text...)
}
