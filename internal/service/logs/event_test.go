package logs

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"skerry/internal/api/logs"
)

func TestBatchLimits(t *testing.T) {
	h := newHarness(t)
	h.make("g", "s")
	put := func(events []logs.InputLogEvent) *logs.PutLogEventsInput {
		return &logs.PutLogEventsInput{LogGroupName: new("g"), LogStreamName: new("s"), LogEvents: events}
	}
	do(h, h.PutLogEvents, put(h.batch(0, strings.Repeat("x", 1<<20-26))))
	refuse(h, h.PutLogEvents, put(h.batch(0, strings.Repeat("x", 1<<20+1))),
		"InvalidParameterException", "Log event too large: 1048603 bytes exceeds limit of 1048576")
	refuse(h, h.PutLogEvents, put(h.batch(0, strings.Repeat("x", 1<<19), strings.Repeat("x", 1<<19))),
		"InvalidParameterException", "Upload too large: 1048628 bytes exceeds limit of 1048576")
	refuse(h, h.PutLogEvents, put(append(h.batch(0, "b"), h.batch(-1, "a")...)),
		"InvalidParameterException", "Log events in a single PutLogEvents request must be in chronological order.")
	refuse(h, h.PutLogEvents, put(append(h.batch(-25*time.Hour, "a"), h.batch(0, "b")...)),
		"InvalidParameterException", "The batch of log events in a single PutLogEvents request cannot span more than 24 hours.")
	refuse(h, h.PutLogEvents, &logs.PutLogEventsInput{LogGroupName: new("x"), LogStreamName: new("s"), LogEvents: h.batch(0, "a")},
		"ResourceNotFoundException", "The specified log group does not exist.")
	refuse(h, h.PutLogEvents, &logs.PutLogEventsInput{LogGroupName: new("g"), LogStreamName: new("x"), LogEvents: h.batch(0, "a")},
		"ResourceNotFoundException", "The specified log stream does not exist.")
}

func TestRejected(t *testing.T) {
	h := newHarness(t)
	h.make("g", "s")
	h.make("short", "s")
	do(h, h.PutRetentionPolicy, &logs.PutRetentionPolicyInput{LogGroupName: new("short"), RetentionInDays: new(int32(3))})
	old := append(h.batch(-14*24*time.Hour-time.Minute, "old", "old"), h.batch(-14*24*time.Hour+time.Minute, "fine")...)
	info := h.put("g", "s", old).RejectedLogEventsInfo
	if info == nil || *info.TooOldLogEventEndIndex != 2 || info.ExpiredLogEventEndIndex != nil || info.TooNewLogEventStartIndex != nil {
		t.Errorf("too old: %+v", info)
	}
	ahead := append(h.batch(time.Hour, "fine"), h.batch(3*time.Hour, "new", "new")...)
	info = h.put("g", "s", ahead).RejectedLogEventsInfo
	if info == nil || *info.TooNewLogEventStartIndex != 1 || info.TooOldLogEventEndIndex != nil {
		t.Errorf("too new: %+v", info)
	}
	expired := append(h.batch(-3*24*time.Hour-time.Minute, "gone"), h.batch(-3*24*time.Hour+time.Minute, "fine")...)
	info = h.put("short", "s", expired).RejectedLogEventsInfo
	if info == nil || *info.ExpiredLogEventEndIndex != 1 || info.TooOldLogEventEndIndex != nil {
		t.Errorf("expired: %+v", info)
	}
	for g, want := range map[string]int{"g": 2, "short": 1} {
		if got := h.search(logs.FilterLogEventsInput{LogGroupName: &g}); len(got) != want {
			t.Errorf("%s holds %v", g, got)
		}
	}
	if out := h.put("g", "s", h.batch(3*time.Hour, "new")); out.NextSequenceToken == nil {
		t.Error("no sequence token")
	}
}

// written is an event as the test remembers it.
type written struct {
	stream string
	time   int64
	order  int // of writing
	text   string
}

// fill writes random batches into random streams and returns all events in the
// order that readers must show.
func fill(h *harness, streams []string, batches int, rng *rand.Rand) []written {
	var all []written
	for b := range batches {
		h.clock.Advance(time.Millisecond)
		s := streams[rng.IntN(len(streams))]
		at := h.clock.Now().UnixMilli() - rng.Int64N(40_000)
		var in []logs.InputLogEvent
		for range 1 + rng.IntN(12) {
			at += rng.Int64N(6000) * int64(rng.IntN(2))
			w := written{s, at, len(all), fmt.Sprintf("%d/%d %s", b, len(all), []string{"odd", "even"}[rng.IntN(2)])}
			all = append(all, w)
			in = append(in, logs.InputLogEvent{Timestamp: new(at), Message: &w.text})
		}
		h.put("g", s, in)
	}
	slices.SortStableFunc(all, func(a, b written) int { return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.order, b.order)) })
	return all
}

