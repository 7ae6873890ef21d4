package logs

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"skerry/internal/api/lambda"
	"skerry/internal/api/logs"
	"skerry/internal/auth"
	"skerry/internal/base/arn"
	"skerry/internal/base/ids"
	"skerry/internal/events"
	"skerry/internal/op"
	"skerry/internal/service/logs/filter"
	"skerry/internal/store"
	"skerry/internal/wire"
)

const (
	// maxSubscriptions is how many subscription filters a group may have.
	maxSubscriptions = 2
	// maxPayload is the size in bytes above which a message to a function is split
	// in two; Lambda takes 256 KB in an asynchronous invocation at least.
	maxPayload = 200 << 10

	principal = "logs.amazonaws.com"
)

// PutSubscriptionFilter has the events of a group that match a pattern sent to a
// Lambda function, as they come.
func (s *Service) PutSubscriptionFilter(ctx context.Context, sc auth.Scope, in *logs.PutSubscriptionFilterInput) (*logs.PutSubscriptionFilterOutput, error) {
	if _, err := filter.Compile(wire.Value(in.FilterPattern)); err != nil {
		return nil, invalid(err.Error())
	}
	if wire.Value(in.ApplyOnTransformedLogs) || in.FieldSelectionCriteria != nil || in.EmitSystemFields != nil {
		return nil, invalid("Transformed logs, field selection criteria and system fields are not supported here.")
	}
	destination := wire.Value(in.DestinationArn)
	to, err := arn.Parse(destination)
	if err != nil || to.Service != "lambda" || !strings.HasPrefix(to.Resource, "function:") {
		return nil, invalid("destinationArn is not the ARN of a Lambda function, the only kind of destination supported here.")
	}
	if in.RoleArn != nil {
		return nil, invalid("destinationArn for vendor lambda cannot be used with roleArn")
	}
	name := wire.Value(in.LogGroupName)
	function := strings.Split(to.Resource, ":")[1]
	if name == "/aws/lambda/"+function {
		return nil, invalid("The log group provided is reserved for the function logs of the destination function.")
	}
	var g *groupRow
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		var err error
		g, err = group(tx, sc, name)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := readable(g, "PutSubscriptionFilter"); err != nil {
		return nil, err
	}
	if err := s.mayInvoke(ctx, g, destination); err != nil {
		return nil, err
	}
	row := &subscriptionRow{
		Name: wire.Value(in.FilterName), Pattern: wire.Value(in.FilterPattern), Destination: destination,
		Distribution: logs.DistributionByLogStream, Created: s.now(),
	}
	if in.Distribution != nil {
		row.Distribution = *in.Distribution
	}
	return &logs.PutSubscriptionFilterOutput{}, s.Store.Update(ctx, func(tx *store.Tx) error {
		g, err := group(tx, sc, name)
		if err != nil {
			return err
		}
		row.Group = g.ID
		n := 0
		for other, err := range subscriptions.Scan(tx, store.Range{Prefix: store.K(g.ID)}) {
			if err != nil {
				return err
			}
			if other.Name == row.Name {
				row.Created = other.Created
			} else if n++; n == maxSubscriptions {
				return &logs.LimitExceededException{Message: new("Resource limit exceeded.")}
			}
		}
		return subscriptions.Put(tx, row)
	})
}

// mayInvoke asks whether a function may be invoked for a group.
func (s *Service) mayInvoke(ctx context.Context, g *groupRow, function string) error {
	sc := auth.ServiceScope(principal, g.Account, g.Region, g.arn()+":*", ids.UUID(), s.Clock.Now())
	_, err := op.Call[lambda.InvokeOutput](ctx, s.Cloud, sc, "lambda", "Invoke", &lambda.InvokeInput{
		FunctionName: &function, InvocationType: new(lambda.InvocationTypeDryRun),
	})
	if err != nil {
		return invalid("Could not execute the lambda function. Make sure you have given CloudWatch Logs permission to execute your function.")
	}
	return nil
}

