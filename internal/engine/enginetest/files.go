package enginetest

import (
	"skerry/internal/engine"
)

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
