//go:build linux && amd64

package supervisor

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/segment"
)

// pump reads the pipes of all containers in one goroutine.
type pump struct {
	epoll  int
	moving sync.Mutex // held while pipes are read, and by who wants none to be
	mu     sync.Mutex
	pipes  map[int32]*log
}

func newPump() (*pump, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("supervisor: epoll: %w", err)
	}
	return &pump{epoll: fd, pipes: map[int32]*log{}}, nil
}

func (p *pump) run() {
	events := make([]unix.EpollEvent, 64)
	buf := newBuffer()
	for {
		n, err := unix.EpollWait(p.epoll, events, -1)
		if err != nil && err != unix.EINTR {
			fmt.Fprintln(os.Stderr, "supervisor: epoll:", err)
			return
		}
		p.moving.Lock()
		for i := range max(n, 0) {
			p.mu.Lock()
			l := p.pipes[events[i].Fd]
			p.mu.Unlock()
			if l != nil {
				p.read(l, int(events[i].Fd), buf)
			}
		}
		p.moving.Unlock()
	}
}

// read reads what there is. A terminal that has been hung up stays ready with
// nothing to read, so terminals tell of what is new only, and are read to their
// end: a few frames at a time, so that none keeps the others waiting.
func (p *pump) read(l *log, fd int, buf *buffer) {
	for n := 0; l.read(fd, buf) && l.terminal; n++ {
		if n == 16 {
			e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(fd)}
			_ = unix.EpollCtl(p.epoll, unix.EPOLL_CTL_MOD, fd, &e) // tells again; gone with the log's end
			return
		}
	}
}

func (p *pump) add(l *log) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, fd := range l.pipes {
		if fd < 0 {
			continue
		}
		p.pipes[int32(fd)] = l
		e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
		if l.terminal {
			e.Events |= unix.EPOLLET
		}
		if err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &e); err != nil {
			return fmt.Errorf("supervisor: watch a pipe: %w", err)
		}
	}
	return nil
}

func (p *pump) remove(l *log) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, fd := range l.pipes {
		if p.pipes[int32(fd)] == l {
			delete(p.pipes, int32(fd))
			_ = unix.EpollCtl(p.epoll, unix.EPOLL_CTL_DEL, fd, nil)
		}
	}
}

// The sizes of logs, when nothing is said.
const (
	maxFrame   = 64 << 10
	maxSegment = 16 << 20
	maxKept    = 16 // segments of one container
)

// limits are how many segments the log may have, and of what size.
func (l *log) limits() (files int, size int64) {
	files, size = l.files, l.size
	if files == 0 {
		files = maxKept
	}
	if size == 0 {
		size = maxSegment
	}
	return files, size
}

// buffer holds a frame: its head and its data, so that one write appends it.
type buffer [segment.Head + maxFrame]byte

func newBuffer() *buffer { return new(buffer) }

// buffers saves drain, which every exit needs, from making one.
var buffers = sync.Pool{New: func() any { return newBuffer() }}

// log is one container's output: two pipes or a terminal, and segment files of
// frames. The files are made with the first output.
type log struct {
	dir      string
	pipes    [2]int // stdout's and stderr's reading ends; -1 when closed
	terminal bool   // the first is a terminal's master, and there is no other
	files    int    // how many segments are kept
	size     int64  // of a segment, in bytes

	mu       sync.Mutex
	file     int // the last segment's descriptor, -1 when there is none
	segments []int64
	end      int64
	more     chan struct{} // closed at the next frame or at the end; nil when nobody waits
	ended    bool
}

// read moves what a pipe has now into the log, one frame.
func (l *log) read(fd int, buf *buffer) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	stream := engine.Stdout
	if fd == l.pipes[1] {
		stream = engine.Stderr
	} else if fd != l.pipes[0] {
		return false // closed meanwhile
	}
	n, err := unix.Read(fd, buf[segment.Head:l.frame()])
	if err != nil || n <= 0 {
		return false // EAGAIN
	}
	binary.LittleEndian.PutUint64(buf[0:], uint64(time.Now().UnixNano()))
	binary.LittleEndian.PutUint32(buf[8:], uint32(n))
	binary.LittleEndian.PutUint32(buf[12:], uint32(stream))
	l.append(buf[:segment.Head+n])
	l.wake()
	return true
}

