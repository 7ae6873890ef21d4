package lambda

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"syscall"
	"time"

	"skerry/internal/base/ids"
	"skerry/internal/engine"
	"skerry/internal/service/lambda/runtime"
)

// initLimit is how long a function may initialise before its first event.
const initLimit = 10 * time.Second

// result is what has become of an invocation.
type result struct {
	payload   []byte
	failed    bool
	errorType string
	message   string // of a failure outside of the handler
	timedOut  bool
	log       []byte // the last 4 KB, if asked for
}

// run invokes a function and waits for the result. Its errors are those of
// Lambda; the function's own are results.
func (s *Service) run(ctx context.Context, t *target, e *event) (*result, error) {
	if err := s.fleet.admit(t); err != nil {
		return nil, err
	}
	defer s.fleet.leave(t)
	sb, cold, err := s.obtain(ctx, t)
	if err != nil {
		if res := neverStarted(e, err); res != nil {
			s.recordUnstarted(t, e, res)
			return res, nil
		}
		return nil, runtimeFault(err)
	}
	r := &runOf{s: s, t: t, e: e, sb: sb, tail: e.tail}
	if cold {
		res := func() *result {
			defer s.fleet.turnOver()
			return r.initialise(ctx)
		}()
		if res != nil {
			return r.end(ctx, res, false), nil
		}
	}
	res := r.deliver(ctx)
	return r.end(ctx, res, !r.broken), nil
}

// runOf is one invocation in one sandbox.
type runOf struct {
	s         *Service
	t         *target
	e         *event
	sb        *sandbox
	tail      bool
	broken    bool   // the sandbox cannot be used again
	unlimited bool   // it has initialised, and has the limits of that
	retry     bool   // initialising a second time, as a part of the invocation
	early     []byte // what the log's tail has of the initialisation

	began, done time.Time // with a second initialisation, but not with the first
	record      *transcript
}

// failure is the object that a caller gets for a function that failed outside of
// its handler.
func failure(kind, message string) *result {
	b, _ := json.Marshal(struct {
		Type    string `json:"errorType"`
		Message string `json:"errorMessage"`
	}{kind, message})
	return &result{payload: b, failed: true, errorType: kind, message: message}
}

// neverStarted is for a program that cannot be executed; nil for other errors.
func neverStarted(e *event, err error) *result {
	if errors.Is(err, errNoEntry) {
		return failure("Runtime.InvalidEntrypoint",
			fmt.Sprintf("RequestId: %s Error: Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]", e.requestID))
	}
	if f, ok := errors.AsType[*engine.StartError](err); ok {
		return failure("Runtime.InvalidEntrypoint", fmt.Sprintf("RequestId: %s Error: fork/exec %s: %v", e.requestID, f.Path, f.Err))
	}
	return nil
}

// recordUnstarted writes the log and the bill of an invocation whose program could
// not be executed.
func (s *Service) recordUnstarted(t *target, e *event, res *result) {
	now := s.Clock.Now()
	stream := s.logs.stream(t, streamName(now, versionName(t.version.Number), ids.Hex(32)), key{})
	stream.initStart(t, now)
	stream.initReport(now, 0, "init", "error", res.errorType, stream.plain)
	record := stream.begin(t, e, now, nil)
	record.line(res.message+"\n"+res.errorType+"\n", now)
	b := bill{Requests: 1, Memory: t.version.Config.Memory}
	record.end(t, e, now, b, res)
	record.flush()
	if e.tail {
		res.log = record.tail()
	}
	s.charge(t, b)
}

// initialise waits until a new sandbox asks for its first event; it returns a
// result if that fails twice. The second time is a part of the invocation: "Lambda
// execution environment lifecycle".
func (r *runOf) initialise(ctx context.Context) *result {
	s, sb := r.s, r.sb
	allowed, phase := s.initLimit, "init"
	if r.retry {
		allowed, phase = r.timeout(), "invoke"
	} else {
		sb.stream.initStart(r.t, sb.started)
	}
	var res *result
	kind, status := "", "error"
	select {
	case <-sb.api.Ready():
		r.ready(ctx)
		return nil
	case o := <-sb.api.InitFailed():
		res = &result{payload: o.Payload, failed: true, errorType: o.ErrorType}
	case <-sb.exited:
		select {
		case o := <-sb.api.InitFailed(): // it said why before it ended
			res = &result{payload: o.Payload, failed: true, errorType: o.ErrorType}
		default:
			res = exitResult(r.e.requestID, sb.exit)
		}
	case <-s.Clock.After(allowed):
		res, status = r.timedOut(), "timeout"
	}
	if status == "error" {
		kind = res.errorType
	}
	now := s.Clock.Now()
	s.drain(ctx, sb, earlyLines{r})
	sb.stream.initReport(now, now.Sub(sb.started), phase, status, kind, earlyLines{r}.line)
	if r.retry {
		return res
	}
	return r.again(ctx)
}

