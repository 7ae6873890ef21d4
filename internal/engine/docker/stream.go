package docker

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"skerry/internal/engine"
)

// demultiplex reads Docker's stream of output and calls fn with each frame. A
// terminal's is raw.
func demultiplex(r io.Reader, tty bool, fn func(engine.Stream, []byte) error) error {
	buf := make([]byte, 64<<10)
	for {
		if tty {
			n, err := r.Read(buf)
			if n > 0 {
				if err := fn(engine.Stdout, buf[:n]); err != nil {
					return err
				}
			}
			if err != nil {
				return err
			}
			continue
		}
		var head [8]byte // the stream, three zeros, the length
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return err
		}
		stream := engine.Stdout
		if head[0] == 2 {
			stream = engine.Stderr
		}
		for left := int(binary.BigEndian.Uint32(head[4:])); left > 0; {
			n, err := io.ReadFull(r, buf[:min(left, len(buf))])
			if err != nil {
				return err
			}
			left -= n
			if err := fn(stream, buf[:n]); err != nil {
				return err
			}
		}
	}
}

// Logs gives what a container wrote, a frame a line.
func (d *Driver) Logs(ctx context.Context, id engine.ID, q engine.LogQuery, fn func(engine.Frame) error) error {
	c, err := d.inspect(ctx, id)
	if err != nil {
		return err
	}
	query := url.Values{"stdout": {"1"}, "stderr": {"1"}, "timestamps": {"1"}}
	if q.Follow {
		query.Set("follow", "1")
		for c.state() == engine.Created { // Docker's following ends at once before the start
			select {
			case <-time.After(pollPeriod):
			case <-ctx.Done():
				return ctx.Err()
			}
			if c, err = d.inspect(ctx, id); err != nil {
				return err
			}
		}
	}
	a, err := d.send(ctx, request{method: http.MethodGet, path: at(id, "/logs"), query: query})
	if err != nil {
		return fmt.Errorf("engine: logs of %s: %w", id, err)
	}
	defer a.Body.Close()
	var n engine.Cursor
	err = lines(a.Body, c.Config.Tty, func(f engine.Frame) error {
		if n++; n <= q.From {
			return nil
		}
		f.Next = n
		if err := fn(f); err != nil {
			return &stopped{err}
		}
		return nil
	})
	if s, ok := errors.AsType[*stopped](err); ok {
		return s.err
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return unreachable(ctx, err)
}

// stopped is the error of a caller's function.
type stopped struct{ err error }

func (s *stopped) Error() string { return s.err.Error() }

// lines puts a log's lines together and takes their times off.
func lines(r io.Reader, tty bool, fn func(engine.Frame) error) error {
	var parts [3][]byte
	flush := func(stream engine.Stream, line []byte) error {
		stamp, text, _ := strings.Cut(string(line), " ")
		t, err := time.Parse(time.RFC3339Nano, stamp)
		if err != nil {
			t, text = time.Time{}, string(line)
		}
		return fn(engine.Frame{Time: t, Stream: stream, Data: []byte(text)})
	}
	err := demultiplex(r, tty, func(stream engine.Stream, b []byte) error {
		part := append(parts[stream], b...)
		for {
			i := strings.IndexByte(string(part), '\n')
			if i < 0 {
				break
			}
			if err := flush(stream, part[:i+1]); err != nil {
				return err
			}
			part = part[i+1:]
		}
		parts[stream] = part
		return nil
	})
	if errors.Is(err, io.EOF) {
		for stream, part := range parts {
			if len(part) > 0 {
				if err := flush(engine.Stream(stream), part); err != nil {
					return err
				}
			}
		}
	}
	return err
}

// stream is a connection that Docker has handed over.
type stream struct {
	*net.UnixConn
	r *bufio.Reader
}

func (s *stream) Read(b []byte) (int, error) { return s.r.Read(b) }

// hijack sends a request after whose answer the connection carries a stream.
func (d *Driver) hijack(ctx context.Context, r request) (*stream, error) {
	q, err := d.new(ctx, r)
	if err != nil {
		return nil, err
	}
	q.Header.Set("Connection", "Upgrade")
	q.Header.Set("Upgrade", "tcp")
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", d.socket)
	if err != nil {
		return nil, unreachable(ctx, err)
	}
	s := &stream{UnixConn: c.(*net.UnixConn), r: bufio.NewReader(c)}
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	if err := q.Write(c); err != nil {
		_ = c.Close()
		return nil, unreachable(ctx, err)
	}
	a, err := http.ReadResponse(s.r, q)
	if err != nil {
		_ = c.Close()
		return nil, unreachable(ctx, err)
	}
	if a.StatusCode != http.StatusSwitchingProtocols && a.StatusCode != http.StatusOK {
		defer c.Close()
		return nil, readFault(a)
	}
	return s, nil
}

// input writes to a container's standard input.
type input struct {
	*stream
	once sync.Once
}

// Close ends the program's input.
func (i *input) Close() error {
	var err error
	i.once.Do(func() {
		if err = i.stream.CloseWrite(); errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ENOTCONN) {
			err = nil // the program was faster
		}
	})
	return err
}