func texts(all []written, want func(written) bool) []string {
	out := []string{}
	for _, w := range all {
		if want(w) {
			out = append(out, w.text)
		}
	}
	return out
}

func TestReadsInOrder(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 0))
		h := newHarness(t)
		names := numbered("s%02d", []int{1, 3, 20}[seed%3])
		h.make("g", names...)
		all := fill(h, names, 60, rng)
		some := names[:1+len(names)/2]
		lo, hi := all[len(all)/5].time, all[len(all)*4/5].time
		for name, c := range map[string]struct {
			in   logs.FilterLogEventsInput
			want []string
		}{
			"all":      {logs.FilterLogEventsInput{}, texts(all, func(written) bool { return true })},
			"matching": {logs.FilterLogEventsInput{FilterPattern: new("odd")}, texts(all, func(w written) bool { return strings.Contains(w.text, "odd") })},
			"between": {logs.FilterLogEventsInput{StartTime: &lo, EndTime: &hi},
				texts(all, func(w written) bool { return w.time >= lo && w.time <= hi })},
			"some": {logs.FilterLogEventsInput{LogStreamNames: some},
				texts(all, func(w written) bool { return slices.Contains(some, w.stream) })},
			"prefix": {logs.FilterLogEventsInput{LogStreamNamePrefix: new("s0")},
				texts(all, func(w written) bool { return strings.HasPrefix(w.stream, "s0") })},
		} {
			for _, n := range []int32{7, 10000} {
				c.in.LogGroupName, c.in.Limit, c.in.NextToken = new("g"), &n, nil
				if got := h.search(c.in); !slices.Equal(got, c.want) {
					t.Fatalf("seed %d, %s by %d:\n got %q\nwant %q", seed, name, n, got, c.want)
				}
				back := c.in
				if back.StartFromHead = new(false); back.StartTime == nil {
					back.StartTime = new(int64(firstReverse))
				}
				got := h.search(back)
				slices.Reverse(got)
				if !slices.Equal(got, c.want) {
					t.Fatalf("seed %d, %s backward by %d:\n got %q\nwant %q", seed, name, n, got, c.want)
				}
			}
		}
		walkStream(t, h, names[0], texts(all, func(w written) bool { return w.stream == names[0] }))
	}
}

// walkStream reads a stream by GetLogEvents in both directions.
func walkStream(t *testing.T, h *harness, name string, want []string) {
	t.Helper()
	in := &logs.GetLogEventsInput{LogGroupName: new("g"), LogStreamName: &name, Limit: new(int32(5)), StartFromHead: new(true)}
	got := []string{}
	for {
		out := do(h, h.GetLogEvents, in)
		for _, e := range out.Events {
			got = append(got, *e.Message)
		}
		if in.NextToken != nil && *out.NextForwardToken == *in.NextToken {
			break
		}
		in.NextToken = out.NextForwardToken
	}
	if !slices.Equal(got, want) {
		t.Fatalf("forward: %q, want %q", got, want)
	}
	in = &logs.GetLogEventsInput{LogGroupName: new("g"), LogStreamName: &name, Limit: new(int32(5))}
	got = []string{}
	for {
		out := do(h, h.GetLogEvents, in)
		var page []string
		for _, e := range out.Events {
			page = append(page, *e.Message)
		}
		got = append(page, got...)
		if in.NextToken != nil && *out.NextBackwardToken == *in.NextToken {
			break
		}
		in.NextToken = out.NextBackwardToken
	}
	if !slices.Equal(got, want) {
		t.Fatalf("backward: %q, want %q", got, want)
	}
}

