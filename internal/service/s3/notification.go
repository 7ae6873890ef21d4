package s3

import (
	"context"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"skerry/internal/api/lambda"
	"skerry/internal/api/s3"
	"skerry/internal/api/sqs"
	"skerry/internal/auth"
	"skerry/internal/base/arn"
	"skerry/internal/base/awserr"
	"skerry/internal/base/ids"
	"skerry/internal/op"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// principal is who S3 is to other services.
const principal = "s3.amazonaws.com"

// destination is one configuration of a notification, whatever its target.
type destination struct {
	id, arn string
	service string // of the ARN
	events  []string
	filter  *s3.NotificationConfigurationFilter
}

// destinations returns all configurations of a notification but EventBridge's.
func destinations(c *s3.NotificationConfiguration) []destination {
	var out []destination
	for i := range c.TopicConfigurations {
		x := &c.TopicConfigurations[i]
		out = append(out, destination{value(x.Id), value(x.TopicArn), "sns", x.Events, x.Filter})
	}
	for i := range c.QueueConfigurations {
		x := &c.QueueConfigurations[i]
		out = append(out, destination{value(x.Id), value(x.QueueArn), "sqs", x.Events, x.Filter})
	}
	for i := range c.LambdaFunctionConfigurations {
		x := &c.LambdaFunctionConfigurations[i]
		out = append(out, destination{value(x.Id), value(x.LambdaFunctionArn), "lambda", x.Events, x.Filter})
	}
	return out
}

// named gives an id to the configurations that have none.
func named(c *s3.NotificationConfiguration) {
	name := func(id **string) {
		if value(*id) == "" {
			*id = wire.Ptr(ids.UUID())
		}
	}
	for i := range c.TopicConfigurations {
		name(&c.TopicConfigurations[i].Id)
	}
	for i := range c.QueueConfigurations {
		name(&c.QueueConfigurations[i].Id)
	}
	for i := range c.LambdaFunctionConfigurations {
		name(&c.LambdaFunctionConfigurations[i].Id)
	}
}

// PutBucketNotificationConfiguration implements s3:PutBucketNotification. An empty
// configuration switches notifications off. Every target is asked whether S3 may
// reach it: a function by a dry run, a queue by the message s3:TestEvent.
func (s *Service) PutBucketNotificationConfiguration(ctx context.Context, sc auth.Scope, in *s3.PutBucketNotificationConfigurationInput) (*s3.PutBucketNotificationConfigurationOutput, error) {
	c := in.NotificationConfiguration
	if c == nil {
		return nil, malformedXML()
	}
	b, err := s.viewBucket(ctx, in.Bucket, in.ExpectedBucketOwner)
	if err != nil {
		return nil, err
	}
	named(c)
	all := destinations(c)
	if err := checkDestinations(all); err != nil {
		return nil, err
	}
	var bad []awserr.Field
	if !value(in.SkipDestinationValidation) {
		bad = s.unreachable(ctx, b, all, c.EventBridgeConfiguration != nil)
	} else if c.EventBridgeConfiguration != nil {
		bad = s.unreachable(ctx, b, nil, true)
	}
	if len(bad) > 0 {
		e := awserr.New(400, "InvalidArgument", "Unable to validate the following destination configurations")
		for i, f := range bad {
			n := ""
			if i > 0 {
				n = itoa(i + 1)
			}
			e = e.With("ArgumentName"+n, f.Name).With("ArgumentValue"+n, f.Value)
		}
		return nil, e
	}
	row := &configRow{Notification: c}
	if len(all) == 0 && c.EventBridgeConfiguration == nil {
		row = nil
	}
	return &s3.PutBucketNotificationConfigurationOutput{}, s.setConfig(ctx, in.Bucket, in.ExpectedBucketOwner, kindNotification, row, nil)
}

// checkDestinations checks the configurations in themselves and against each other.
func checkDestinations(all []destination) error {
	seen := map[string]bool{}
	for i, d := range all {
		switch a, err := arn.Parse(d.arn); {
		case err != nil || a.Service != d.service:
			return invalidArgument("Arn", d.arn, "The ARN could not be parsed")
		case d.service == "sqs" && strings.HasSuffix(d.arn, ".fifo"):
			return invalidArgument("QueueArn", d.arn, "FIFO SQS queues are not supported.")
		case seen[d.id]:
			return invalidArgument("Id", d.id, "Same ID used for multiple configurations. IDs must be unique")
		case len(d.events) == 0:
			return malformedXML()
		}
		seen[d.id] = true
		for _, e := range d.events {
			if !slices.Contains(s3.Schema.Shape("Event").Enum, e) {
				return invalidArgument("Event", e, "The event '"+e+"' is not supported for notifications")
			}
		}
		if _, _, err := d.affixes(); err != nil {
			return err
		}
		for _, other := range all[:i] {
			if d.overlaps(other) {
				return awserr.New(400, "InvalidArgument", "Configuration is ambiguously defined. Cannot have overlapping suffixes in two rules if the prefixes are overlapping for the same event type.")
			}
		}
	}
	return nil
}

// affixes returns the prefix and the suffix that a key must have.
func (d destination) affixes() (prefix, suffix string, err error) {
	if d.filter == nil || d.filter.Key == nil {
		return "", "", nil
	}
	seen := map[string]bool{}
	for _, r := range d.filter.Key.FilterRules {
		name, v := strings.ToLower(value(r.Name)), value(r.Value)
		switch {
		case seen[name]:
			return "", "", invalidArgument("FilterRule", name, "Cannot specify more than one "+name+" rule in a filter.")
		case len(v) > maxKey || !utf8.ValidString(v):
			return "", "", invalidArgument("FilterRule", v, "Size of filter rule value cannot exceed 1024 bytes in UTF-8 representation")
		case name == "prefix":
			prefix = v
		case name == "suffix":
			suffix = v
		default:
			return "", "", invalidArgument("FilterRule.Name", value(r.Name), "filter rule name must be either prefix or suffix")
		}
		seen[name] = true
	}
	return prefix, suffix, nil
}

// overlaps says whether an event could match two configurations, which S3 refuses.
func (d destination) overlaps(o destination) bool {
	same := slices.ContainsFunc(d.events, func(a string) bool {
		return slices.ContainsFunc(o.events, func(b string) bool { return eventMatches(a, b) || eventMatches(b, a) })
	})
	p1, s1, _ := d.affixes()
	p2, s2, _ := o.affixes()
	prefixes := strings.HasPrefix(p1, p2) || strings.HasPrefix(p2, p1)
	suffixes := strings.HasSuffix(s1, s2) || strings.HasSuffix(s2, s1)
	return same && prefixes && suffixes
}

// eventMatches says whether an event is of a type, which may end in a star.
func eventMatches(kind, event string) bool {
	if p, ok := strings.CutSuffix(kind, "*"); ok {
		return strings.HasPrefix(event, p)
	}
	return kind == event
}

// unreachable returns the targets that do not exist or do not let S3 in.
func (s *Service) unreachable(ctx context.Context, b *bucketRow, all []destination, bridge bool) []awserr.Field {
	var bad []awserr.Field
	for _, d := range all {
		if err := s.probe(ctx, b, d); err != nil {
			s.Log.Debug("s3: notification target", "bucket", b.Name, "target", d.arn, "error", err)
			text := "The destination queue does not exist"
			switch {
			case d.service == "lambda":
				text = "Not authorized to invoke function [" + d.arn + "]"
			case awserr.Code(err) == "AccessDenied" || awserr.Code(err) == "AccessDeniedException":
				text = "Permissions on the destination " + map[string]string{"sqs": "queue", "sns": "topic"}[d.service] + " do not allow S3 to publish notifications from this bucket"
			case d.service == "sns":
				text = "The destination topic does not exist"
			}
			bad = append(bad, awserr.Field{Name: d.arn, Value: text})
		}
	}
	if bus := s.busARN(b); bridge && !s.Outbox.Routes(bus) {
		bad = append(bad, awserr.Field{Name: bus, Value: "The destination event bus does not exist"})
	}
	return bad
}

func (s *Service) busARN(b *bucketRow) string {
	return arn.New("events", b.Region, b.Account, "event-bus/default").String()
}

var errNoRoute = errors.New("s3: no such destination")

// probe asks a target whether it is there and lets S3 in.
func (s *Service) probe(ctx context.Context, b *bucketRow, d destination) error {
	a, err := arn.Parse(d.arn)
	if err != nil {
		return err
	}
	sc := auth.ServiceScope(principal, b.Account, a.Region, b.arn(), ids.UUID(), s.now())
	switch {
	case a.Region != b.Region:
		return errNoRoute // as on S3, a target is in the bucket's region
	case d.service == "lambda":
		_, err := op.Call[lambda.InvokeOutput](ctx, s.Cloud, sc, lambda.Schema.ID, "Invoke", &lambda.InvokeInput{
			FunctionName: &d.arn, InvocationType: wire.Ptr("DryRun"),
		})
		return err
	case d.service == "sqs":
		url, err := op.Call[sqs.GetQueueUrlOutput](ctx, s.Cloud, sc, sqs.Schema.ID, "GetQueueUrl", &sqs.GetQueueUrlInput{
			QueueName: &a.Resource, QueueOwnerAWSAccountId: &a.Account,
		})
		if err != nil {
			return err
		}
		_, err = op.Call[sqs.SendMessageOutput](ctx, s.Cloud, sc, sqs.Schema.ID, "SendMessage", &sqs.SendMessageInput{
			QueueUrl: url.QueueUrl, MessageBody: wire.Ptr(string(s.testEvent(b, sc))),
		})
		return err
	case !s.Outbox.Routes(d.arn):
		return errNoRoute
	}
	return nil
}

// GetBucketNotificationConfiguration implements s3:GetBucketNotification.
func (s *Service) GetBucketNotificationConfiguration(ctx context.Context, sc auth.Scope, in *s3.GetBucketNotificationConfigurationInput) (*s3.GetBucketNotificationConfigurationOutput, error) {
	out := &s3.GetBucketNotificationConfigurationOutput{}
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		b, err := s.bucket(tx, in.Bucket, in.ExpectedBucketOwner)
		if err != nil || !b.Notifies {
			return err
		}
		row, err := config(tx, b, kindNotification)
		if err == nil && row != nil {
			c := row.Notification
			out.TopicConfigurations, out.QueueConfigurations = c.TopicConfigurations, c.QueueConfigurations
			out.LambdaFunctionConfigurations, out.EventBridgeConfiguration = c.LambdaFunctionConfigurations, c.EventBridgeConfiguration
		}
		return err
	})
	return out, err
}
