package logs

import (
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"slices"

	"skerry/internal/api/logs"
	"skerry/internal/base/clock"
	"skerry/internal/events"
	"skerry/internal/meter"
	"skerry/internal/op"
	"skerry/internal/store"
)

// Deps is what the service needs.
type Deps struct {
	Store  *store.DB
	Clock  clock.Clock
	Log    *slog.Logger
	Cloud  op.Caller // to ask a subscription's function whether it may be invoked
	Outbox *events.Outbox
	Meter  *meter.Meter
}

// Service is CloudWatch Logs.
type Service struct {
	Deps
	// tails are the Live Tail sessions that are open. They live as long as their
	// connections do and are nothing that a row could hold.
	tails tails
}

// New makes the service.
func New(d Deps) *Service { return &Service{Deps: d} }

// Service returns the operations, each with its rule.
func (s *Service) Service() op.Service {
	return op.Service{API: logs.Schema, Operations: slices.Concat(s.groupOperations(), s.eventOperations()), Data: []string{"PutLogEvents"}}
}

func (s *Service) groupOperations() []op.Operation {
	return []op.Operation{
		op.New("CreateLogGroup", s.mayCreateGroup, s.CreateLogGroup),
		op.New("DescribeLogGroups", mayListGroups[logs.DescribeLogGroupsInput]("logs:DescribeLogGroups"), s.DescribeLogGroups),
		op.New("ListLogGroups", mayListGroups[logs.ListLogGroupsInput]("logs:ListLogGroups"), s.ListLogGroups),
		op.New("DeleteLogGroup", onGroup(s, "logs:DeleteLogGroup", func(in *logs.DeleteLogGroupInput) *string { return in.LogGroupName }), s.DeleteLogGroup),
		op.New("PutLogGroupDeletionProtection", onGroup(s, "logs:PutLogGroupDeletionProtection", func(in *logs.PutLogGroupDeletionProtectionInput) *string { return in.LogGroupIdentifier }), s.PutLogGroupDeletionProtection),
		op.New("PutRetentionPolicy", onGroup(s, "logs:PutRetentionPolicy", func(in *logs.PutRetentionPolicyInput) *string { return in.LogGroupName }), s.PutRetentionPolicy),
		op.New("DeleteRetentionPolicy", onGroup(s, "logs:DeleteRetentionPolicy", func(in *logs.DeleteRetentionPolicyInput) *string { return in.LogGroupName }), s.DeleteRetentionPolicy),
		op.New("TagResource", s.mayTagResource, s.TagResource),
		op.New("UntagResource", s.mayUntagResource, s.UntagResource),
		op.New("ListTagsForResource", s.mayListTags, s.ListTagsForResource),
		op.New("TagLogGroup", s.mayTagGroup, s.TagLogGroup),
		op.New("UntagLogGroup", s.mayUntagGroup, s.UntagLogGroup),
		op.New("ListTagsLogGroup", onGroup(s, "logs:ListTagsLogGroup", func(in *logs.ListTagsLogGroupInput) *string { return in.LogGroupName }), s.ListTagsLogGroup),
		op.New("PutSubscriptionFilter", onGroup(s, "logs:PutSubscriptionFilter", func(in *logs.PutSubscriptionFilterInput) *string { return in.LogGroupName }), s.PutSubscriptionFilter),
		op.New("DescribeSubscriptionFilters", onGroup(s, "logs:DescribeSubscriptionFilters", func(in *logs.DescribeSubscriptionFiltersInput) *string { return in.LogGroupName }), s.DescribeSubscriptionFilters),
		op.New("DeleteSubscriptionFilter", onGroup(s, "logs:DeleteSubscriptionFilter", func(in *logs.DeleteSubscriptionFilterInput) *string { return in.LogGroupName }), s.DeleteSubscriptionFilter),
		op.New("PutResourcePolicy", onAll[logs.PutResourcePolicyInput]("logs:PutResourcePolicy"), s.PutResourcePolicy),
		op.New("DescribeResourcePolicies", onAll[logs.DescribeResourcePoliciesInput]("logs:DescribeResourcePolicies"), s.DescribeResourcePolicies),
		op.New("DeleteResourcePolicy", onAll[logs.DeleteResourcePolicyInput]("logs:DeleteResourcePolicy"), s.DeleteResourcePolicy),
	}
}

func (s *Service) eventOperations() []op.Operation {
	return []op.Operation{
		op.New("CreateLogStream", onGroup(s, "logs:CreateLogStream", func(in *logs.CreateLogStreamInput) *string { return in.LogGroupName }), s.CreateLogStream),
		op.New("DescribeLogStreams", onGroup(s, "logs:DescribeLogStreams", func(in *logs.DescribeLogStreamsInput) *string { return either(in.LogGroupName, in.LogGroupIdentifier) }), s.DescribeLogStreams),
		op.New("DeleteLogStream", onStream(s, "logs:DeleteLogStream", func(in *logs.DeleteLogStreamInput) (*string, *string) { return in.LogGroupName, in.LogStreamName }), s.DeleteLogStream),
		op.New("PutLogEvents", onStream(s, "logs:PutLogEvents", func(in *logs.PutLogEventsInput) (*string, *string) { return in.LogGroupName, in.LogStreamName }), s.PutLogEvents),
		op.New("GetLogEvents", onStream(s, "logs:GetLogEvents", func(in *logs.GetLogEventsInput) (*string, *string) {
			return either(in.LogGroupName, in.LogGroupIdentifier), in.LogStreamName
		}), s.GetLogEvents),
		op.New("FilterLogEvents", onGroup(s, "logs:FilterLogEvents", func(in *logs.FilterLogEventsInput) *string { return either(in.LogGroupName, in.LogGroupIdentifier) }), s.FilterLogEvents),
		op.New("StartLiveTail", s.mayTail, s.StartLiveTail),
		op.New("TestMetricFilter", onAll[logs.TestMetricFilterInput]("logs:TestMetricFilter"), s.TestMetricFilter),
	}
}

// now returns the time in milliseconds since 1970.
func (s *Service) now() int64 { return s.Clock.Now().UnixMilli() }

// newID returns the id of a new group or stream. Ids are random, so that making
// one needs no row that all writers share, and positive, as they are parts of
// keys.
func newID() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails, by its contract
	return binary.BigEndian.Uint64(b[:])>>1 | 1
}

// invalid is the error for a parameter that makes no sense.
func invalid(message string) error {
	return &logs.InvalidParameterException{Message: &message}
}

// either returns the name that is given, of the two ways to give one.
func either(name, identifier *string) *string {
	if name != nil {
		return name
	}
	return identifier
}
