package daemon

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	"skerry/internal/engine"
)

// maxLine is the most bytes of a line before it is given in parts.
const maxLine = 1 << 20

// logQuery is what docker logs asks for.
type logQuery struct {
	stdout, stderr, stamps bool
	since, until           time.Time
	tail                   int // lines; negative is all
}

// logs answers GET /containers/{id}/logs.
func (d *Daemon) logs(c *call) error {
	row, err := d.find(c.Context(), c.vars["id"])
	if err != nil {
		return err
	}
	cfg, h, err := row.config()
	if err != nil {
		return err
	}
	q, err := c.logQuery(d.clock.Now())
	if err != nil {
		return err
	}
	if !q.stdout && !q.stderr {
		return badRequest("Bad parameters: you must choose at least one stream")
	}
	if h.LogConfig.Type == "none" {
		return unsupported("reading the logs of driver none: configured logging driver does not support reading")
	}
	kind := multiplied
	if cfg.Tty {
		kind = rawStream
	}
	if c.minor < 42 {
		kind = rawStream
	}
	// The past is read first, so that a tail can be counted from its end.
	l := &lines{q: q, out: &mux{raw: cfg.Tty}}
	l.begin = func() io.Writer { return c.stream(kind) }
	past := engine.LogQuery{}
	next := engine.Cursor(0)
	keep := func(f engine.Frame) error { next = f.Next; return l.frame(f) }
	ctx := c.Context()
	follow := c.flag("follow") && (q.until.IsZero() || q.until.After(d.clock.Now()))
	if follow && !q.until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, q.until)
		defer cancel()
	}
	err = d.engine.Logs(ctx, engine.ID(row.ID), past, keep)
	if errors.Is(err, engine.ErrNotFound) {
		err = nil // lost with the machine's last run
	}
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	if err == nil && follow && row.running() {
		l.pour()
		err = d.engine.Logs(ctx, engine.ID(row.ID), engine.LogQuery{From: next, Follow: true}, keep)
		if err != nil && ctx.Err() == nil && !errors.Is(err, errEnough) {
			d.log.Debug("docker: logs ended", "id", row.ID, "err", err)
		}
	}
	l.rest()
	l.pour()
	return nil
}

func (c *call) logQuery(now time.Time) (q logQuery, err error) {
	q = logQuery{stdout: c.flag("stdout"), stderr: c.flag("stderr"), stamps: c.flag("timestamps"), tail: -1}
	if text := c.query.Get("since"); text != "" && text != "0" {
		if q.since, err = moment(text, now); err != nil {
			return q, err
		}
	}
	if text := c.query.Get("until"); text != "" && text != "0" {
		if q.until, err = moment(text, now); err != nil {
			return q, err
		}
	}
	if text := c.query.Get("tail"); text != "" && text != "all" {
		if n, err := strconv.Atoi(text); err == nil && n >= 0 {
			q.tail = n
		}
	}
	return q, nil
}

// errEnough ends the reading when what comes is newer than what is wanted.
var errEnough = errors.New("enough")

// lines cuts frames into lines, leaves out what is not wanted, keeps the last
// ones for a tail until it is poured, and writes the others.
type lines struct {
	q      logQuery
	out    *mux
	begin  func() io.Writer
	poured bool
	kept   []line  // a ring of tail lines
	first  int     // the oldest of them
	part   [3]part // by stream: the beginning of a line
}

type part struct {
	time time.Time
	text []byte
}

type line struct {
	stream engine.Stream
	time   time.Time
	text   []byte
}

func (l *lines) frame(f engine.Frame) error {
	if f.Stream == engine.Stdout && !l.q.stdout || f.Stream == engine.Stderr && !l.q.stderr || f.Stream > engine.Stderr {
		return nil
	}
	if !l.q.until.IsZero() && f.Time.After(l.q.until) {
		return errEnough
	}
	if f.Time.Before(l.q.since) {
		return nil
	}
	p := &l.part[f.Stream]
	for data := f.Data; len(data) > 0; {
		n := bytes.IndexByte(data, '\n') + 1
		if n == 0 && len(p.text)+len(data) < maxLine {
			if len(p.text) == 0 {
				p.time = f.Time
			}
			p.text = append(p.text, data...)
			return nil
		}
		if n == 0 {
			n = len(data)
		}
		at := f.Time
		if len(p.text) > 0 {
			at = p.time
		}
		if err := l.add(line{f.Stream, at, append(p.text, data[:n]...)}); err != nil {
			return err
		}
		p.text, data = nil, data[n:]
	}
	return nil
}

// rest gives the lines that did not end.
func (l *lines) rest() {
	for s := range l.part {
		if p := &l.part[s]; len(p.text) > 0 {
			_ = l.add(line{engine.Stream(s), p.time, p.text}) // the client may be gone
			p.text = nil
		}
	}
}

func (l *lines) add(n line) error {
	if l.poured || l.q.tail < 0 {
		return l.write(n)
	}
	switch {
	case l.q.tail == 0:
	case len(l.kept) < l.q.tail:
		l.kept = append(l.kept, n)
	default:
		l.kept[l.first] = n
		l.first = (l.first + 1) % l.q.tail
	}
	return nil
}

// pour writes the lines of the tail; what comes from now on is written at once.
func (l *lines) pour() {
	if l.out.w == nil {
		l.out.w = l.begin()
	}
	for i := range l.kept {
		if l.write(l.kept[(l.first+i)%len(l.kept)]) != nil {
			break // the client is gone
		}
	}
	l.kept, l.poured = nil, true
}

// stampForm is RFC 3339 with nine digits always, as Docker's logs have it.
const stampForm = "2006-01-02T15:04:05.000000000Z07:00"

func (l *lines) write(n line) error {
	if l.out.w == nil {
		l.out.w = l.begin()
	}
	text := n.text
	if l.q.stamps {
		text = append(n.time.UTC().AppendFormat(nil, stampForm+" "), n.text...)
	}
	return l.out.write(n.stream, text)
}
