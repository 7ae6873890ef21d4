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
	var p *executed
	for tries := (tries{}); ; {
		c, err := d.connect(ctx)
		if err != nil {
			return none, err
		}
		if p, err = execute(ctx, c, id, spec); err == nil {
			break
		}
		again := tries.again(ctx, c, err)
		_ = c.Close()
		if !again {
			return none, err
		}
	}
	defer p.conn.Close() // before its end, that kills it
	defer closeFiles(p.files)
	if s.Started != nil {
		s.Started(p.pid)
	}
	carried := carry(p.files, s)
	r, _, err := receive(ctx, p.conn)
	if err != nil {
		closeFiles(p.files)
		carried.abandon()
		return none, err
	}
	carried.end()
	if err := r.Error.Err(); err != nil {
		return none, err
	}
	return *r.Exit, nil
}

// executed is a program that runs: three files for its input and output, or one
// that is its terminal, and the connection on which its end comes.
type executed struct {
	conn  *protocol.Conn
	pid   int
	files []*os.File
}

// execute starts a program, with a connection of its own.
func execute(ctx context.Context, c *protocol.Conn, id engine.ID, spec engine.ExecSpec) (p *executed, err error) {
	var theirs, ours []*os.File
	defer func() {
		if err != nil {
			closeFiles(ours)
		}
	}()
	if !spec.TTY {
		if theirs, ours, err = pipes(); err != nil {
			return nil, err
		}
	}
	fds := make([]int, 0, 3)
	for _, f := range theirs {
		fds = append(fds, int(f.Fd()))
	}
	err = c.Send(&protocol.Request{Op: protocol.OpExec, ID: id, Exec: &spec}, fds...)
	closeFiles(theirs)
	if err != nil {
		return nil, fmt.Errorf("engine: the supervisor: %w", err)
	}
	r, got, err := receive(ctx, c)
	if err == nil {
		err = r.Error.Err()
	}
	if err != nil {
		return nil, err
	}
	if spec.TTY {
		for _, fd := range got {
			ours = append(ours, os.NewFile(uintptr(fd), "terminal in "+string(id)))
		}
		if len(got) != 1 {
			return nil, fmt.Errorf("engine: exec: %d descriptors", len(got))
		}
	}
	return &executed{c, r.Pid, ours}, nil
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
