package logs

import (
	"context"
	"slices"
	"strings"

	"skerry/internal/api/logs"
	"skerry/internal/auth"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// endless is an end of time, in milliseconds, that no event reaches.
const endless = 1 << 62

// maxEvents is the largest number of events in an answer, and maxAnswer the
// largest sum of their sizes in bytes.
const (
	maxEvents = 10_000
	maxAnswer = 1 << 20
)

// readable refuses to read a group of a class that only Logs Insights reads.
func readable(g *groupRow, operation string) error {
	if g.Class != logs.LogGroupClassInfrequentAccess {
		return nil
	}
	return invalid(operation + " is not supported for log groups in the INFREQUENT_ACCESS log group class.")
}

// GetLogEvents returns events of one stream, always in their order: the latest
// ones or, with startFromHead, the earliest. Its tokens lead from there in both
// directions; at an end of the stream the token given comes back.
func (s *Service) GetLogEvents(ctx context.Context, sc auth.Scope, in *logs.GetLogEventsInput) (*logs.GetLogEventsOutput, error) {
	q := query{
		start:   wire.Value(in.StartTime),
		end:     endless,
		reverse: !wire.Value(in.StartFromHead),
	}
	if in.EndTime != nil {
		q.end = min(*in.EndTime, endless)
	}
	if in.NextToken != nil {
		var ok bool
		if q.after, q.reverse, ok = readPlace(*in.NextToken); !ok {
			return nil, errToken()
		}
	}
	var events []event
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		g, err := s.groupOf(tx, sc, in.LogGroupName, in.LogGroupIdentifier)
		if err != nil {
			return err
		}
		if err := readable(g, "GetLogEvents"); err != nil {
			return err
		}
		st, err := stream(tx, g, wire.Value(in.LogStreamName))
		if err != nil {
			return err
		}
		q.group, q.streams = g.ID, map[uint64]bool{st.ID: true}
		q.start = max(q.start, g.oldest(s.now()))
		events, err = take(tx, q, limit(in.Limit, maxEvents))
		return err
	})
	if err != nil {
		return nil, err
	}
	if q.reverse {
		slices.Reverse(events)
	}
	out := &logs.GetLogEventsOutput{Events: []logs.OutputLogEvent{}}
	for _, e := range events {
		out.Events = append(out.Events, logs.OutputLogEvent{
			Timestamp: new(e.Time), Message: &e.message, IngestionTime: new(e.chunk.Ingested),
		})
	}
	back, forth := places(q, events)
	out.NextBackwardToken, out.NextForwardToken = &back, &forth
	return out, nil
}

// take reads up to n events, and no more than fit into an answer.
func take(tx *store.Tx, q query, n int) ([]event, error) {
	var out []event
	bytes := 0
	for e, err := range q.read(tx) {
		if err != nil {
			return nil, err
		}
		bytes += len(e.message) + overhead
		if len(out) == n || len(out) > 0 && bytes > maxAnswer {
			break
		}
		out = append(out, e)
	}
	return out, nil
}

// places returns the tokens that lead on from what was read, which is in order.
// Where nothing was, they lead on from where it was looked for.
func places(q query, events []event) (back, forth string) {
	switch {
	case len(events) > 0:
		return writePlace("b", events[0].position), writePlace("f", events[len(events)-1].position)
	case q.after == nil:
		// Whatever comes is ahead of the start.
		p := position{Time: max(q.start, 0)}
		return writePlace("b", p), writePlace("f", p)
	case q.reverse:
		return writePlace("b", *q.after), writePlace("f", q.after.previous())
	}
	return writePlace("b", q.after.next()), writePlace("f", *q.after)
}

// previous returns the greatest position below p, next the least above it. No
// event has index 65535.
func (p position) previous() position {
	switch {
	case p.Index > 0:
		p.Index--
	case p.Stream > 0:
		p.Stream--
		p.Index = 1<<16 - 1
	}
	return p
}

func (p position) next() position {
	if p.Index < 1<<16-1 {
		p.Index++
	}
	return p
}

// writePlace writes a token of GetLogEvents: the direction and the position after
// which to go on in it.
func writePlace(direction string, p position) string { return direction + "/" + p.id() + "/s" }

func readPlace(token string) (after *position, reverse, ok bool) {
	direction, id, _ := strings.Cut(token, "/")
	id, _ = strings.CutSuffix(id, "/s")
	p, ok := parsePosition(id)
	return &p, direction == "b", ok && (direction == "b" || direction == "f")
}
