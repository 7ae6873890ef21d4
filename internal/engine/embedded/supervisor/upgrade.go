//go:build linux && amd64

package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/network"
	"skerry/internal/engine/embedded/protocol"
	"skerry/internal/engine/embedded/rootfs"
)

// patience is how long an upgrade waits for calls to end, and for a program to say
// which form of the handover it knows.
const patience = 10 * time.Second

// upgrade has this process go on as the program of a descriptor, unless that is the
// one that it is: then it does not return, and the new program answers. Who asks is
// of this user, or root (see trusted), and could have started anything.
func (s *supervisor) upgrade(conn *protocol.Conn, fds []int) error {
	if len(fds) != 1 {
		return fmt.Errorf("engine: %w: an upgrade to no program", engine.ErrInvalid)
	}
	s.upgrading.Lock()
	defer s.upgrading.Unlock()
	own, err := unix.Open("/proc/self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("engine: upgrade: %w", err)
	}
	defer unix.Close(own)
	same, err := sameProgram(own, fds[0])
	if same {
		return nil
	}
	if err == nil {
		err = s.change(conn, own, fds[0])
	}
	fmt.Fprintln(os.Stderr, "supervisor: not upgraded:", err)
	return fmt.Errorf("engine: upgrade of the supervisor: %w", err)
}

// change is the upgrade. When it returns, everything is as before.
func (s *supervisor) change(conn *protocol.Conn, own, program int) error {
	if s.isEnding() {
		return errEnding
	}
	if err := harmless(program); err != nil {
		return err
	}
	if err := s.ask(program); err != nil {
		return err
	}
	if !s.gate.shut(patience) {
		return fmt.Errorf("some calls have not ended within %v", patience)
	}
	defer s.gate.open()
	s.giveUpBares()
	defer s.allowBares()
	s.janitor.Wait()
	s.reaper.hold()
	defer s.reaper.release()
	s.janitor.Wait() // nobody gives it more
	s.pool.Hold()
	defer s.pool.Go()
	s.disks.Close()
	s.disks = rootfs.NewDisks(protocol.DiskFolder(s.cfg.Data))
	s.kept.drop(time.Now())
	s.pump.moving.Lock()
	defer s.pump.moving.Unlock()

	memory, files, err := s.handOver(conn)
	if err != nil {
		return err
	}
	defer unix.Close(memory)
	files = append(files, memory, own)
	for _, fd := range files {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("descriptor %d: %w", fd, err)
		}
		defer unix.CloseOnExec(fd)
	}
	if s.isEnding() || len(s.signals) > 0 {
		return errEnding
	}
	return become(program, []string{os.Args[0], protocol.Command, os.Args[2], strconv.Itoa(memory), strconv.Itoa(own)})
}

// giveUpBares gives up the children that were made ahead, who wait in this program's
// memory, and makes the containers anew that have got one and are not started.
func (s *supervisor) giveUpBares() {
	s.endBares()
	s.mu.Lock()
	all := slices.Collect(maps.Values(s.containers))
	s.mu.Unlock()
	for _, c := range all {
		c.mu.Lock()
		if b := c.bare; b != nil {
			b.drop()
			<-b.gone
			c.bare = nil
			closeAll(c.mounts)
			c.mounts = -1
			c.ready.close()
			c.ready = nil
			s.closeStdio(c)
			c.log.open()
			s.releaseGroup(c.group)
			c.group = nil
			if err := s.prepare(c); err != nil {
				s.finish(c, engine.Exit{Code: -1, Reason: "lost in an upgrade of the supervisor: " + err.Error()})
			}
		}
		c.mu.Unlock()
	}
}

// allowBares ends giveUpBares.
func (s *supervisor) allowBares() {
	s.bares.mu.Lock()
	defer s.bares.mu.Unlock()
	s.bares.closed = false
}

var errEnding = errors.New("the supervisor is ending")

func (s *supervisor) isEnding() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ending
}

