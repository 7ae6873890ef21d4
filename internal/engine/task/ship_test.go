package task

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"skerry/internal/engine"
	"skerry/internal/engine/enginetest"
	"skerry/internal/store"
)

func TestLogOptions(t *testing.T) {
	for text, want := range map[string]int64{"10m": 10 << 20, "1k": 1024, "512KB": 512 << 10, "7": 7, "2g": 2 << 30} {
		if n, err := parseSize(text); n != want || err != nil {
			t.Errorf("%s is %d, %v", text, n, err)
		}
	}
	for _, text := range []string{"", "m", "-1m", "0", "1t", "1.5m"} {
		if n, err := parseSize(text); err == nil {
			t.Errorf("%q is %d", text, n)
		}
	}
	group := map[string]string{"awslogs-group": "g"}
	with := func(name, value string) Log {
		l := Log{Driver: "awslogs", Options: map[string]string{name: value}}
		for k, v := range group {
			l.Options[k] = v
		}
		return l
	}
	for _, l := range []Log{with("mode", "eager"), with("max-buffer-size", "x"), with("awslogs-multiline-pattern", "("), with("awslogs-create-group", "perhaps"),
		{Driver: "json-file", Options: map[string]string{"max-file": "0"}}, {Driver: "json-file", Options: map[string]string{"max-file": "3"}}, {Driver: "gelf"}} {
		if _, err := newLogOptions(l); err == nil {
			t.Errorf("%+v is accepted", l)
		}
	}
	if o, err := newLogOptions(Log{Driver: "json-file", Options: map[string]string{"max-size": "1m", "max-file": "3"}}); err != nil || o.size != 1<<20 || o.files != 3 {
		t.Errorf("%+v %v", o, err)
	}
	if o, err := newLogOptions(with("mode", "blocking")); err != nil || !o.blocking {
		t.Errorf("%+v %v", o, err)
	}
}

// assemble makes events of frames, in reads of random lengths.
func assemble(l Log, frames ...engine.Frame) (out []string) {
	o, err := newLogOptions(l)
	if err != nil {
		panic(err)
	}
	a := assembler{start: o.start}
	for _, f := range frames {
		a.feed(f)
	}
	a.finish(time.Unix(9, 0))
	for _, e := range a.out {
		out = append(out, e.Message)
	}
	return out
}

func frame(stream engine.Stream, text string) engine.Frame {
	return engine.Frame{Time: time.Unix(1, 0), Stream: stream, Data: []byte(text)}
}

func TestLines(t *testing.T) {
	out := assemble(awslogs("g"), frame(1, "one\ntw"), frame(2, "err"), frame(1, "o\r\n\n"), frame(2, "or\n"), frame(1, "end"))
	if want := []string{"one", "two", "error", "end"}; !slices.Equal(out, want) {
		t.Errorf("%q", out)
	}
	long := strings.Repeat("x", maxEvent+10)
	if out := assemble(awslogs("g"), frame(1, long+"\n")); len(out) != 2 || out[0]+out[1] != long {
		t.Errorf("a long line makes %d events", len(out))
	}
	if out := assemble(awslogs("g"), frame(1, "a\xffb\n")); out[0] != "a\uFFFDb" {
		t.Errorf("%q", out)
	}
	multi := awslogs("g")
	multi.Options["awslogs-datetime-format"] = `%Y-%m-%d %H:%M:%S`
	out = assemble(multi, frame(1, "2026-01-02 03:04:05 first\n  at a\n  at b\n2026-01-02 03:04:06 second\n"))
	if want := []string{"2026-01-02 03:04:05 first\n  at a\n  at b\n", "2026-01-02 03:04:06 second\n"}; !slices.Equal(out, want) {
		t.Errorf("%q", out)
	}
	multi = awslogs("g")
	multi.Options["awslogs-multiline-pattern"] = `^INFO`
	if out := assemble(multi, frame(1, "INFO a\nb\nINFO c\n")); !slices.Equal(out, []string{"INFO a\nb\n", "INFO c\n"}) {
		t.Errorf("%q", out)
	}
}

func TestBatch(t *testing.T) {
	var events []LogEvent
	for i := range 25_000 {
		events = append(events, LogEvent{time.Unix(int64(i), 0), strings.Repeat("x", i%200)})
	}
	for n := 0; len(events) > 0; n++ {
		b := batch(events)
		size := 0
		for _, e := range b {
			size += len(e.Message) + perEvent
		}
		if len(b) == 0 || len(b) > maxEvents || size > maxBatch || b[len(b)-1].Time.Sub(b[0].Time) > 24*time.Hour {
			t.Fatalf("batch %d has %d events of %d bytes", n, len(b), size)
		}
		events = events[len(b):]
	}
}