// Input is a container's standard input.
func (d *Driver) Input(ctx context.Context, id engine.ID) (io.WriteCloser, error) {
	c, err := d.must(ctx, id, "input of", engine.Created, engine.Running, engine.Frozen)
	if err != nil {
		return nil, err
	}
	if !c.Config.OpenStdin {
		return nil, fmt.Errorf("engine: the input of %s is not open: %w", id, engine.ErrState)
	}
	s, err := d.hijack(ctx, request{method: http.MethodPost, path: at(id, "/attach"), query: url.Values{"stream": {"1"}, "stdin": {"1"}}})
	if err != nil {
		return nil, fmt.Errorf("engine: input of %s: %w", id, err)
	}
	go func() { // Docker closes the connection when the program ends
		_, _ = io.Copy(io.Discard, s)
		_ = s.UnixConn.Close()
	}()
	return &input{stream: s}, nil
}

func sizeQuery(s engine.Size) url.Values {
	return url.Values{"h": {strconv.Itoa(int(s.Rows))}, "w": {strconv.Itoa(int(s.Columns))}}
}

// Resize sets the size of a container's terminal.
func (d *Driver) Resize(ctx context.Context, id engine.ID, size engine.Size) error {
	c, err := d.must(ctx, id, "resize", engine.Created, engine.Running, engine.Frozen)
	if err != nil {
		return err
	}
	if !c.Config.Tty {
		return fmt.Errorf("engine: %s has no terminal: %w", id, engine.ErrState)
	}
	return d.do(ctx, http.MethodPost, at(id, "/resize"), sizeQuery(size), nil, nil)
}

// execBody is Docker's "Create an exec instance".
type execBody struct {
	AttachStdin, AttachStdout, AttachStderr, Tty, Privileged bool
	Cmd, Env                                                 []string
	WorkingDir, User                                         string
}

// Exec runs a program in a container.
func (d *Driver) Exec(ctx context.Context, id engine.ID, spec engine.ExecSpec, s engine.Streams) (engine.Exit, error) {
	var none engine.Exit
	if len(spec.Command) == 0 {
		return none, fmt.Errorf("engine: %w: exec without a command", engine.ErrInvalid)
	}
	if _, err := d.must(ctx, id, "exec in", engine.Running); err != nil {
		return none, err
	}
	body := execBody{AttachStdin: s.Stdin != nil, AttachStdout: true, AttachStderr: !spec.TTY, Tty: spec.TTY, Privileged: spec.Privileged,
		Cmd: spec.Command, Env: spec.Env, WorkingDir: spec.Dir}
	if u := spec.User; u != nil {
		if body.User = u.Name; body.User == "" {
			body.User = fmt.Sprintf("%d:%d", u.UID, u.GID)
		}
	}
	var made struct{ ID string }
	if err := d.do(ctx, http.MethodPost, at(id, "/exec"), nil, body, &made); err != nil {
		return none, fmt.Errorf("engine: exec in %s: %w", id, err)
	}
	began := time.Now()
	start := fmt.Sprintf(`{"Detach":false,"Tty":%t}`, spec.TTY)
	c, err := d.hijack(ctx, request{method: http.MethodPost, path: "/exec/" + made.ID + "/start", body: strings.NewReader(start), kind: "application/json"})
	if err != nil {
		return none, fmt.Errorf("engine: exec in %s: %w", id, err)
	}
	defer c.UnixConn.Close()
	if spec.TTY && spec.Size != (engine.Size{}) {
		// The program may have ended, which its exit tells.
		_ = d.do(ctx, http.MethodPost, "/exec/"+made.ID+"/resize", sizeQuery(spec.Size), nil, nil)
	}
	if err := d.carry(ctx, made.ID, c, spec.TTY, s); err != nil {
		return none, fmt.Errorf("engine: exec in %s: %w", id, err)
	}
	var got struct{ ExitCode int }
	if err := d.do(ctx, http.MethodGet, "/exec/"+made.ID+"/json", nil, nil, &got); err != nil {
		return none, fmt.Errorf("engine: exec in %s: %w", id, err)
	}
	if got.ExitCode == 126 || got.ExitCode == 127 {
		// Docker answers the start with success and says why only as output.
		if ok, err := d.findable(ctx, id, spec.Command[0]); err == nil && !ok {
			return none, fmt.Errorf("engine: exec in %s: %w", id, &engine.StartError{Step: "execve", Path: spec.Command[0], Err: syscall.ENOENT})
		}
	}
	return exitOf(got.ExitCode, false, "", began, time.Now()), nil
}

