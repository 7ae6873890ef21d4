package enginetest

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"syscall"

	"skerry/internal/engine"
)

// groups: who is in a group agrees on it, and a name is free again when all are
// gone.
func (s *suite) groups() {
	can, err := s.e.Info(s.ctx)
	s.must(err)
	grouped := func(account string, memory int64) engine.Spec {
		spec := Spec(scriptTrue)
		spec.Account, spec.Group = account, engine.Group{Name: "contract", Limits: engine.Limits{Memory: memory}}
		return spec
	}
	if !can.Groups {
		_, err := s.e.Create(s.ctx, grouped("000000000000", 0))
		s.is(err, engine.ErrUnsupported)
		return
	}
	memory := int64(64 << 20)
	if !can.MemoryLimit {
		_, err := s.e.Create(s.ctx, grouped("000000000000", memory))
		s.is(err, engine.ErrUnsupported)
		memory = 0
	}
	var ids []engine.ID
	for range 2 {
		id, err := s.e.Create(s.ctx, grouped("000000000000", memory))
		s.must(err)
		ids = append(ids, id)
	}
	_, err = s.e.Create(s.ctx, grouped("111111111111", memory))
	s.is(err, engine.ErrInvalid)
	other := grouped("000000000000", memory)
	other.Group.Limits.CPUShares = 512
	_, err = s.e.Create(s.ctx, other)
	s.is(err, engine.ErrInvalid)
	for _, id := range slices.Backward(ids) {
		s.must(s.e.Start(s.ctx, id))
		exit, err := s.e.Wait(s.ctx, id)
		s.must(err)
		if exit.Code != 0 || exit.OOM {
			s.Errorf("exit %+v", exit)
		}
	}
	if can.Driver != "fake" { // again, in the same group
		s.must(s.e.Start(s.ctx, ids[0]))
		_, err = s.e.Wait(s.ctx, ids[0])
		s.must(err)
	}
	for _, id := range ids {
		s.must(s.e.Remove(s.ctx, id))
	}
	id, err := s.e.Create(s.ctx, grouped("111111111111", 0))
	s.must(err)
	s.must(s.e.Remove(s.ctx, id))
}

// A container uses the processors that it is given, and others when that is changed.
func (s *suite) cpus() {
	s.able("choice of processors", func(c engine.Capabilities) bool { return c.CPUSet && c.Exec })
	allowed := func(id engine.ID) string {
		s.Helper()
		var out bytes.Buffer
		e, err := s.e.Exec(s.ctx, id, engine.ExecSpec{Command: []string{"grep", "Cpus_allowed_list", "/proc/1/status", "/proc/self/status"}}, engine.Streams{Stdout: &out})
		s.must(err)
		if e.Code != 0 {
			s.Errorf("%+v", e)
		}
		fields := strings.Fields(out.String())
		if len(fields) != 4 || fields[1] != fields[3] {
			s.Errorf("%q", out.String())
		}
		return fields[len(fields)-1]
	}
	all := allowed(s.start(scriptWait))
	spec := Spec(scriptWait)
	spec.Limits.CPUs = "0"
	id, err := s.e.Create(s.ctx, spec)
	s.must(err)
	s.Cleanup(func() { s.must(s.e.Remove(context.Background(), id)) })
	s.must(s.e.Start(s.ctx, id))
	if got := allowed(id); got != "0" {
		s.Errorf("of 0 it has %s", got)
	}
	s.must(s.e.Update(s.ctx, id, engine.Limits{CPUs: all}))
	if got := allowed(id); got != all {
		s.Errorf("of %s it has %s", all, got)
	}
	other := s.start(scriptWait)
	s.must(s.e.Update(s.ctx, other, engine.Limits{CPUs: "0"}))
	if got := allowed(other); got != "0" {
		s.Errorf("of 0, while it runs, it has %s", got)
	}
	s.must(s.e.Signal(s.ctx, other, syscall.SIGKILL))
	_, err = s.e.Wait(s.ctx, other)
	s.must(err)
	s.must(s.e.Update(s.ctx, other, engine.Limits{CPUs: all}))
	s.must(s.e.Start(s.ctx, other))
	if got := allowed(other); got != all {
		s.Errorf("of %s, in its next run, it has %s", all, got)
	}
	for _, list := range []string{"8000", "x", "3-1"} {
		spec := Spec(scriptTrue)
		spec.Limits.CPUs = list
		_, err := s.e.Create(s.ctx, spec)
		s.is(err, engine.ErrInvalid)
		s.is(s.e.Update(s.ctx, id, engine.Limits{CPUs: list}), engine.ErrInvalid)
	}
}
