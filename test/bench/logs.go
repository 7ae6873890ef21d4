package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"skerry/internal/api/logs"
)

// measureLogs measures writing log events and searching through them.
func measureLogs(ctx context.Context, b *bench) error {
	return withServer(ctx, b, func(s *server) error {
		a := s.api()
		const streams, batch = 16, 1000
		if _, err := call[logs.CreateLogGroupOutput](ctx, a, logs.Schema, "CreateLogGroup", &logs.CreateLogGroupInput{LogGroupName: new("bench")}); err != nil {
			return err
		}
		for i := range streams {
			in := &logs.CreateLogStreamInput{LogGroupName: new("bench"), LogStreamName: new(fmt.Sprint(i))}
			if _, err := call[logs.CreateLogStreamOutput](ctx, a, logs.Schema, "CreateLogStream", in); err != nil {
				return err
			}
		}
		line := "GET /item/12345 200 " + strings.Repeat("x", 130)
		_, rate, err := load(ctx, streams, b.span, func(client, _ int) error {
			in := &logs.PutLogEventsInput{LogGroupName: new("bench"), LogStreamName: new(fmt.Sprint(client))}
			now := time.Now().UnixMilli()
			for range batch {
				in.LogEvents = append(in.LogEvents, logs.InputLogEvent{Timestamp: &now, Message: &line})
			}
			_, err := call[logs.PutLogEventsOutput](ctx, a, logs.Schema, "PutLogEvents", in)
			return err
		})
		if err != nil {
			return err
		}
		b.table.add(fmt.Sprintf("PutLogEvents, batches of %d events of %d bytes, %d clients", batch, len(line), streams), "",
			"%.0f events a second, %.0f MB/s", rate*batch, rate*batch*float64(len(line))/1e6)
		groups, err := call[logs.DescribeLogGroupsOutput](ctx, a, logs.Schema, "DescribeLogGroups", &logs.DescribeLogGroupsInput{})
		if err != nil {
			return err
		}
		began := time.Now()
		in := &logs.FilterLogEventsInput{LogGroupName: new("bench"), FilterPattern: new("nowhere")}
		for {
			out, err := call[logs.FilterLogEventsOutput](ctx, a, logs.Schema, "FilterLogEvents", in)
			if err != nil {
				return err
			}
			if in.NextToken = out.NextToken; out.NextToken == nil {
				break
			}
		}
		stored := float64(*groups.LogGroups[0].StoredBytes)
		b.table.add("FilterLogEvents through all of it, one client", "", "%.0f MB/s", stored/1e6/time.Since(began).Seconds())
		return nil
	})
}