// findable tells whether a program with a path is there.
func (d *Driver) findable(ctx context.Context, id engine.ID, program string) (bool, error) {
	if !strings.HasPrefix(program, "/") {
		return true, nil
	}
	a, err := d.send(ctx, request{method: http.MethodHead, path: at(id, "/archive"), query: url.Values{"path": {program}}})
	if errors.Is(err, engine.ErrNotFound) {
		return false, nil
	}
	if err == nil {
		_ = a.Body.Close()
	}
	return true, err
}

// carry moves input and output of an exec until its output ends.
func (d *Driver) carry(ctx context.Context, exec string, c *stream, tty bool, s engine.Streams) error {
	ended := make(chan struct{})
	var wait sync.WaitGroup
	defer wait.Wait()
	defer close(ended)
	stop := context.AfterFunc(ctx, func() {
		d.kill(exec)
		_ = c.UnixConn.Close()
	})
	defer stop()
	if s.Stdin != nil {
		go func() { // its Read may last longer than the program
			_, _ = io.Copy(c, s.Stdin) // the program's end is no fault
			_ = c.CloseWrite()
		}()
	}
	if s.Resize != nil {
		wait.Go(func() {
			for {
				select {
				case size, ok := <-s.Resize:
					if !ok {
						return
					}
					_ = d.do(ctx, http.MethodPost, "/exec/"+exec+"/resize", sizeQuery(size), nil, nil) // it may have ended
				case <-ended:
					return
				}
			}
		})
	}
	err := demultiplex(c, tty, func(from engine.Stream, b []byte) error {
		to := s.Stdout
		if from == engine.Stderr {
			to = s.Stderr
		}
		if to != nil {
			if _, err := to.Write(b); err != nil {
				return fmt.Errorf("docker: output: %w", err)
			}
		}
		return nil
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	return err
}

// kill ends an exec's process, where it can be seen from here.
func (d *Driver) kill(exec string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var got struct {
		Running bool
		Pid     int
	}
	if d.do(ctx, http.MethodGet, "/exec/"+exec+"/json", nil, nil, &got) == nil && got.Running && got.Pid > 1 {
		_ = syscall.Kill(got.Pid, syscall.SIGKILL) // gone, or on another machine
	}
}

// ReadFiles gives a file or folder as an archive.
func (d *Driver) ReadFiles(ctx context.Context, id engine.ID, path string) (io.ReadCloser, error) {
	a, err := d.send(ctx, request{method: http.MethodGet, path: at(id, "/archive"), query: url.Values{"path": {path}}})
	if err != nil {
		return nil, fmt.Errorf("engine: read %s in %s: %w", path, id, err)
	}
	return a.Body, nil
}

// WriteFiles unpacks an archive into a folder.
func (d *Driver) WriteFiles(ctx context.Context, id engine.ID, path string, archive io.Reader) error {
	a, err := d.send(ctx, request{method: http.MethodPut, path: at(id, "/archive"), query: url.Values{"path": {path}}, body: archive, kind: "application/x-tar"})
	if err != nil {
		return fmt.Errorf("engine: write %s in %s: %w", path, id, err)
	}
	return a.Body.Close()
}