// ready ends an initialisation that has succeeded.
func (r *runOf) ready(ctx context.Context) {
	if !r.retry {
		r.sb.initDuration = r.sb.api.ReadyAt().Sub(r.sb.started)
	}
	r.s.drain(ctx, r.sb, earlyLines{r})
	r.unlimited = true
}

// limit gives a sandbox that has initialised the limits of its function, which is at
// work already: it need not wait for them.
func (r *runOf) limit(ctx context.Context) {
	s, sb := r.s, r.sb
	r.unlimited = false
	if err := s.Engine.Update(ctx, sb.id, limits(r.t.version.Config.Memory, false)); err != nil && !isClosed(sb.exited) {
		s.Log.Warn("the limits of a sandbox cannot be set", "sandbox", sb.id, "err", err)
	}
}

// earlyLines are those before an invocation's START.
type earlyLines struct{ r *runOf }

func (e earlyLines) line(text string, at time.Time) {
	e.r.sb.stream.plain(text, at)
	if e.r.tail {
		e.r.early = keepTail(e.r.early, text)
	}
}

func (earlyLines) flush() {}

// again gives a function whose initialisation has failed its second try. The
// invocation's time runs from now on.
func (r *runOf) again(ctx context.Context) *result {
	s, old := r.s, r.sb
	s.fleet.drop(old)
	s.remove(ctx, old)
	r.retry, r.began = true, s.Clock.Now()
	i, err := s.interpreter(ctx, r.t.version.Config.Runtime)
	if err == nil {
		var k key
		if k, err = s.roleKey(ctx, r.t.ref, r.t.version.Config.Role); err == nil {
			if r.sb, err = s.startFresh(ctx, r.t, i, old.stream, k); err == nil {
				r.sb.key, r.sb.stream, r.sb.expires = old.key, old.stream, k.Expires
			}
		}
	}
	if err != nil {
		r.sb = old
		return failure("Sandbox.Failure", fmt.Sprintf("RequestId: %s Error: %v", r.e.requestID, err))
	}
	s.fleet.add(r.sb)
	return r.initialise(ctx)
}

func (r *runOf) timeout() time.Duration {
	return time.Duration(r.t.version.Config.Timeout) * time.Second
}

func (r *runOf) timedOut() *result {
	res := failure("Sandbox.Timedout", fmt.Sprintf("RequestId: %s Error: Task timed out after %.2f seconds", r.e.requestID, r.timeout().Seconds()))
	res.timedOut = true
	return res
}

// deliver hands the event over and waits for what comes of it.
func (r *runOf) deliver(ctx context.Context) *result {
	s, sb := r.s, r.sb
	r.start()
	answer, err := sb.api.Invoke(runtime.Invocation{
		RequestID: r.e.requestID, Payload: r.e.payload, Deadline: r.began.Add(r.timeout()), FunctionARN: r.t.ref.ARN(),
		TraceID: r.e.trace, ClientContext: r.e.clientContext, Sink: r.e.sink,
	})
	if err != nil {
		r.broken = true
		return failure("Sandbox.Failure", fmt.Sprintf("RequestId: %s Error: %v", r.e.requestID, err))
	}
	if r.unlimited {
		r.limit(ctx)
	}
	var o runtime.Outcome
	select {
	case o = <-answer:
	case <-sb.exited:
		r.broken = true
		select {
		case o = <-answer: // it answered and ended at once
		default:
			r.done = s.Clock.Now()
			return exitResult(r.e.requestID, sb.exit)
		}
	case <-s.Clock.After(r.began.Add(r.timeout()).Sub(s.Clock.Now())):
		r.broken = true
		r.done = s.Clock.Now()
		return r.timedOut()
	}
	r.done = o.At
	if o.TooLarge {
		return failure("Function.ResponseSizeTooLarge",
			fmt.Sprintf("Response payload size exceeded maximum allowed payload size (%d bytes).", runtime.MaxResponse))
	}
	return &result{payload: o.Payload, failed: o.Failed, errorType: o.ErrorType}
}

// start begins the invocation's part of the log.
func (r *runOf) start() {
	now := r.s.Clock.Now()
	if !r.retry {
		r.began = now
	}
	r.record = r.sb.stream.begin(r.t, r.e, now, r.early)
	r.sb.reading.Lock()
	r.sb.record, r.sb.recorded = r.record, now
	r.sb.reading.Unlock()
}