func TestLogs(t *testing.T) {
	w := newWorld(t)
	var want []string
	for i := range 500 {
		want = append(want, fmt.Sprint("line ", i))
	}
	one := w.begin(task(Container{Name: "main", Essential: true, Command: append([]string{"echo"}, want...), Log: awslogs("g")}))
	w.reaches(one, Stopped)
	if got := w.log("p/main/" + string(one.ID)); !slices.Equal(got, want) {
		t.Errorf("%d events, want %d: %.300q", len(got), len(want), got)
	}
}

// TestSinkFails: output waits for its sink, and a task is not kept up for ever.
func TestSinkFails(t *testing.T) {
	w := newWorld(t)
	w.noLogs = true
	one := w.begin(task(Container{Name: "main", Essential: true, Command: []string{"echo", "a", "b"}, Log: awslogs("g")}))
	w.until(one, 100*time.Millisecond, "the end", func(s *Status) bool { return s.State == Deprovisioning })
	w.mu.Lock()
	w.noLogs = false
	w.mu.Unlock()
	w.until(one, 100*time.Millisecond, "STOPPED", func(s *Status) bool { return s.State == Stopped })
	if got := w.log("p/main/" + string(one.ID)); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("%q", got)
	}
	w.mu.Lock()
	w.noLogs = true
	w.mu.Unlock()
	lost := w.begin(task(Container{Name: "main", Essential: true, Command: []string{"echo", "a"}, Log: awslogs("g")}))
	w.until(lost, time.Second, "STOPPED", func(s *Status) bool { return s.State == Stopped })
	w.empty()
}

// flood writes numbered lines of 1 KiB until it is killed.
func flood(lines int) enginetest.Program {
	return func(ctx context.Context, p *enginetest.Process) int {
		for i := range lines {
			if _, err := fmt.Fprintf(p.Stdout, "%08d%s\n", i, strings.Repeat(".", 1015)); err != nil {
				return 1
			}
		}
		<-ctx.Done()
		return 0
	}
}

// TestNonBlocking: what a sink does not take is dropped beyond the buffer, the
// oldest first.
func TestNonBlocking(t *testing.T) {
	w := newWorld(t)
	w.fake.Programs["flood"] = flood(4000)
	w.noLogs = true
	l := awslogs("g")
	l.Options["max-buffer-size"] = "100k"
	one := w.begin(task(Container{Name: "main", Essential: true, Command: []string{"flood"}, Log: l}))
	w.reaches(one, Running)
	w.until(one, 10*time.Millisecond, "the output", func(*Status) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.refused > 0 && w.written(containerID(one.ID, "main")) > 4000<<10
	})
	w.mu.Lock()
	w.noLogs = false
	w.mu.Unlock()
	stream := "p/main/" + string(one.ID)
	w.until(one, 100*time.Millisecond, "the last line", func(*Status) bool {
		got := w.log(stream)
		return len(got) > 0 && strings.HasPrefix(got[len(got)-1], "00003999")
	})
	got := w.log(stream)
	if !slices.IsSorted(got) || len(got) > 2500 {
		t.Errorf("%d events", len(got))
	}
	w.halt(one, "")
	w.until(one, time.Second, "STOPPED", func(s *Status) bool { return s.State == Stopped })
}

// TestExactlyOnce: a sink that keeps the place in its own transaction gets every
// line once, however often the shipper is killed, before and after its commit.
func TestExactlyOnce(t *testing.T) {
	w := newWorld(t)
	lines := store.NewTable("test/lines", func(l *struct{ N int }) store.Key { return store.K(l.N) })
	w.fake.Programs["flood"] = flood(5000)
	r := rand.New(rand.NewPCG(1, 1))
	var mu sync.Mutex
	kill := errors.New("killed")
	var n atomic.Int64
	var calm atomic.Bool
	w.stop()
	w.config.PutLogs = func(ctx context.Context, b LogBatch) error {
		mu.Lock()
		fails, dies := r.IntN(3) == 0, r.IntN(3) == 0
		mu.Unlock()
		if fails {
			return kill
		}
		err := w.db.Update(ctx, func(tx *store.Tx) error {
			for _, e := range b.Events {
				var i int
				if _, err := fmt.Sscanf(e.Message, "%08d", &i); err != nil {
					return err
				}
				if err := lines.Insert(tx, &struct{ N int }{i}); err != nil {
					t.Errorf("line %d comes again", i)
				}
			}
			return b.Advance(tx)
		})
		n.Add(int64(len(b.Events)))
		if err == nil && dies && !calm.Load() {
			<-ctx.Done() // the process ends before it hears of the commit
			return ctx.Err()
		}
		return err
	}
	w.start()
	l := awslogs("g")
	l.Options["mode"] = "blocking"
	one := w.begin(task(Container{Name: "main", Essential: true, Command: []string{"flood"}, Log: l}))
	for end := time.Now().Add(testPatience); ; {
		for range 50 {
			w.clock.Advance(300 * time.Millisecond)
			time.Sleep(200 * time.Microsecond)
		}
		w.stop()
		w.start()
		if n.Load() >= 5000 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d lines", n.Load())
		}
	}
	calm.Store(true)
	w.halt(one, "")
	w.until(one, time.Second, "STOPPED", func(s *Status) bool { return s.State == Stopped })
	if n.Load() != 5000 {
		t.Errorf("%d lines", n.Load())
	}
}

