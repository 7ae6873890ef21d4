package enginetest

import (
	"slices"

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
