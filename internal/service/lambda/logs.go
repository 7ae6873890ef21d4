package lambda

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	apilogs "skerry/internal/api/logs"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/engine"
	"skerry/internal/op"
	"skerry/internal/service/lambda/runtime"
)

const (
	tailSize   = 4096      // bytes of LogResult
	maxLine    = 256 << 10 // bytes of a log event; longer lines are cut in pieces
	maxBatch   = 1 << 20   // bytes of a PutLogEvents, with 26 for each event
	perEvent   = 26
	maxEvents  = 10000
	maxPending = 8 << 20 // bytes that wait for a stream when this cloud cannot write them
	relief     = 1 << 20 // bytes that are read of a sandbox's output before they are written
)

// logbook holds the log events that are not written yet.
type logbook struct {
	mu    sync.Mutex
	dirty map[*logStream]struct{}
}

// logStream is one sandbox's log.
type logStream struct {
	book        *logbook
	name, group string
	owner       ref
	role        string
	json        bool
	quiet       bool // no platform events: SystemLogLevel WARN

	mu      sync.Mutex
	pending []logEvent
	bytes   int

	shipping sync.Mutex // held while events are written, so that they stay in order
	made     bool       // under shipping: there is such a stream
}

type logEvent struct {
	at   time.Time
	text string
}

func (b *logbook) stream(t *target, name string, _ key) *logStream {
	c := &t.version.Config
	return &logStream{book: b, name: name, group: c.Log.Group, owner: t.ref, role: c.Role, json: c.Log.Format == "JSON",
		quiet: c.Log.System == "WARN"}
}

func (l *logStream) write(events ...logEvent) {
	if len(events) == 0 {
		return
	}
	l.mu.Lock()
	first := len(l.pending) == 0
	for _, e := range events {
		if l.bytes >= maxPending {
			break
		}
		l.pending = append(l.pending, e)
		l.bytes += len(e.text) + perEvent
	}
	l.mu.Unlock()
	if first {
		l.book.mu.Lock()
		l.book.dirty[l] = struct{}{}
		l.book.mu.Unlock()
	}
}

// transcript is one invocation's part of a log. It goes to the stream as a whole,
// or piece by piece while a long one runs; it also keeps the end for LogResult.
type transcript struct {
	stream *logStream
	keep   bool
	text   []byte

	mu     sync.Mutex
	events []logEvent
}

func (r *transcript) line(text string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, logEvent{at, text})
	if r.keep {
		r.text = keepTail(r.text, text)
	}
}

// keepTail appends to a text of which only the last 4 KB will be of use.
func keepTail(b []byte, text string) []byte {
	if b = append(b, text...); len(b) > 4*tailSize {
		b = append(b[:0], b[len(b)-tailSize:]...)
	}
	return b
}

// flush hands on what there is.
func (r *transcript) flush() {
	r.mu.Lock()
	events := r.events
	r.events = nil
	r.mu.Unlock()
	r.stream.write(events...)
}

// tail is the last 4 KB.
func (r *transcript) tail() []byte { return r.text[max(0, len(r.text)-tailSize):] }

// platform writes an event of Lambda's own in the log's format.
func (l *logStream) platform(at time.Time, kind string, record any, text string, to func(string, time.Time)) {
	if !l.json {
		to(text, at)
		return
	}
	if l.quiet {
		return
	}
	b, err := json.Marshal(struct {
		Time   string `json:"time"`
		Type   string `json:"type"`
		Record any    `json:"record"`
	}{at.UTC().Format("2006-01-02T15:04:05.000Z"), kind, record})
	if err == nil {
		to(string(b)+"\n", at)
	}
}

func (l *logStream) plain(text string, at time.Time) { l.write(logEvent{at, text}) }

func (l *logStream) initStart(t *target, at time.Time) {
	name, version := runtimeARN(t.ref.Region, t.version.Config.Runtime), runtimeVersion(t.version.Config.Runtime)
	l.platform(at, "platform.initStart", map[string]any{"initializationType": "on-demand", "phase": "init", "runtimeVersion": version,
		"runtimeVersionArn": name, "functionName": t.ref.Name, "functionVersion": versionName(t.version.Number)},
		fmt.Sprintf("INIT_START Runtime Version: %s\tRuntime Version ARN: %s\n", version, name), l.plain)
}

// initReport tells of an initialisation that has failed. The second one is a part
// of the invocation: its phase is "invoke".
func (l *logStream) initReport(at time.Time, d time.Duration, phase, status, kind string, to func(string, time.Time)) {
	text := fmt.Sprintf("INIT_REPORT Init Duration: %s ms\tPhase: %s\tStatus: %s", milliseconds(d), phase, status)
	if kind != "" {
		text += "\tError Type: " + kind
	}
	record := map[string]any{"initializationType": "on-demand", "phase": phase, "status": status,
		"metrics": map[string]any{"durationMs": float(d)}}
	if kind != "" {
		record["errorType"] = kind
	}
	l.platform(at, "platform.initReport", record, text+"\n", to)
}