func TestGetTokens(t *testing.T) {
	h := newHarness(t)
	h.make("g", "s")
	get := func(token *string, head bool) *logs.GetLogEventsOutput {
		t.Helper()
		return do(h, h.GetLogEvents, &logs.GetLogEventsInput{LogGroupName: new("g"), LogStreamName: new("s"), NextToken: token, StartFromHead: &head, Limit: new(int32(2))})
	}
	show := func(out *logs.GetLogEventsOutput) string {
		var s []string
		for _, e := range out.Events {
			s = append(s, *e.Message)
		}
		return strings.Join(s, "")
	}
	empty := get(nil, true)
	h.put("g", "s", h.batch(0, "a", "b", "c"))
	if got := show(get(empty.NextForwardToken, true)); got != "ab" {
		t.Errorf("what came after an empty answer: %q", got)
	}
	tail := get(nil, false)
	if got := show(tail); got != "bc" {
		t.Errorf("the latest: %q", got)
	}
	end := get(tail.NextForwardToken, true)
	if show(end) != "" || *end.NextForwardToken != *tail.NextForwardToken {
		t.Errorf("at the end: %q, %s after %s", show(end), *end.NextForwardToken, *tail.NextForwardToken)
	}
	if got := show(get(end.NextBackwardToken, false)); got != "bc" {
		t.Errorf("back from the end: %q", got)
	}
	h.put("g", "s", h.batch(time.Second, "d"))
	if got := show(get(end.NextForwardToken, true)); got != "d" {
		t.Errorf("what came meanwhile: %q", got)
	}
	head := get(get(tail.NextBackwardToken, false).NextBackwardToken, false)
	if show(head) != "" {
		t.Errorf("before the head: %q", show(head))
	}
	if got := show(get(head.NextForwardToken, true)); got != "ab" {
		t.Errorf("forward from the head: %q", got)
	}
	for _, token := range []string{"", "f", "f/12/s", "x/" + strings.Repeat("0", 56) + "/s"} {
		refuse(h, h.GetLogEvents, &logs.GetLogEventsInput{LogGroupName: new("g"), LogStreamName: new("s"), NextToken: &token},
			"InvalidParameterException", "The specified nextToken is invalid.")
	}
}

func TestAnswerSize(t *testing.T) {
	h := newHarness(t)
	h.make("g", "s")
	for range 3 {
		h.clock.Advance(time.Second)
		h.put("g", "s", h.batch(0, strings.Repeat("x", 600_000)))
	}
	in := &logs.FilterLogEventsInput{LogGroupName: new("g")}
	pages := 0
	for {
		out := do(h, h.FilterLogEvents, in)
		if len(out.Events) != 1 {
			t.Fatalf("%d events in a page", len(out.Events))
		}
		pages++
		if in.NextToken = out.NextToken; in.NextToken == nil {
			break
		}
	}
	if pages != 3 {
		t.Errorf("%d pages", pages)
	}
	if out := do(h, h.GetLogEvents, &logs.GetLogEventsInput{LogGroupName: new("g"), LogStreamName: new("s")}); len(out.Events) != 1 {
		t.Errorf("GetLogEvents: %d events", len(out.Events))
	}
}

func TestSearchRefusals(t *testing.T) {
	h := newHarness(t)
	h.make("g", "s")
	in := logs.FilterLogEventsInput{LogGroupName: new("g"), FilterPattern: new("a:b")}
	refuse(h, h.FilterLogEvents, &in, "InvalidParameterException", "Invalid character(s) in term ':'")
	refuse(h, h.FilterLogEvents, &logs.FilterLogEventsInput{LogGroupName: new("g"), LogStreamNames: []string{"no"}},
		"ResourceNotFoundException", "The specified log stream does not exist.")
	refuse(h, h.FilterLogEvents, &logs.FilterLogEventsInput{LogGroupName: new("g"), NextToken: new("x")},
		"InvalidParameterException", "The specified nextToken is invalid.")
	refuse(h, h.FilterLogEvents, &logs.FilterLogEventsInput{LogGroupName: new("g"), StartFromHead: new(false)}, "InvalidParameterException", "")
	refuse(h, h.FilterLogEvents, &logs.FilterLogEventsInput{}, "InvalidParameterException", "")
	do(h, h.CreateLogGroup, &logs.CreateLogGroupInput{LogGroupName: new("ia"), LogGroupClass: new("INFREQUENT_ACCESS")})
	refuse(h, h.FilterLogEvents, &logs.FilterLogEventsInput{LogGroupName: new("ia")}, "InvalidParameterException", "")
}

func TestTestMetricFilter(t *testing.T) {
	h := newHarness(t)
	out := do(h, h.TestMetricFilter, &logs.TestMetricFilterInput{
		FilterPattern: new("[ip, ..., status=4*]"), LogEventMessages: []string{"1.2.3.4 GET 404", "1.2.3.4 GET 200", "5.6.7.8 x y 403"},
	})
	if len(out.Matches) != 2 || *out.Matches[1].EventNumber != 2 || out.Matches[1].ExtractedValues["$ip"] != "5.6.7.8" {
		t.Errorf("%+v", out.Matches)
	}
	refuse(h, h.TestMetricFilter, &logs.TestMetricFilterInput{FilterPattern: new("{"), LogEventMessages: []string{"x"}}, "InvalidParameterException", "Invalid filter pattern")
}

func TestEventIDs(t *testing.T) {
	// AWS's ids of this time begin like this.
	if id := (position{Time: 1396035378988}).id(); len(id) != 56 || !strings.HasPrefix(id, "31132629274945519") {
		t.Errorf("id %s", id)
	}
	p := position{1396035378988, 1 << 60, 1<<63 - 1, 9999}
	id := p.id()
	if q, ok := parsePosition(id); !ok || q != p {
		t.Errorf("%v becomes %v", p, q)
	}
}

