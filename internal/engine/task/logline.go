package task

import (
	"bytes"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"skerry/internal/engine"
)

const (
	maxEvent  = 262144 - perEvent // bytes of an event's text
	perEvent  = 26
	maxBatch  = 1 << 20
	maxEvents = 10000
)

// LogEvent is an event of a log stream.
type LogEvent struct {
	Time    time.Time
	Message string
}

// held is what an assembler holds back. It is kept with the cursor, so that a
// restart goes on in the middle of a line.
type held struct {
	Lines [2][]byte // of stdout and stderr, without an end yet
	Multi []byte    // an event whose last line is not known yet
	Since time.Time // of Multi's first line
	Last  time.Time // of the last event
}

func (h held) clone() held {
	h.Lines = [2][]byte{bytes.Clone(h.Lines[0]), bytes.Clone(h.Lines[1])}
	h.Multi = bytes.Clone(h.Multi)
	return h
}

// assembler makes events of a container's output.
type assembler struct {
	held
	start *regexp.Regexp
	out   []LogEvent
	size  int // of out, as PutLogEvents counts
}

// feed takes a frame in.
func (a *assembler) feed(f engine.Frame) {
	i := 0
	if f.Stream == engine.Stderr {
		i = 1
	}
	b := append(a.Lines[i], f.Data...)
	for {
		n := bytes.IndexByte(b, '\n')
		switch {
		case n >= 0 && n <= maxEvent:
			a.line(b[:n], f.Time)
			b = b[n+1:]
			continue
		case len(b) > maxEvent:
			a.line(b[:maxEvent], f.Time)
			b = b[maxEvent:]
			continue
		}
		break
	}
	a.Lines[i] = bytes.Clone(b)
}

// line takes a line in, without its end.
func (a *assembler) line(line []byte, at time.Time) {
	line = bytes.TrimSuffix(line, []byte("\r"))
	if a.start == nil {
		a.event(line, at)
		return
	}
	if a.start.Match(line) || len(a.Multi)+len(line) >= maxEvent {
		a.flush()
	}
	if len(a.Multi) == 0 {
		a.Since = at
	}
	a.Multi = append(append(a.Multi, line...), '\n')
}

// flush ends an event of several lines.
func (a *assembler) flush() {
	a.event(a.Multi, a.Since)
	a.Multi = nil
}

// finish ends everything: nothing comes any more.
func (a *assembler) finish(at time.Time) {
	for i, l := range a.Lines {
		if len(l) > 0 {
			a.line(l, at)
		}
		a.Lines[i] = nil
	}
	a.flush()
}

func (a *assembler) event(b []byte, at time.Time) {
	if len(b) == 0 {
		return // as CloudWatch wants it
	}
	if at.Before(a.Last) {
		at = a.Last // events of a stream are in order, whatever clocks say
	}
	a.Last = at
	for text := strings.ToValidUTF8(string(b), string(utf8.RuneError)); text != ""; {
		part := text
		if len(part) > maxEvent {
			n := maxEvent
			for !utf8.RuneStart(part[n]) {
				n--
			}
			part = part[:n]
		}
		text = text[len(part):]
		a.out = append(a.out, LogEvent{at, part})
		a.size += len(part) + perEvent
	}
}

// full tells whether the events fill a call of PutLogEvents.
func (a *assembler) full() bool { return a.size >= maxBatch || len(a.out) >= maxEvents }

// batch returns the first events, as many as fit into one call.
func batch(events []LogEvent) []LogEvent {
	size := 0
	for i, e := range events {
		size += len(e.Message) + perEvent
		if i > 0 && (size > maxBatch || i >= maxEvents || e.Time.Sub(events[0].Time) > 23*time.Hour) {
			return events[:i]
		}
	}
	return events
}