// begin writes START. early is what the tail has already.
func (l *logStream) begin(t *target, e *event, at time.Time, early []byte) *transcript {
	r := &transcript{stream: l, keep: e.tail, text: early}
	version := versionName(t.version.Number)
	l.platform(at, "platform.start", map[string]any{"requestId": e.requestID, "version": version},
		"START RequestId: "+e.requestID+" Version: "+version+"\n", r.line)
	return r
}

// end writes END and REPORT.
func (r *transcript) end(t *target, e *event, at time.Time, b bill, res *result) {
	if !r.stream.json {
		r.line("END RequestId: "+e.requestID+"\n", at)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "REPORT RequestId: %s\tDuration: %s ms\tBilled Duration: %d ms\tMemory Size: %d MB\tMax Memory Used: %d MB\t",
		e.requestID, milliseconds(b.Duration), b.Billed.Milliseconds(), b.Memory, b.Peak)
	metrics := map[string]any{"durationMs": float(b.Duration), "billedDurationMs": b.Billed.Milliseconds(), "memorySizeMB": b.Memory, "maxMemoryUsedMB": b.Peak}
	if b.Init > 0 {
		fmt.Fprintf(&text, "Init Duration: %s ms\t", milliseconds(b.Init))
		metrics["initDurationMs"] = float(b.Init)
	}
	status := "success"
	switch {
	case res.timedOut:
		status = "timeout"
		text.WriteString("Status: timeout")
	case res.failed && platformError(res.errorType):
		status = "error"
		fmt.Fprintf(&text, "Status: error\tError Type: %s", res.errorType)
	case res.failed:
		status = "error"
	}
	record := map[string]any{"requestId": e.requestID, "metrics": metrics, "status": status}
	if res.errorType != "" {
		record["errorType"] = res.errorType
	}
	r.stream.platform(at, "platform.report", record, text.String()+"\n", r.line)
}

// platformError tells the errors that REPORT names: those outside of a handler.
func platformError(kind string) bool {
	return strings.HasPrefix(kind, "Runtime.") || strings.HasPrefix(kind, "Function.") || strings.HasPrefix(kind, "Sandbox.")
}

func float(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f", float64(d)/float64(time.Millisecond))
}

// lines takes what a sandbox writes.
type lines interface {
	line(text string, at time.Time)
	flush() // hands on to the stream what is kept back
}

// drain reads what a sandbox has written since the last time, at the end of its
// initialisation or of an invocation. Everything written before the call is there.
func (s *Service) drain(ctx context.Context, sb *sandbox, to lines) {
	sb.reading.Lock()
	defer sb.reading.Unlock()
	sb.record = nil
	at := s.read(ctx, sb, to)
	if len(sb.partial) > 0 { // what a function leaves without a line's end ends with it
		if text := unframe(string(sb.partial) + "\n"); text != "" {
			to.line(text, at)
		}
		sb.partial = nil
	}
}

// read reads whole lines; sb.reading is held. It returns the time of the last. What
// is too much to be kept in memory is written at once: until then the engine has it.
func (s *Service) read(ctx context.Context, sb *sandbox, to lines) (at time.Time) {
	at = s.Clock.Now()
	kept := 0
	err := s.Engine.Logs(ctx, sb.id, engine.LogQuery{From: sb.cursor}, func(f engine.Frame) error {
		sb.cursor, at = f.Next, f.Time
		sb.partial = split(append(sb.partial, f.Data...), func(text string) { to.line(text, f.Time) })
		if kept += len(f.Data); kept < relief {
			return nil
		}
		kept = 0
		to.flush()
		_, err := s.shipStream(ctx, sb.stream)
		return err
	})
	if err != nil && ctx.Err() == nil {
		s.Log.Warn("a sandbox's log cannot be read", "sandbox", sb.id, "err", err)
	}
	return at
}

// longRun is how long an invocation has run when its log is no longer kept back
// until its end.
const longRun = 500 * time.Millisecond

// follow hands on what long invocations have written so far.
func (s *Service) follow(ctx context.Context) {
	now := s.Clock.Now()
	s.fleet.mu.Lock()
	var all []*sandbox
	for _, sb := range s.fleet.all {
		if sb.busy.Load() {
			all = append(all, sb)
		}
	}
	s.fleet.mu.Unlock()
	for _, sb := range all {
		sb.reading.Lock()
		if r := sb.record; r != nil && now.Sub(sb.recorded) > longRun {
			s.read(ctx, sb, r)
			r.flush()
		}
		sb.reading.Unlock()
	}
}