// TestBlocking: a container that writes faster than its output is sent is held
// back, however well the sink does, and nothing of it is lost.
func TestBlocking(t *testing.T) {
	w := newWorld(t)
	const lines = 80_000 // of a kilobyte: more than holdBack
	w.fake.Programs["flood"] = flood(lines)
	permits, sent := make(chan struct{}), 0
	w.stop()
	w.config.PutLogs = func(ctx context.Context, b LogBatch) error {
		select {
		case <-permits:
		case <-ctx.Done():
			return ctx.Err()
		}
		for _, e := range b.Events {
			if !strings.HasPrefix(e.Message, fmt.Sprintf("%08d", sent)) {
				t.Errorf("line %d is %.20q", sent, e.Message)
			}
			sent++
		}
		return nil
	}
	w.start()
	l := awslogs("g")
	l.Options["mode"] = "blocking"
	one := w.begin(task(Container{Name: "main", Essential: true, Command: []string{"flood"}, Log: l}))
	id := containerID(one.ID, "main")
	state := func() engine.State {
		st, err := w.Engine.Inspect(t.Context(), id)
		if err != nil {
			return ""
		}
		return st.State
	}
	w.until(one, 100*time.Millisecond, "much output", func(*Status) bool { return w.written(id) > holdBack+4<<20 })
	permits <- struct{}{} // one call, and then it is looked how far the container is
	w.until(one, 100*time.Millisecond, "it is held back", func(*Status) bool { return state() == engine.Frozen })
	close(permits)
	w.until(one, 100*time.Millisecond, "it goes on", func(*Status) bool { return state() == engine.Running })
	w.until(one, 100*time.Millisecond, "all output", func(*Status) bool {
		cur, err := w.cursorOf(one, "main")
		return err == nil && cur != nil && int64(cur.Cursor) == w.written(id) && cur.Cursor > lines<<10
	})
	w.halt(one, "")
	w.until(one, time.Second, "STOPPED", func(s *Status) bool { return s.State == Stopped })
	if sent != lines {
		t.Errorf("%d lines of %d", sent, lines)
	}
}

func (w *world) cursorOf(t *Task, name string) (row *cursorRow, err error) {
	err = w.db.View(context.Background(), func(tx *store.Tx) error {
		row, err = get(tx, cursors, store.K(string(t.ID), name))
		return err
	})
	return row, err
}

func FuzzEnvironmentFile(f *testing.F) {
	f.Add([]byte("A=b\n#c\n=d\ne"))
	f.Fuzz(func(t *testing.T, b []byte) {
		vars, err := parseEnvironmentFile(b)
		for _, v := range vars {
			if err == nil && (v.Name == "" || strings.ContainsAny(v.Name, "=\n\x00") || strings.ContainsAny(v.Value, "\n\x00")) {
				t.Errorf("%+v", v)
			}
		}
	})
}

// FuzzAssembler: nothing is lost or made up, however output is cut into frames.
func FuzzAssembler(f *testing.F) {
	f.Add([]byte("a\nb\r\nc"), uint8(2))
	f.Fuzz(func(t *testing.T, b []byte, n uint8) {
		var whole, parts []engine.Frame
		whole = append(whole, frame(1, string(b)))
		for chunk := range slices.Chunk(b, int(n)+1) {
			parts = append(parts, frame(1, string(chunk)))
		}
		if x, y := assemble(awslogs("g"), whole...), assemble(awslogs("g"), parts...); !slices.Equal(x, y) {
			t.Errorf("%q, %q", x, y)
		}
	})
}
