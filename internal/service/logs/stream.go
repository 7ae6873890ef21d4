package logs

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"skerry/internal/api/logs"
	"skerry/internal/auth"
	"skerry/internal/base/arn"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// CreateLogStream makes a log stream.
func (s *Service) CreateLogStream(ctx context.Context, sc auth.Scope, in *logs.CreateLogStreamInput) (*logs.CreateLogStreamOutput, error) {
	row := &streamRow{Name: wire.Value(in.LogStreamName), ID: newID(), Created: s.now()}
	err := s.Store.Update(ctx, func(tx *store.Tx) error {
		g, err := group(tx, sc, wire.Value(in.LogGroupName))
		if err != nil {
			return err
		}
		row.Group = g.ID
		return streams.Insert(tx, row)
	})
	if errors.Is(err, store.ErrExists) {
		return nil, &logs.ResourceAlreadyExistsException{Message: new("The specified log stream already exists")}
	}
	return &logs.CreateLogStreamOutput{}, err
}

// groupOf returns the group that an operation names in one of two ways.
func (s *Service) groupOf(tx *store.Tx, sc auth.Scope, name, identifier *string) (*groupRow, error) {
	if (name == nil) == (identifier == nil) {
		return nil, invalid("Exactly one of logGroupName and logGroupIdentifier must be specified.")
	}
	n, ok := groupName(sc, *either(name, identifier))
	if !ok {
		n = "" // which no group has
	}
	return group(tx, sc, n)
}

// DescribeLogStreams lists a group's streams by name or by the time of their
// latest event.
func (s *Service) DescribeLogStreams(ctx context.Context, sc auth.Scope, in *logs.DescribeLogStreamsInput) (*logs.DescribeLogStreamsOutput, error) {
	byTime := wire.Value(in.OrderBy) == logs.OrderByLastEventTime
	if byTime && in.LogStreamNamePrefix != nil {
		return nil, invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
	}
	out := &logs.DescribeLogStreamsOutput{LogStreams: []logs.LogStream{}}
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		g, err := s.groupOf(tx, sc, in.LogGroupName, in.LogGroupIdentifier)
		if err != nil {
			return err
		}
		page := pageByName
		if byTime {
			page = pageByTime
		}
		found, token, err := page(tx, g, in)
		out.NextToken = token
		for _, st := range found {
			out.LogStreams = append(out.LogStreams, describeStream(g, st))
		}
		return err
	})
	return out, err
}

// pageByName returns a page of streams in order of name.
func pageByName(tx *store.Tx, g *groupRow, in *logs.DescribeLogStreamsInput) ([]*streamRow, *string, error) {
	r := store.Range{Prefix: store.KPrefix(g.ID, wire.Value(in.LogStreamNamePrefix)), Reverse: wire.Value(in.Descending)}
	if in.NextToken != nil {
		last, err := readToken(*in.NextToken)
		if err != nil {
			return nil, nil, err
		}
		r.After = store.K(g.ID, last)
	}
	n := limit(in.Limit, 50)
	var page []*streamRow
	for st, err := range streams.Scan(tx, r) {
		if err != nil {
			return nil, nil, err
		}
		if len(page) == n {
			return page, new(writeToken(page[n-1].Name)), nil
		}
		page = append(page, st)
	}
	return page, nil, nil
}

// pageByTime returns a page of streams in order of their latest event. It sorts
// all of them: an index by time would cost two more rows with every PutLogEvents.
func pageByTime(tx *store.Tx, g *groupRow, in *logs.DescribeLogStreamsInput) ([]*streamRow, *string, error) {
	order := func(a, b *streamRow) int { return cmp.Or(cmp.Compare(a.Last, b.Last), strings.Compare(a.Name, b.Name)) }
	if wire.Value(in.Descending) {
		up := order
		order = func(a, b *streamRow) int { return up(b, a) }
	}
	var after *streamRow
	if in.NextToken != nil {
		token, err := readToken(*in.NextToken)
		if err != nil {
			return nil, nil, err
		}
		last, name, _ := strings.Cut(token, " ")
		t, err := strconv.ParseInt(last, 10, 64)
		if err != nil {
			return nil, nil, errToken()
		}
		after = &streamRow{Last: t, Name: name}
	}
	var all []*streamRow
	for st, err := range streams.Scan(tx, store.Range{Prefix: store.K(g.ID)}) {
		if err != nil {
			return nil, nil, err
		}
		if after == nil || order(after, st) < 0 {
			all = append(all, st)
		}
	}
	slices.SortFunc(all, order)
	n := limit(in.Limit, 50)
	if len(all) <= n {
		return all, nil, nil
	}
	last := all[n-1]
	return all[:n], new(writeToken(strconv.FormatInt(last.Last, 10) + " " + last.Name)), nil
}

func describeStream(g *groupRow, st *streamRow) logs.LogStream {
	out := logs.LogStream{
		LogStreamName: &st.Name, CreationTime: &st.Created, StoredBytes: new(int64(0)),
		Arn: new(arn.New("logs", g.Region, g.Account, "log-group:"+g.Name+":log-stream:"+st.Name).String()),
	}
	// A stream's storedBytes is zero since June 2019; only the group's counts.
	if st.Ingested > 0 {
		out.FirstEventTimestamp, out.LastEventTimestamp = &st.First, &st.Last
		out.LastIngestionTime = &st.Ingested
		out.UploadSequenceToken = new(sequenceToken(st.Seq))
	}
	return out
}

// DeleteLogStream deletes a stream with its events, which the sweep removes later.
func (s *Service) DeleteLogStream(ctx context.Context, sc auth.Scope, in *logs.DeleteLogStreamInput) (*logs.DeleteLogStreamOutput, error) {
	return &logs.DeleteLogStreamOutput{}, s.Store.Update(ctx, func(tx *store.Tx) error {
		g, err := group(tx, sc, wire.Value(in.LogGroupName))
		if err != nil {
			return err
		}
		st, err := stream(tx, g, wire.Value(in.LogStreamName))
		if err == nil {
			err = deletable(g)
		}
		if err != nil {
			return err
		}
		if err := streams.Delete(tx, store.K(g.ID, st.Name)); err != nil {
			return err
		}
		return garbage.Put(tx, &garbageRow{Group: g.ID, Stream: st.ID})
	})
}
