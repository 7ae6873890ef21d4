package lambda

import (
	"time"

	"skerry/internal/meter"
)

// bill is what an invocation has used.
type bill struct {
	Requests int64
	Memory   int32         // MB that the function may use
	Duration time.Duration // of the handler
	Init     time.Duration // of the initialisation; zero in a warm sandbox
	Billed   time.Duration // both, rounded up to the millisecond
	Peak     int64         // MB used at most
}

// charge counts what is billed: requests, and memory by time.
func (s *Service) charge(t *target, b bill) {
	end := s.Clock.Now()
	u := meter.Usage{Account: t.ref.Account, Region: t.ref.Region, Service: "AWSLambda", Resource: t.function.ref().functionARN(),
		Start: end.Add(-b.Billed), End: end}
	u.Type, u.Quantity, u.Unit = "Request", b.Requests, meter.Requests
	if err := s.Meter.Count(u); err != nil {
		s.Log.Error("usage is not counted", "err", err)
	}
	u.Type, u.Quantity, u.Unit = "Lambda-GB-Second", int64(b.Memory)*b.Billed.Milliseconds(), meter.MBMilliseconds
	if err := s.Meter.Count(u); err != nil {
		s.Log.Error("usage is not counted", "err", err)
	}
}
