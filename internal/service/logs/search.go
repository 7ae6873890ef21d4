package logs

import (
	"context"
	"strings"

	"skerry/internal/api/logs"
	"skerry/internal/auth"
	"skerry/internal/service/logs/filter"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// maxScan is how many bytes of events one call of FilterLogEvents reads at most;
// its token leads on from there, be there events in the answer or not.
const maxScan = 64 << 20

// firstReverse is the earliest start of a search that begins at the end: January
// 1, 2024.
const firstReverse = 1_704_067_200_000

// FilterLogEvents returns the events of a group, or of some of its streams, that
// match a pattern, in order of time over all streams: the earliest first unless
// startFromHead is false. A token goes on in the direction of the call it is from.
func (s *Service) FilterLogEvents(ctx context.Context, sc auth.Scope, in *logs.FilterLogEventsInput) (*logs.FilterLogEventsOutput, error) {
	if in.LogStreamNames != nil && in.LogStreamNamePrefix != nil {
		return nil, invalid("Only one of logStreamNames and logStreamNamePrefix can be specified.")
	}
	want, err := filter.Compile(wire.Value(in.FilterPattern))
	if err != nil {
		return nil, invalid(err.Error())
	}
	q := query{
		start: wire.Value(in.StartTime), end: endless,
		reverse: in.StartFromHead != nil && !*in.StartFromHead,
	}
	if in.EndTime != nil {
		q.end = min(*in.EndTime, endless-1) + 1 // which is itself included here
	}
	if q.start >= q.end {
		return nil, invalid("The startTime must be less than or equal to the endTime.")
	}
	if q.reverse && q.start < firstReverse {
		return nil, invalid("startFromHead can be false only when startTime is on or after Jan 1, 2024 00:00:00 UTC.")
	}
	if in.NextToken != nil {
		var ok bool
		if q.after, q.reverse, ok = readPlace(*in.NextToken); !ok {
			return nil, errToken()
		}
	}
	out := &logs.FilterLogEventsOutput{Events: []logs.FilteredLogEvent{}, SearchedLogStreams: []logs.SearchedLogStream{}}
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		g, err := s.groupOf(tx, sc, in.LogGroupName, in.LogGroupIdentifier)
		if err != nil {
			return err
		}
		if err := readable(g, "FilterLogEvents"); err != nil {
			return err
		}
		q.group, q.start = g.ID, max(q.start, g.oldest(s.now()))
		if q.streams, err = chosen(tx, g, in); err != nil {
			return err
		}
		return search(tx, q, want, limit(in.Limit, maxEvents), out)
	})
	return out, err
}

// chosen returns the streams that a search is restricted to, nil for all.
func chosen(tx *store.Tx, g *groupRow, in *logs.FilterLogEventsInput) (map[uint64]bool, error) {
	if in.LogStreamNames == nil && in.LogStreamNamePrefix == nil {
		// Events of a deleted stream stay until the sweep has removed them.
		return living(tx, g)
	}
	ids := map[uint64]bool{}
	for _, name := range in.LogStreamNames {
		st, err := stream(tx, g, name)
		if err != nil {
			return nil, err
		}
		ids[st.ID] = true
	}
	if in.LogStreamNamePrefix != nil {
		for st, err := range streams.Scan(tx, store.Range{Prefix: store.KPrefix(g.ID, *in.LogStreamNamePrefix)}) {
			if err != nil {
				return nil, err
			}
			ids[st.ID] = true
		}
	}
	return ids, nil
}

// living returns nil, which stands for all streams, unless streams were deleted of
// which there may still be events: then those that are left.
func living(tx *store.Tx, g *groupRow) (map[uint64]bool, error) {
	deleted := false
	for _, err := range garbage.Scan(tx, store.Range{Prefix: store.K(g.ID)}) {
		if err != nil {
			return nil, err
		}
		deleted = true
		break
	}
	if !deleted {
		return nil, nil
	}
	ids := map[uint64]bool{}
	for st, err := range streams.Scan(tx, store.Range{Prefix: store.K(g.ID)}) {
		if err != nil {
			return nil, err
		}
		ids[st.ID] = true
	}
	return ids, nil
}

// search adds up to n events that match to an answer, and the token that leads on
// if there is more to read.
func search(tx *store.Tx, q query, want *filter.Filter, n int, out *logs.FilterLogEventsOutput) error {
	all := want.All()
	scanned, bytes := 0, 0
	direction := "f"
	if q.reverse {
		direction = "b"
	}
	var last position
	for e, err := range q.read(tx) {
		if err != nil {
			return err
		}
		if len(out.Events) == n || scanned > maxScan {
			out.NextToken = new(writePlace(direction, last))
			return nil
		}
		scanned += len(e.message) + overhead
		if all || want.Match(e.message) {
			if bytes += len(e.message) + overhead; len(out.Events) > 0 && bytes > maxAnswer {
				out.NextToken = new(writePlace(direction, last))
				return nil
			}
			out.Events = append(out.Events, logs.FilteredLogEvent{
				LogStreamName: &e.chunk.Name, Timestamp: new(e.Time), Message: &e.message,
				IngestionTime: new(e.chunk.Ingested), EventId: new(e.id()),
			})
		}
		last = e.position
		if err := tx.Context().Err(); err != nil {
			return err
		}
	}
	return nil
}

// TestMetricFilter tells which messages match a pattern, and what the pattern
// takes out of them.
func (s *Service) TestMetricFilter(_ context.Context, _ auth.Scope, in *logs.TestMetricFilterInput) (*logs.TestMetricFilterOutput, error) {
	want, err := filter.Compile(wire.Value(in.FilterPattern))
	if err != nil {
		return nil, invalid(err.Error())
	}
	out := &logs.TestMetricFilterOutput{Matches: []logs.MetricFilterMatchRecord{}}
	for i, message := range in.LogEventMessages {
		if values, ok := want.Extract(strings.TrimSuffix(message, "\n")); ok {
			out.Matches = append(out.Matches, logs.MetricFilterMatchRecord{
				EventNumber: new(int64(i)), EventMessage: &message, ExtractedValues: values,
			})
		}
	}
	return out, nil
}