// DescribeSubscriptionFilters lists a group's subscription filters by name.
func (s *Service) DescribeSubscriptionFilters(ctx context.Context, sc auth.Scope, in *logs.DescribeSubscriptionFiltersInput) (*logs.DescribeSubscriptionFiltersOutput, error) {
	out := &logs.DescribeSubscriptionFiltersOutput{SubscriptionFilters: []logs.SubscriptionFilter{}}
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		g, err := group(tx, sc, wire.Value(in.LogGroupName))
		if err != nil {
			return err
		}
		r := store.Range{Prefix: store.KPrefix(g.ID, wire.Value(in.FilterNamePrefix))}
		if in.NextToken != nil {
			last, err := readToken(*in.NextToken)
			if err != nil {
				return err
			}
			r.After = store.K(g.ID, last)
		}
		n := limit(in.Limit, 50)
		for row, err := range subscriptions.Scan(tx, r) {
			if err != nil {
				return err
			}
			if len(out.SubscriptionFilters) == n {
				out.NextToken = new(writeToken(*out.SubscriptionFilters[n-1].FilterName))
				break
			}
			out.SubscriptionFilters = append(out.SubscriptionFilters, logs.SubscriptionFilter{
				FilterName: &row.Name, LogGroupName: &g.Name, FilterPattern: &row.Pattern,
				DestinationArn: &row.Destination, Distribution: &row.Distribution, CreationTime: &row.Created,
			})
		}
		return nil
	})
	return out, err
}

// DeleteSubscriptionFilter deletes a subscription filter. What it has sent to the
// outbox already is still delivered.
func (s *Service) DeleteSubscriptionFilter(ctx context.Context, sc auth.Scope, in *logs.DeleteSubscriptionFilterInput) (*logs.DeleteSubscriptionFilterOutput, error) {
	return &logs.DeleteSubscriptionFilterOutput{}, s.Store.Update(ctx, func(tx *store.Tx) error {
		g, err := group(tx, sc, wire.Value(in.LogGroupName))
		if err != nil {
			return err
		}
		key := store.K(g.ID, wire.Value(in.FilterName))
		if found, err := subscriptions.Has(tx, key); err != nil || !found {
			if err == nil {
				err = &logs.ResourceNotFoundException{Message: new("The specified subscription filter does not exist.")}
			}
			return err
		}
		return subscriptions.Delete(tx, key)
	})
}

// forward emits what the group's subscription filters want of new chunks.
func (s *Service) forward(tx *store.Tx, g *groupRow, made []*chunkRow, now time.Time) error {
	for row, err := range subscriptions.Scan(tx, store.Range{Prefix: store.K(g.ID)}) {
		if err != nil {
			return err
		}
		want, err := filter.Compile(row.Pattern)
		if err != nil {
			return fmt.Errorf("logs: subscription filter %s of %s: %w", row.Name, g.Name, err)
		}
		message := subscribed{
			MessageType: "DATA_MESSAGE", Owner: g.Account, LogGroup: g.Name, LogStream: made[0].Name,
			SubscriptionFilters: []string{row.Name},
		}
		for _, c := range made {
			all, err := c.events()
			if err != nil {
				return err
			}
			for _, e := range all {
				if want.Match(e.message) {
					message.LogEvents = append(message.LogEvents, subscribedEvent{e.id(), e.Time, e.message})
				}
			}
		}
		if len(message.LogEvents) == 0 {
			continue
		}
		payloads, err := message.payloads()
		if err != nil {
			return err
		}
		for _, p := range payloads {
			err := s.Outbox.Emit(tx, events.Delivery{
				Target: row.Destination, Source: g.arn() + ":*", Service: principal,
				Account: g.Account, Region: g.Region, Payload: p, Created: now,
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// subscribed is a message to a destination ("Real-time processing of log data with
// subscriptions").
type subscribed struct {
	MessageType         string            `json:"messageType"`
	Owner               string            `json:"owner"`
	LogGroup            string            `json:"logGroup"`
	LogStream           string            `json:"logStream"`
	SubscriptionFilters []string          `json:"subscriptionFilters"`
	LogEvents           []subscribedEvent `json:"logEvents"`
}

type subscribedEvent struct {
	ID        string `json:"id"`
	Timestamp int64  `json:"timestamp"`
	Message   string `json:"message"`
}

// payloads writes the message as functions get it, gzipped inside of JSON, in as
// many parts as its size asks for.
func (m subscribed) payloads() ([][]byte, error) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	enc := json.NewEncoder(z)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(m); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	var event struct {
		Logs struct {
			Data []byte `json:"data"` // which JSON writes in base64
		} `json:"awslogs"`
	}
	event.Logs.Data = zipped.Bytes()
	payload, err := json.Marshal(event)
	if err != nil || len(payload) <= maxPayload || len(m.LogEvents) == 1 {
		return [][]byte{payload}, err
	}
	half := len(m.LogEvents) / 2
	first, second := m, m
	first.LogEvents, second.LogEvents = m.LogEvents[:half], m.LogEvents[half:]
	a, err := first.payloads()
	if err != nil {
		return nil, err
	}
	b, err := second.payloads()
	return append(a, b...), err
}
