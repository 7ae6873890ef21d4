//go:build linux && amd64

package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/protocol"
)

// outputGrace is how long a program's output is waited for after its end, where
// others that it has started still hold it: as long as Docker waits.
const outputGrace = 2 * time.Second

// Exec runs a program and carries its input and output.
func (d *Driver) Exec(ctx context.Context, id engine.ID, spec engine.ExecSpec, s engine.Streams) (engine.Exit, error) {
	var none engine.Exit
	c, err := d.connect(ctx)
	if err != nil {
		return none, err
	}
	defer c.Close() // before its end, that kills it
	var theirs, ours []*os.File
	if !spec.TTY {
		if theirs, ours, err = pipes(); err != nil {
			return none, err
		}
	}
	defer func() { closeFiles(ours) }()
	fds := make([]int, 0, 3)
	for _, f := range theirs {
		fds = append(fds, int(f.Fd()))
	}
	err = c.Send(&protocol.Request{Op: protocol.OpExec, ID: id, Exec: &spec}, fds...)
	closeFiles(theirs)
	if err != nil {
		return none, fmt.Errorf("engine: the supervisor: %w", err)
	}
	r, got, err := receive(ctx, c)
	if err == nil {
		err = r.Error.Err()
	}
	if err == nil && spec.TTY {
		if len(got) != 1 {
			return none, fmt.Errorf("engine: exec: %d descriptors", len(got))
		}
		terminal := os.NewFile(uintptr(got[0]), "terminal in "+string(id))
		ours = []*os.File{terminal}
	}
	if err != nil {
		return none, err
	}
	if s.Started != nil {
		s.Started(r.Pid)
	}
	carried := carry(ours, s)
	if r, _, err = receive(ctx, c); err != nil {
		closeFiles(ours)
		carried.abandon()
		return none, err
	}
	carried.end()
	if err := r.Error.Err(); err != nil {
		return none, err
	}
	return *r.Exit, nil
}

// carrier carries a program's input and output.
type carrier struct {
	outputs []*os.File
	done    chan struct{} // closed when all output is carried
	ended   chan struct{} // closed by end
}

// carry begins. Of three files the first is the input's, of one all is the
// terminal.
func carry(files []*os.File, s engine.Streams) *carrier {
	c := &carrier{outputs: files, done: make(chan struct{}), ended: make(chan struct{})}
	terminal := len(files) == 1
	to := []io.Writer{s.Stdout}
	if !terminal {
		c.outputs, to = files[1:], []io.Writer{s.Stdout, s.Stderr}
	}
	go func() {
		if s.Stdin != nil {
			_, _ = io.Copy(files[0], s.Stdin) // a program need not read it all
		}
		if !terminal {
			_ = files[0].Close()
		}
	}()
	var copying sync.WaitGroup
	for i, w := range to {
		if w == nil {
			w = io.Discard
		}
		copying.Go(func() { copyOutput(w, c.outputs[i]) })
	}
	go func() {
		copying.Wait()
		close(c.done)
	}()
	if terminal && s.Resize != nil {
		go c.resize(files[0], s.Resize)
	}
	return c
}

func (c *carrier) resize(terminal *os.File, sizes <-chan engine.Size) {
	for {
		select {
		case size, ok := <-sizes:
			if !ok {
				return
			}
			if raw, err := terminal.SyscallConn(); err == nil {
				_ = raw.Control(func(fd uintptr) {
					_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Columns})
				})
			}
		case <-c.ended:
			return
		}
	}
}

// end returns when all that the program wrote is carried. The program has
// ended; its output ends with whoever holds it, who is waited for a little.
func (c *carrier) end() {
	defer close(c.ended)
	select {
	case <-c.done:
		return
	case <-time.After(outputGrace):
	}
	for _, f := range c.outputs {
		_ = f.SetReadDeadline(time.Unix(1, 0)) // what is there is still carried
	}
	<-c.done
}

// abandon ends the carrying, whose files have been closed. A writer that blocks
// is not waited for without end.
func (c *carrier) abandon() {
	close(c.ended)
	select {
	case <-c.done:
	case <-time.After(outputGrace):
	}
}

// copyOutput copies until the end, or from a deadline on what is there already:
// a pipe's or terminal's worth at most.
func copyOutput(w io.Writer, r *os.File) {
	if _, err := io.Copy(w, r); !errors.Is(err, os.ErrDeadlineExceeded) {
		return
	}
	_ = r.SetReadDeadline(time.Time{})
	raw, err := r.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, 64<<10)
	for range 16 {
		n := 0
		if err := raw.Read(func(fd uintptr) bool { n, _ = unix.Read(int(fd), buf); return true }); err != nil || n <= 0 {
			return
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return
		}
	}
}

// pipes makes three: theirs are the program's ends.
func pipes() (theirs, ours []*os.File, err error) {
	for i := range 3 {
		r, w, err := os.Pipe()
		if err != nil {
			closeFiles(theirs)
			closeFiles(ours)
			return nil, nil, fmt.Errorf("engine: pipe: %w", err)
		}
		if i == 0 {
			theirs, ours = append(theirs, r), append(ours, w)
		} else {
			theirs, ours = append(theirs, w), append(ours, r)
		}
	}
	return theirs, ours, nil
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
