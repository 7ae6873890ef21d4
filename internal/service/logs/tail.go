package logs

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"skerry/internal/api/logs"
	"skerry/internal/auth"
	"skerry/internal/base/clock"
	"skerry/internal/base/ids"
	"skerry/internal/service/logs/filter"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// Limits of Live Tail.
const (
	maxTails     = 15            // sessions an account may have at once
	tailEvents   = 500           // events in one update; others are left out, and it says so
	tailPeriod   = time.Second   // between updates
	tailDuration = 3 * time.Hour // of a session
)

// tails are the open Live Tail sessions.
type tails struct {
	mu struct {
		sync.Mutex
		open []*tail
	}
}

// tail is one Live Tail session.
type tail struct {
	account  string
	groups   map[uint64]string // id to the identifier that the client used
	streams  []string
	prefixes []string
	filter   *filter.Filter
	mu       struct {
		sync.Mutex
		events  []logs.LiveTailSessionLogEvent
		sampled bool
	}
}

func (t *tails) add(x *tail) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, o := range t.mu.open {
		if o.account == x.account {
			n++
		}
	}
	if n >= maxTails {
		return false
	}
	t.mu.open = append(t.mu.open, x)
	return true
}

func (t *tails) remove(x *tail) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.open = slices.DeleteFunc(t.mu.open, func(o *tail) bool { return o == x })
}

// publish shows what was written to the sessions that want it. It never waits for
// one of them.
func (t *tails) publish(g *groupRow, made []*chunkRow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, x := range t.mu.open {
		if identifier, ok := x.groups[g.ID]; ok && x.wants(made[0].Name) {
			for _, c := range made {
				x.take(c, identifier)
			}
		}
	}
}

func (x *tail) wants(stream string) bool {
	if len(x.streams) == 0 && len(x.prefixes) == 0 {
		return true
	}
	return slices.Contains(x.streams, stream) ||
		slices.ContainsFunc(x.prefixes, func(p string) bool { return strings.HasPrefix(stream, p) })
}

func (x *tail) take(c *chunkRow, identifier string) {
	events, err := c.events()
	if err != nil {
		return // cannot be: it was made a moment ago
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range events {
		if !x.filter.Match(e.message) {
			continue
		}
		if len(x.mu.events) == tailEvents {
			x.mu.sampled = true
			return
		}
		x.mu.events = append(x.mu.events, logs.LiveTailSessionLogEvent{
			LogStreamName: &c.Name, LogGroupIdentifier: &identifier, Message: &e.message,
			Timestamp: new(e.Time), IngestionTime: &c.Ingested,
		})
	}
}

// update returns what came since the last one.
func (x *tail) update() *logs.LiveTailSessionUpdate {
	x.mu.Lock()
	defer x.mu.Unlock()
	u := &logs.LiveTailSessionUpdate{
		SessionMetadata: &logs.LiveTailSessionMetadata{Sampled: new(x.mu.sampled)},
		SessionResults:  x.mu.events,
	}
	if u.SessionResults == nil {
		u.SessionResults = []logs.LiveTailSessionLogEvent{}
	}
	x.mu.events, x.mu.sampled = nil, false
	return u
}

// StartLiveTail streams what is written to up to ten groups, from now on: an
// update every second, for three hours.
func (s *Service) StartLiveTail(ctx context.Context, sc auth.Scope, in *logs.StartLiveTailInput) (*logs.StartLiveTailOutput, error) {
	if len(in.LogGroupIdentifiers) > 1 && (in.LogStreamNames != nil || in.LogStreamNamePrefixes != nil) {
		return nil, invalid("Log stream names and prefixes can only be specified with a single log group.")
	}
	if in.LogStreamNames != nil && in.LogStreamNamePrefixes != nil {
		return nil, invalid("Only one of logStreamNames and logStreamNamePrefixes can be specified.")
	}
	want, err := filter.Compile(wire.Value(in.LogEventFilterPattern))
	if err != nil {
		return nil, invalid(err.Error())
	}
	x := &tail{
		account: sc.Account, groups: map[uint64]string{}, filter: want,
		streams: in.LogStreamNames, prefixes: in.LogStreamNamePrefixes,
	}
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		for _, id := range in.LogGroupIdentifiers {
			g, err := s.groupOf(tx, sc, nil, &id)
			if err != nil {
				return err
			}
			if err := readable(g, "StartLiveTail"); err != nil {
				return err
			}
			x.groups[g.ID] = g.Account + ":" + g.Name
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !s.tails.add(x) {
		return nil, &logs.LimitExceededException{Message: new("The maximum number of concurrent Live Tail sessions is reached.")}
	}
	// Whether or not the answer gets as far as being streamed.
	context.AfterFunc(ctx, func() { s.tails.remove(x) })
	start := &logs.LiveTailSessionStart{
		RequestId: &sc.Request.ID, SessionId: new(ids.UUID()), LogGroupIdentifiers: in.LogGroupIdentifiers,
		LogStreamNames: in.LogStreamNames, LogStreamNamePrefixes: in.LogStreamNamePrefixes,
		LogEventFilterPattern: new(wire.Value(in.LogEventFilterPattern)),
	}
	return &logs.StartLiveTailOutput{ResponseStream: func(yield func(*logs.StartLiveTailResponseStream, error) bool) {
		s.follow(ctx, x, start, yield)
	}}, nil
}

// follow runs a session until the client goes or its time is over.
func (s *Service) follow(ctx context.Context, x *tail, start *logs.LiveTailSessionStart, yield func(*logs.StartLiveTailResponseStream, error) bool) {
	defer s.tails.remove(x)
	until := s.Clock.Now().Add(tailDuration)
	if !yield(&logs.StartLiveTailResponseStream{SessionStart: start}, nil) {
		return
	}
	for s.Clock.Now().Before(until) {
		if clock.Sleep(ctx, s.Clock, tailPeriod) != nil {
			return
		}
		if !yield(&logs.StartLiveTailResponseStream{SessionUpdate: x.update()}, nil) {
			return
		}
	}
	yield(nil, &logs.SessionTimeoutException{Message: new("The session has reached its limit of three hours.")})
}
