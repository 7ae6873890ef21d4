package enginetest

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"

	"skerry/internal/engine"
)

// files carries a file into a running container and out again. A driver that cannot
// says so.
func (s *suite) files() {
	id := s.startSpec(scriptWait, func(p *engine.Spec) {
		p.Mounts = []engine.Mount{{Kind: engine.MountTmpfs, Target: "/tmp", Size: 1 << 20}}
	})
	packed := func(name string) io.Reader {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		s.must(w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: 5, Mode: 0o640, Uid: 7, Gid: 8}))
		_, err := w.Write([]byte("hello"))
		s.must(errors.Join(err, w.Close()))
		return &b
	}
	err := s.e.WriteFiles(s.ctx, id, "/tmp", packed("sub/greeting"))
	if errors.Is(err, engine.ErrUnsupported) {
		s.Skipf("the engine copies no files: %v", err)
	}
	s.must(err)
	r, err := s.e.ReadFiles(s.ctx, id, "/tmp/sub/greeting")
	s.must(err)
	defer r.Close()
	tr := tar.NewReader(r)
	h, err := tr.Next()
	s.must(err)
	text, err := io.ReadAll(tr)
	s.must(err)
	if h.Name != "greeting" || h.Mode != 0o640 || h.Uid != 7 || h.Gid != 8 || string(text) != "hello" {
		s.Errorf("read %+v %q", h, text)
	}
	_, err = s.e.ReadFiles(s.ctx, id, "/tmp/none")
	s.is(err, fs.ErrNotExist)
	s.is(s.e.WriteFiles(s.ctx, id, "/tmp", packed("../out")), engine.ErrInvalid)
	s.is(s.e.WriteFiles(s.ctx, "nobody", "/tmp", packed("x")), engine.ErrNotFound)
}

// restart runs a container again that has exited: its log goes on, and what
// happens is told with new cursors.
func (s *suite) restart() {
	id := s.start(scriptCode)
	_, err := s.e.Wait(s.ctx, id)
	s.must(err)
	first := s.take(0, 2)
	s.must(s.e.Start(s.ctx, id))
	exit, err := s.e.Wait(s.ctx, id)
	s.must(err)
	if exit.Code != 3 || exit.Started.Before(first[1].Exit.Finished) {
		s.Errorf("the second exit: %+v", exit)
	}
	again := s.take(first[1].Cursor, 2)
	if again[0].Kind != engine.EventStarted || again[1].Kind != engine.EventExited || again[1].ID != id || again[1].Exit.Code != 3 {
		s.Errorf("events of the second run: %+v", again)
	}
	if out := s.output(id, engine.Stdout); out != "out\nout\n" {
		s.Errorf("output of both runs: %q", out)
	}
	long := s.start(scriptWait)
	s.ready(long, "ready")
	s.is(s.e.Start(s.ctx, long), engine.ErrState)
	s.must(s.e.Signal(s.ctx, long, 9))
	_, err = s.e.Wait(s.ctx, long)
	s.must(err)
	s.must(s.e.Start(s.ctx, long))
	st, err := s.e.Inspect(s.ctx, long)
	s.must(err)
	if st.State != engine.Running || st.Exit != nil {
		s.Errorf("runs again: %+v", st)
	}
	s.must(s.e.Remove(s.ctx, long))
	s.is(s.e.Start(s.ctx, long), engine.ErrNotFound)
}