// drain moves everything that the pipes have.
func (l *log) drain() {
	buf := buffers.Get().(*buffer)
	defer buffers.Put(buf)
	l.mu.Lock()
	pipes := l.pipes
	l.mu.Unlock()
	for _, fd := range pipes {
		for fd >= 0 && l.read(fd, buf) {
		}
	}
}

// append writes a frame; l.mu is held. What cannot be written (a full disk) is
// lost, but the container goes on.
func (l *log) append(frame []byte) {
	// a segment begins with a frame, however small it is to be
	if _, size := l.limits(); l.file < 0 || l.end > l.last() && l.end-l.last()+int64(len(frame)) > size {
		if err := l.rotate(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return
		}
	}
	at := l.end - l.last()
	if n, err := unix.Pwrite(l.file, frame, at); err != nil || n < len(frame) {
		_ = unix.Ftruncate(l.file, at)
		fmt.Fprintln(os.Stderr, "supervisor: log:", err)
		return
	}
	l.end += int64(len(frame))
}

// frame is how long a frame may be with its head: no longer than a segment.
func (l *log) frame() int64 {
	_, size := l.limits()
	return min(max(size, 1<<10), segment.Head+maxFrame)
}

// last is where the last segment begins.
func (l *log) last() int64 { return l.segments[len(l.segments)-1] }

func (l *log) rotate() error {
	if l.file >= 0 {
		unix.Close(l.file)
		l.file = -1
	}
	if len(l.segments) == 0 {
		if err := os.MkdirAll(l.dir, 0o700); err != nil {
			return fmt.Errorf("supervisor: log: %w", err)
		}
	}
	fd, err := unix.Open(segment.Path(l.dir, l.end), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("supervisor: log: %w", err)
	}
	l.file = fd
	l.segments = append(l.segments, l.end)
	if files, _ := l.limits(); len(l.segments) > files {
		_ = os.Remove(segment.Path(l.dir, l.segments[0]))
		l.segments = l.segments[1:]
	}
	return nil
}

// wake wakes the followers; l.mu is held.
func (l *log) wake() {
	if l.more != nil {
		close(l.more)
		l.more = nil
	}
}

// extent says how far the log reaches, and gives a channel for when that
// changes.
func (l *log) extent() (first, end int64, ended bool, more <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.more == nil {
		l.more = make(chan struct{})
	}
	if len(l.segments) > 0 {
		first = l.segments[0]
	}
	return first, l.end, l.ended, l.more
}

// close ends the log: nothing is written any more.
func (l *log) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, fd := range l.pipes {
		if fd >= 0 {
			unix.Close(fd)
		}
		l.pipes[i] = -1
	}
	if l.file >= 0 {
		unix.Close(l.file)
		l.file = -1
	}
	l.ended = true
	l.wake()
}

// open lets a log that was closed go on, behind what it has.
func (l *log) open() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = false
}

// openPipes makes the two pipes in a folder and returns their writing ends. A
// pipe is open for both directions at both ends: so it neither breaks nor ends
// when one side is away.
func (l *log) openPipes(dir string, owner int) (ends [2]int, err error) {
	ends = [2]int{-1, -1}
	for i, name := range []string{stdoutFile, stderrFile} {
		path := filepath.Join(dir, name)
		if err = unix.Mkfifo(path, 0o600); err != nil && err != unix.EEXIST { // of an earlier run
			break
		}
		var fd int
		if fd, err = unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
			break
		}
		l.mu.Lock() // one who reads the log of the run before may be draining
		l.pipes[i] = fd
		l.mu.Unlock()
		if ends[i], err = unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
			break
		}
		// so that the program can open /dev/stdout
		if err = unix.Fchown(ends[i], owner, owner); err != nil {
			break
		}
	}
	if err != nil {
		closeAll(ends[:]...)
		return [2]int{-1, -1}, fmt.Errorf("supervisor: pipes: %w", err)
	}
	return ends, nil
}

func closeAll(fds ...int) {
	for _, fd := range fds {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