// split hands out the whole lines and returns what is left. A line that is too
// long is cut.
func split(b []byte, line func(string)) []byte {
	for {
		i := bytes.IndexByte(b, '\n')
		switch {
		case i >= 0 && i < maxLine:
			if text := unframe(string(b[:i+1])); text != "" {
				line(text)
			}
			b = b[i+1:]
		case len(b) >= maxLine:
			line(unframe(string(b[:maxLine])))
			b = b[maxLine:]
		default:
			return bytes.Clone(b)
		}
	}
}

// unframe turns what a bootstrap sent as one line into the event that it is, and
// drops what an event cannot have.
func unframe(text string) string {
	if text == "" || text == "\n" {
		return ""
	}
	if text[0] == runtime.Frame {
		text = strings.ReplaceAll(text[1:], string(runtime.Break), "\n")
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// ship writes the events that wait, as the functions' roles.
func (s *Service) ship(ctx context.Context) (n int, err error) {
	s.logs.mu.Lock()
	due := make([]*logStream, 0, len(s.logs.dirty))
	for l := range s.logs.dirty {
		due = append(due, l)
	}
	clear(s.logs.dirty)
	s.logs.mu.Unlock()
	for _, l := range due {
		written, e := s.shipStream(ctx, l)
		n += written
		if e != nil {
			err = e
		}
	}
	return n, err
}

// shipStream writes what waits of one stream.
func (s *Service) shipStream(ctx context.Context, l *logStream) (n int, err error) {
	l.shipping.Lock()
	defer l.shipping.Unlock()
	l.mu.Lock()
	events := l.pending
	l.pending, l.bytes = nil, 0
	l.mu.Unlock()
	for len(events) > 0 {
		batch := cutBatch(events)
		if err := s.put(ctx, l, batch); err != nil && awserr.Code(err) == "" {
			l.back(events) // a fault of ours or a stop: the next run tries again
			return n, err
		}
		events = events[len(batch):] // refused ones are lost, as on AWS
		n += len(batch)
	}
	return n, nil
}

func (l *logStream) back(events []logEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range events {
		l.bytes += len(e.text) + perEvent
	}
	l.pending = append(events, l.pending...)
	l.book.mu.Lock()
	defer l.book.mu.Unlock()
	l.book.dirty[l] = struct{}{}
}

// cutBatch returns the events that fit into one call.
func cutBatch(events []logEvent) []logEvent {
	size := 0
	for i, e := range events {
		if size += len(e.text) + perEvent; i > 0 && (size > maxBatch || i >= maxEvents) {
			return events[:i]
		}
	}
	return events
}

// put writes events; the group and the stream are made when they are not there.
func (s *Service) put(ctx context.Context, l *logStream, events []logEvent) error {
	k, err := s.roleKey(ctx, l.owner, l.role)
	if err != nil {
		return err
	}
	sc := k.Scope
	sc.Request.Time = s.Clock.Now()
	if !l.made {
		if err := s.makeStream(ctx, sc, l); err != nil {
			return err
		}
		l.made = true
	}
	in := &apilogs.PutLogEventsInput{LogGroupName: &l.group, LogStreamName: &l.name, LogEvents: make([]apilogs.InputLogEvent, len(events))}
	var last int64
	for i := range events {
		last = max(last, events[i].at.UnixMilli()) // in order, whatever the clocks of frames say
		in.LogEvents[i] = apilogs.InputLogEvent{Timestamp: new(last), Message: &events[i].text}
	}
	call := func() error {
		_, err := op.Call[apilogs.PutLogEventsOutput](ctx, s.Cloud, sc, "logs", "PutLogEvents", in)
		return err
	}
	if err = call(); awserr.Code(err) == "ResourceNotFoundException" {
		if err = s.makeStream(ctx, sc, l); err == nil {
			err = call()
		}
	}
	return err
}

func (s *Service) makeStream(ctx context.Context, sc auth.Scope, l *logStream) error {
	group := &apilogs.CreateLogGroupInput{LogGroupName: &l.group}
	stream := &apilogs.CreateLogStreamInput{LogGroupName: &l.group, LogStreamName: &l.name}
	create := func() error {
		_, err := op.Call[apilogs.CreateLogStreamOutput](ctx, s.Cloud, sc, "logs", "CreateLogStream", stream)
		if awserr.Code(err) == "ResourceAlreadyExistsException" {
			return nil
		}
		return err
	}
	err := create()
	if awserr.Code(err) != "ResourceNotFoundException" {
		return err
	}
	_, err = op.Call[apilogs.CreateLogGroupOutput](ctx, s.Cloud, sc, "logs", "CreateLogGroup", group)
	if code := awserr.Code(err); err != nil && code != "ResourceAlreadyExistsException" {
		return err
	}
	return create()
}
