//go:build linux && amd64

package supervisor

import (
	"encoding/binary"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"skerry/internal/engine/embedded/pid1"
	"skerry/internal/engine/embedded/spawn"
)

// openInit opens the program that is process 1 where a container asks for an
// init, at a number that a child does not use for something else.
func openInit() (int, error) {
	fd, err := pid1.Open()
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	return above(fd)
}

// above copies a descriptor to a number above those that addInit uses.
func above(fd int) (int, error) {
	up, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, pid1.Report+2)
	if err != nil {
		return -1, fmt.Errorf("supervisor: copy a descriptor: %w", err)
	}
	return up, nil
}

// report is a pipe on which an init says why it could not execute the command.
// Without init there is none.
type report struct{ read, write int }

func newReport(needed bool) (r report, err error) {
	r = report{-1, -1}
	if !needed {
		return r, nil
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return r, fmt.Errorf("supervisor: report of an init: %w", err)
	}
	r.read = p[0]
	r.write, err = above(p[1])
	unix.Close(p[1])
	if err != nil {
		r.close()
	}
	return r, err
}

func (r *report) close() {
	closeAll(r.read, r.write)
	r.read, r.write = -1, -1
}

// wait returns once the command has been executed, or the reason why not.
func (r *report) wait() error {
	if r.read < 0 {
		return nil
	}
	unix.Close(r.write)
	r.write = -1
	var b [4]byte
	for {
		n, err := unix.Read(r.read, b[:])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("supervisor: report of an init: %w", err)
		case n == len(b):
			return &spawn.Error{Name: "execve", Errno: syscall.Errno(binary.LittleEndian.Uint32(b[:]))}
		default: // the end: it has been executed, or killed
			return nil
		}
	}
}

// addInit is the end of a table in which the command is not process 1, in the
// order of addExec. The init begins with all signals blocked, as the child is.
func (s *supervisor) addInit(t *spawn.Table, r report, command, env []string, dir string) {
	t.Add("report", unix.SYS_DUP3, spawn.File(r.write), pid1.Report, 0)
	t.Add("init", unix.SYS_DUP3, spawn.File(s.init), pid1.Report+1, unix.O_CLOEXEC)
	t.Add("close", unix.SYS_CLOSE_RANGE, pid1.Report+2, ^uintptr(0), 0)
	t.Add("chdir", unix.SYS_CHDIR, t.String(dir))
	args := t.Strings(pid1.Args(candidates(command[0], env), command))
	t.Add("execute init", unix.SYS_EXECVEAT, pid1.Report+1, t.String(""), args, t.Strings(env), unix.AT_EMPTY_PATH)
}