// become executes a program in the place of this one. A signal that comes before
// the program listens for it waits.
func become(program int, args []string) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var was unix.Sigset_t
	wait := unix.Sigset_t{}
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP} {
		wait.Val[0] |= 1 << (sig - 1)
	}
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &wait, &was); err != nil {
		return fmt.Errorf("signals: %w", err)
	}
	err := syscall.Exec(fmt.Sprintf("/proc/self/fd/%d", program), args, os.Environ())
	return errors.Join(fmt.Errorf("execute: %w", err), unix.PthreadSigmask(unix.SIG_SETMASK, &was, nil))
}

// sameProgram tells whether two files have the same content, without reading them
// where they are the same file.
func sameProgram(a, b int) (bool, error) {
	var sa, sb unix.Stat_t
	if err := errors.Join(unix.Fstat(a, &sa), unix.Fstat(b, &sb)); err != nil {
		return false, err
	}
	if sa.Size != sb.Size {
		return false, nil
	}
	if sa.Dev == sb.Dev && sa.Ino == sb.Ino && sa.Mtim == sb.Mtim {
		return true, nil
	}
	var bufs [2][]byte
	for i := range bufs {
		bufs[i] = make([]byte, 1<<20)
	}
	for at := int64(0); at < sa.Size; {
		n, err := unix.Pread(a, bufs[0], at)
		if err != nil || n == 0 {
			return false, errors.Join(err, io.ErrUnexpectedEOF)
		}
		m, err := unix.Pread(b, bufs[1][:n], at)
		if err != nil || !bytes.Equal(bufs[0][:n], bufs[1][:m]) {
			return false, err
		}
		at += int64(n)
	}
	return true, nil
}

// harmless refuses a program that others than its owner's can have written, or that
// has come out of a container.
func harmless(program int) error {
	var st unix.Stat_t
	if err := unix.Fstat(program, &st); err != nil {
		return fmt.Errorf("look at the program: %w", err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return errors.New("the program is no file")
	case st.Mode&unix.S_IWOTH != 0:
		return errors.New("everybody can write the program")
	case network.Container(st.Uid) || network.Container(st.Gid):
		return errors.New("the program is a container's")
	}
	return nil
}

// ask starts a program only to have it say which form of the handover it knows. One
// that cannot be started, or has never heard of that, is not upgraded to.
func (s *supervisor) ask(program int) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("ask the program: %w", err)
	}
	defer r.Close()
	null, err := os.Open(os.DevNull)
	if err == nil {
		defer null.Close()
		var p *os.Process
		p, err = os.StartProcess(fmt.Sprintf("/proc/self/fd/%d", program), []string{os.Args[0], protocol.Command, askForm},
			&os.ProcAttr{Dir: "/", Files: []*os.File{null, w, os.Stderr}})
		if err == nil {
			done := make(chan struct{})
			s.reaper.expect(p.Pid, func(ending) { close(done) })
			defer func() {
				_ = p.Kill() // it has ended, or has nothing more to say
				<-done
				_ = p.Release()
			}()
		}
	}
	_ = w.Close()
	if err != nil {
		return fmt.Errorf("start the program: %w", err)
	}
	_ = r.SetReadDeadline(time.Now().Add(patience))
	answer, err := io.ReadAll(io.LimitReader(r, 512))
	if text := strings.TrimSpace(string(answer)); err != nil || text != strconv.Itoa(form) {
		return errors.Join(fmt.Errorf("the program does not know form %d of the handover, but says %q", form, text), err)
	}
	return nil
}

// goOn is what a program does to which another has handed over. It returns at the
// end. When it cannot take over, it goes back to the other.
func goOn(args []string, version string) {
	failed := ""
	if len(args) > 5 {
		failed = args[5]
	}
	s, err := takeOver(args, version, failed)
	if err == nil {
		s.serve()
		return
	}
	fmt.Fprintln(os.Stderr, "supervisor: cannot take over:", err)
	if old, e := strconv.Atoi(args[min(4, len(args)-1)]); e == nil && len(args) == 5 {
		fmt.Fprintln(os.Stderr, "supervisor: go back:", become(old, append(args, err.Error())))
	}
	os.Exit(1) // the next supervisor cleans up
}