// describeExit writes an exit as Lambda does.
func describeExit(x engine.Exit) string {
	switch {
	case x.Signal != 0:
		return "Runtime exited with error: signal: " + signalName(syscall.Signal(x.Signal))
	case x.Code > 128 && x.Code < 160 && x.OOM:
		return "Runtime exited with error: signal: killed"
	case x.Code != 0:
		return fmt.Sprintf("Runtime exited with error: exit status %d", x.Code)
	}
	return "Runtime exited without providing a reason"
}

// exitResult is for a program that ended in the middle of its work.
func exitResult(requestID string, x engine.Exit) *result {
	kind := "Runtime.ExitError"
	if x.OOM {
		kind = "Runtime.OutOfMemory"
	}
	return failure(kind, fmt.Sprintf("RequestId: %s Error: %s", requestID, describeExit(x)))
}

// end finishes an invocation: its log, its bill, and what becomes of the sandbox.
// Of a success, that is done behind the caller's back unless he wants the log.
func (r *runOf) end(ctx context.Context, res *result, reuse bool) *result {
	s, sb := r.s, r.sb
	if r.record == nil { // it never got its event
		r.start()
		r.done = s.Clock.Now()
	}
	if reuse && !r.tail {
		sb.settled = make(chan struct{})
		settled := sb.settled
		s.fleet.give(sb, r.done)
		finish := func(ctx context.Context) {
			s.drain(ctx, sb, r.record)
			close(settled) // the next invocation need not wait for the rest
			r.finish(ctx, res)
			s.wake(loopFleet)
		}
		if !s.children.Start("settle/"+r.e.requestID+"/"+string(sb.id), func(ctx context.Context) error {
			finish(context.WithoutCancel(ctx))
			return nil
		}) {
			finish(ctx) // the server stops
		}
		return res
	}
	s.drain(ctx, sb, r.record)
	r.finish(ctx, res)
	if r.tail {
		res.log = r.record.tail()
	}
	if reuse {
		s.fleet.give(sb, r.done)
		s.wake(loopFleet)
		return res
	}
	s.fleet.drop(sb)
	s.remove(ctx, sb)
	return res
}

// finish writes the end of the record, and the bill.
func (r *runOf) finish(ctx context.Context, res *result) {
	s, sb := r.s, r.sb
	b := bill{Requests: 1, Memory: r.t.version.Config.Memory, Duration: r.done.Sub(r.began), Peak: s.peak(ctx, sb)}
	if !sb.initTold {
		b.Init = sb.initDuration
		sb.initTold = true
	}
	if res.timedOut {
		b.Duration = r.timeout()
		r.record.line(fmt.Sprintf("%s %s Task timed out after %.2f seconds\n", r.done.UTC().Format("2006-01-02T15:04:05.000Z"),
			r.e.requestID, r.timeout().Seconds()), r.done)
	} else if res.errorType == "Runtime.ExitError" || res.errorType == "Runtime.OutOfMemory" {
		r.record.line(fmt.Sprintf("RequestId: %s Error: %s\n%s\n", r.e.requestID, describeExit(sb.exit), "Runtime.ExitError"), r.done)
	}
	b.Billed = billed(b.Duration + b.Init)
	r.record.end(r.t, r.e, r.done, b, res)
	r.record.flush()
	s.charge(r.t, b)
}

// billed rounds up to the millisecond.
func billed(d time.Duration) time.Duration {
	return time.Duration(math.Ceil(float64(d)/float64(time.Millisecond))) * time.Millisecond
}

// peakLife is how long a reading of a sandbox's memory is good, so that a function
// that is called all the time does not pay for one each time.
const peakLife = 20 * time.Millisecond

// peak is the most memory that a sandbox has used, in MB.
func (s *Service) peak(ctx context.Context, sb *sandbox) int64 {
	const mb = 1 << 20
	if isClosed(sb.exited) {
		return (sb.exit.Memory + mb - 1) / mb
	}
	now := s.Clock.Now()
	sb.reading.Lock()
	have, fresh := sb.peak, now.Sub(sb.peakAt) < peakLife
	sb.reading.Unlock()
	if fresh {
		return have
	}
	st, err := s.Engine.Stats(ctx, sb.id)
	if err != nil {
		return have
	}
	sb.reading.Lock()
	defer sb.reading.Unlock()
	sb.peak, sb.peakAt = (max(st.MemoryPeak, st.Memory)+mb-1)/mb, now
	return sb.peak
}

// signalName is a signal in the words of Go's os.ProcessState, which Lambda uses.
func signalName(s syscall.Signal) string { return s.String() }