func TestDamagedChunk(t *testing.T) {
	for _, data := range []string{"\x00", "\x00\x05abc", "\xff", "\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x"} {
		if _, err := (&chunkRow{Data: []byte(data)}).events(); err == nil {
			t.Errorf("%q decodes", data)
		}
	}
}

func TestLiveTail(t *testing.T) {
	h := newHarness(t)
	h.make("g", "a", "b")
	h.make("other", "a")
	h.put("g", "a", h.batch(0, "ERROR before"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	arn := "arn:aws:logs:us-east-1:123456789012:log-group:g"
	out, err := h.StartLiveTail(ctx, h.scope, &logs.StartLiveTailInput{
		LogGroupIdentifiers: []string{arn}, LogStreamNamePrefixes: []string{"a"}, LogEventFilterPattern: new("ERROR"),
	})
	if err != nil {
		t.Fatal(err)
	}
	h.put("g", "a", h.batch(0, "ERROR 1", "INFO", "ERROR 2"))
	h.put("g", "b", h.batch(0, "ERROR b"))
	h.put("other", "a", h.batch(0, "ERROR other"))
	updates := make(chan *logs.StartLiveTailResponseStream)
	done := make(chan struct{})
	go func() {
		defer close(done)
		out.ResponseStream(func(e *logs.StartLiveTailResponseStream, err error) bool {
			if err != nil {
				t.Errorf("the stream ended: %v", err)
			}
			updates <- e
			return true
		})
	}()
	if e := <-updates; e.SessionStart == nil || *e.SessionStart.LogEventFilterPattern != "ERROR" {
		t.Fatalf("begins with %+v", e)
	}
	tick := func() *logs.LiveTailSessionUpdate {
		if err := h.clock.Waiting(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		h.clock.Advance(time.Second)
		return (<-updates).SessionUpdate
	}
	u := tick()
	if len(u.SessionResults) != 2 || *u.SessionResults[1].Message != "ERROR 2" || *u.SessionResults[0].LogStreamName != "a" || *u.SessionMetadata.Sampled {
		t.Errorf("first update %+v", u)
	}
	h.put("g", "a", h.batch(0, numbered("ERROR %d", 600)...))
	if u := tick(); len(u.SessionResults) != tailEvents || !*u.SessionMetadata.Sampled {
		t.Errorf("an update of many has %d, sampled %v", len(u.SessionResults), *u.SessionMetadata.Sampled)
	}
	if u := tick(); u.SessionResults == nil || len(u.SessionResults) != 0 {
		t.Errorf("an empty update: %+v", u)
	}
	cancel()
	<-done
	h.tails.mu.Lock()
	defer h.tails.mu.Unlock()
	if n := len(h.tails.mu.open); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

func TestLiveTailLimits(t *testing.T) {
	h := newHarness(t)
	h.make("g")
	in := &logs.StartLiveTailInput{LogGroupIdentifiers: []string{"g"}}
	for range maxTails {
		do(h, h.StartLiveTail, in)
	}
	refuse(h, h.StartLiveTail, in, "LimitExceededException", "")
	refuse(h, h.StartLiveTail, &logs.StartLiveTailInput{LogGroupIdentifiers: []string{"g", "h"}, LogStreamNames: []string{"s"}}, "InvalidParameterException", "")
	refuse(h, h.StartLiveTail, &logs.StartLiveTailInput{LogGroupIdentifiers: []string{"no"}}, "ResourceNotFoundException", "")
}

func BenchmarkPutLogEvents(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("batch=%d", n), func(b *testing.B) {
			h := newHarness(b)
			h.make("g", numbered("s%d", 64)...)
			messages := make([]string, n)
			for i := range messages {
				messages[i] = strings.Repeat("m", 150)
			}
			batch := h.batch(0, messages...)
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				s := fmt.Sprintf("s%d", rand.IntN(64))
				for pb.Next() {
					h.put("g", s, batch)
				}
			})
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

func BenchmarkFilterLogEvents(b *testing.B) {
	h := newHarness(b)
	names := numbered("s%d", 8)
	h.make("g", names...)
	messages := make([]string, 500)
	for i := range messages {
		messages[i] = fmt.Sprintf("%06d %s", i, strings.Repeat("m", 150))
	}
	total := 0
	for i := range 64 {
		h.clock.Advance(time.Second)
		h.put("g", names[i%8], h.batch(0, messages...))
		total += len(messages) * (157 + overhead)
	}
	b.SetBytes(int64(total))
	for b.Loop() {
		if got := h.search(logs.FilterLogEventsInput{LogGroupName: new("g"), FilterPattern: new("nothing")}); len(got) != 0 {
			b.Fatal(got)
		}
	}
}
