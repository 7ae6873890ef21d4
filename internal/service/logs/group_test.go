package logs

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"skerry/internal/api/logs"
	"skerry/internal/auth"
)

func TestGroupLife(t *testing.T) {
	h := newHarness(t)
	name := "/aws/lambda/f"
	do(h, h.CreateLogGroup, &logs.CreateLogGroupInput{LogGroupName: &name, Tags: map[string]string{"a": "1"}})
	refuse(h, h.CreateLogGroup, &logs.CreateLogGroupInput{LogGroupName: &name},
		"ResourceAlreadyExistsException", "The specified log group already exists")
	refuse(h, h.CreateLogGroup, &logs.CreateLogGroupInput{LogGroupName: new("x"), KmsKeyId: new("k")}, "InvalidParameterException", "")

	got := do(h, h.DescribeLogGroups, &logs.DescribeLogGroupsInput{}).LogGroups
	arn := "arn:aws:logs:us-east-1:123456789012:log-group:/aws/lambda/f"
	if len(got) != 1 || *got[0].Arn != arn+":*" || *got[0].LogGroupArn != arn || got[0].RetentionInDays != nil ||
		*got[0].LogGroupClass != "STANDARD" || *got[0].CreationTime != h.clock.Now().UnixMilli() {
		t.Errorf("described as %+v", got)
	}

	do(h, h.PutRetentionPolicy, &logs.PutRetentionPolicyInput{LogGroupName: &name, RetentionInDays: new(int32(7))})
	if got := do(h, h.DescribeLogGroups, &logs.DescribeLogGroupsInput{}).LogGroups; *got[0].RetentionInDays != 7 {
		t.Errorf("retention %v", got[0].RetentionInDays)
	}
	refuse(h, h.PutRetentionPolicy, &logs.PutRetentionPolicyInput{LogGroupName: &name, RetentionInDays: new(int32(2))}, "InvalidParameterException", "")
	do(h, h.DeleteRetentionPolicy, &logs.DeleteRetentionPolicyInput{LogGroupName: &name})
	if got := do(h, h.DescribeLogGroups, &logs.DescribeLogGroupsInput{}).LogGroups; got[0].RetentionInDays != nil {
		t.Errorf("retention %v", got[0].RetentionInDays)
	}

	do(h, h.PutLogGroupDeletionProtection, &logs.PutLogGroupDeletionProtectionInput{LogGroupIdentifier: &arn, DeletionProtectionEnabled: new(true)})
	refuse(h, h.DeleteLogGroup, &logs.DeleteLogGroupInput{LogGroupName: &name}, "ValidationException", "")
	do(h, h.CreateLogStream, &logs.CreateLogStreamInput{LogGroupName: &name, LogStreamName: new("s")})
	refuse(h, h.DeleteLogStream, &logs.DeleteLogStreamInput{LogGroupName: &name, LogStreamName: new("s")}, "ValidationException", "")
	do(h, h.PutLogGroupDeletionProtection, &logs.PutLogGroupDeletionProtectionInput{LogGroupIdentifier: &name, DeletionProtectionEnabled: new(false)})
	do(h, h.DeleteLogGroup, &logs.DeleteLogGroupInput{LogGroupName: &name})
	refuse(h, h.DeleteLogGroup, &logs.DeleteLogGroupInput{LogGroupName: &name},
		"ResourceNotFoundException", "The specified log group does not exist.")
}

func TestGroupPages(t *testing.T) {
	h := newHarness(t)
	for _, name := range numbered("group-%02d", 12) {
		h.make(name)
	}
	h.make("Other")
	var got []string
	in := &logs.DescribeLogGroupsInput{LogGroupNamePrefix: new("group"), Limit: new(int32(5))}
	for {
		out := do(h, h.DescribeLogGroups, in)
		for _, g := range out.LogGroups {
			got = append(got, *g.LogGroupName)
		}
		if in.NextToken = out.NextToken; in.NextToken == nil {
			break
		}
	}
	if !slices.Equal(got, numbered("group-%02d", 12)) {
		t.Errorf("listed %v", got)
	}
	out := do(h, h.DescribeLogGroups, &logs.DescribeLogGroupsInput{LogGroupNamePattern: new("oTHer")})
	if len(out.LogGroups) != 1 {
		t.Errorf("pattern found %v", out.LogGroups)
	}
	if out := do(h, h.ListLogGroups, &logs.ListLogGroupsInput{LogGroupNamePattern: new("^group-1|her")}); len(out.LogGroups) != 3 {
		t.Errorf("expression found %v", out.LogGroups)
	}
	refuse(h, h.DescribeLogGroups, &logs.DescribeLogGroupsInput{LogGroupNamePrefix: new("a"), LogGroupNamePattern: new("b")},
		"InvalidParameterException", "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.")
	refuse(h, h.DescribeLogGroups, &logs.DescribeLogGroupsInput{NextToken: new("!")},
		"InvalidParameterException", "The specified nextToken is invalid.")

	elsewhere := *h
	elsewhere.scope.Region = "eu-west-1"
	if out := do(&elsewhere, h.DescribeLogGroups, &logs.DescribeLogGroupsInput{}); len(out.LogGroups) != 0 {
		t.Errorf("another region shows %v", out.LogGroups)
	}
}

func TestTags(t *testing.T) {
	h := newHarness(t)
	name, arn := "g", "arn:aws:logs:us-east-1:123456789012:log-group:g"
	h.make(name)
	do(h, h.TagResource, &logs.TagResourceInput{ResourceArn: &arn, Tags: map[string]string{"a": "1", "b": "2"}})
	do(h, h.TagLogGroup, &logs.TagLogGroupInput{LogGroupName: &name, Tags: map[string]string{"c": "3"}})
	do(h, h.UntagResource, &logs.UntagResourceInput{ResourceArn: &arn, TagKeys: []string{"a"}})
	do(h, h.UntagLogGroup, &logs.UntagLogGroupInput{LogGroupName: &name, Tags: []string{"b"}})
	for _, got := range []map[string]string{
		do(h, h.ListTagsForResource, &logs.ListTagsForResourceInput{ResourceArn: &arn}).Tags,
		do(h, h.ListTagsLogGroup, &logs.ListTagsLogGroupInput{LogGroupName: &name}).Tags,
	} {
		if fmt.Sprint(got) != "map[c:3]" {
			t.Errorf("tags %v", got)
		}
	}
	refuse(h, h.TagResource, &logs.TagResourceInput{ResourceArn: &arn, Tags: map[string]string{"aws:x": ""}}, "InvalidParameterException", "")
	many := map[string]string{}
	for _, k := range numbered("k%d", 50) {
		many[k] = ""
	}
	refuse(h, h.TagResource, &logs.TagResourceInput{ResourceArn: &arn, Tags: many}, "TooManyTagsException", "")
	refuse(h, h.TagResource, &logs.TagResourceInput{ResourceArn: new(arn + "x"), Tags: map[string]string{"a": ""}}, "ResourceNotFoundException", "")
	refuse(h, h.TagResource, &logs.TagResourceInput{ResourceArn: new("arn:aws:logs:us-east-1:210987654321:log-group:g"), Tags: map[string]string{"a": ""}}, "ResourceNotFoundException", "")
	if out := do(h, h.ListLogGroups, &logs.ListLogGroupsInput{LogGroupTags: []logs.TagFilter{{Key: new("c"), Values: []string{"!4*"}}}}); len(out.LogGroups) != 1 {
		t.Errorf("by tag: %v", out.LogGroups)
	}
}

func TestStreams(t *testing.T) {
	h := newHarness(t)
	h.make("g", "a1", "a2", "a3", "b1")
	refuse(h, h.CreateLogStream, &logs.CreateLogStreamInput{LogGroupName: new("g"), LogStreamName: new("a1")},
		"ResourceAlreadyExistsException", "The specified log stream already exists")
	refuse(h, h.CreateLogStream, &logs.CreateLogStreamInput{LogGroupName: new("x"), LogStreamName: new("a1")},
		"ResourceNotFoundException", "The specified log group does not exist.")
	h.put("g", "a2", h.batch(-2*time.Minute, "x"))
	h.put("g", "b1", h.batch(-1*time.Minute, "x"))
	h.put("g", "a1", h.batch(-3*time.Minute, "x"))

	list := func(in logs.DescribeLogStreamsInput) []string {
		in.LogGroupIdentifier, in.Limit = new("arn:aws:logs:us-east-1:123456789012:log-group:g"), new(int32(2))
		var got []string
		for {
			out := do(h, h.DescribeLogStreams, &in)
			for _, s := range out.LogStreams {
				got = append(got, *s.LogStreamName)
			}
			if in.NextToken = out.NextToken; in.NextToken == nil {
				return got
			}
		}
	}
	for _, c := range []struct {
		in   logs.DescribeLogStreamsInput
		want string
	}{
		{logs.DescribeLogStreamsInput{}, "[a1 a2 a3 b1]"},
		{logs.DescribeLogStreamsInput{Descending: new(true)}, "[b1 a3 a2 a1]"},
		{logs.DescribeLogStreamsInput{LogStreamNamePrefix: new("a")}, "[a1 a2 a3]"},
		{logs.DescribeLogStreamsInput{OrderBy: new("LastEventTime")}, "[a3 a1 a2 b1]"},
		{logs.DescribeLogStreamsInput{OrderBy: new("LastEventTime"), Descending: new(true)}, "[b1 a2 a1 a3]"},
	} {
		if got := fmt.Sprint(list(c.in)); got != c.want {
			t.Errorf("%+v: %s, want %s", c.in, got, c.want)
		}
	}
	refuse(h, h.DescribeLogStreams, &logs.DescribeLogStreamsInput{LogGroupName: new("g"), OrderBy: new("LastEventTime"), LogStreamNamePrefix: new("a")},
		"InvalidParameterException", "Cannot order by LastEventTime with a logStreamNamePrefix.")

	do(h, h.DeleteLogStream, &logs.DeleteLogStreamInput{LogGroupName: new("g"), LogStreamName: new("a2")})
	refuse(h, h.DeleteLogStream, &logs.DeleteLogStreamInput{LogGroupName: new("g"), LogStreamName: new("a2")},
		"ResourceNotFoundException", "The specified log stream does not exist.")
	if got := h.search(logs.FilterLogEventsInput{LogGroupName: new("g")}); len(got) != 2 {
		t.Errorf("after the deletion: %v", got)
	}
}

func TestDescribedSizes(t *testing.T) {
	h := newHarness(t)
	h.make("g", "s")
	h.put("g", "s", h.batch(-time.Second, "12345", "67890"))
	if g := do(h, h.DescribeLogGroups, &logs.DescribeLogGroupsInput{}).LogGroups[0]; *g.StoredBytes != 62 {
		t.Errorf("stored bytes %d", *g.StoredBytes)
	}
	s := do(h, h.DescribeLogStreams, &logs.DescribeLogStreamsInput{LogGroupName: new("g")}).LogStreams[0]
	at := h.clock.Now().UnixMilli()
	if *s.FirstEventTimestamp != at-1000 || *s.LastEventTimestamp != at-1000 || *s.LastIngestionTime != at || len(*s.UploadSequenceToken) != 56 {
		t.Errorf("stream %+v", s)
	}
}

func TestSweepDeleted(t *testing.T) {
	h := newHarness(t)
	h.make("g", "a", "b")
	h.make("kept", "a")
	for _, s := range []string{"a", "b"} {
		h.put("g", s, h.batch(0, "x"))
	}
	h.put("kept", "a", h.batch(0, "kept"))
	do(h, h.DeleteLogStream, &logs.DeleteLogStreamInput{LogGroupName: new("g"), LogStreamName: new("a")})
	h.sweepAll()
	if n := rows(h, chunks); n != 2 {
		t.Errorf("%d chunks after a stream's deletion", n)
	}
	do(h, h.DeleteLogGroup, &logs.DeleteLogGroupInput{LogGroupName: new("g")})
	h.make("g", "b")
	if got := h.search(logs.FilterLogEventsInput{LogGroupName: new("g")}); len(got) != 0 {
		t.Errorf("the new group shows %v", got)
	}
	h.sweepAll()
	if n := rows(h, chunks); n != 1 {
		t.Errorf("%d chunks after a group's deletion", n)
	}
	if n := rows(h, garbage) + rows(h, streams); n != 2 { // g/b and kept/a
		t.Errorf("%d rows of streams and garbage", n)
	}
	if got := h.search(logs.FilterLogEventsInput{LogGroupName: new("kept")}); len(got) != 1 {
		t.Errorf("kept: %v", got)
	}
}

func TestRetention(t *testing.T) {
	h := newHarness(t)
	h.make("g", "s")
	for range 3 {
		h.put("g", "s", h.batch(0, "x"))
		h.clock.Advance(20 * time.Hour)
	}
	do(h, h.PutRetentionPolicy, &logs.PutRetentionPolicyInput{LogGroupName: new("g"), RetentionInDays: new(int32(1))})
	// Of 60, 40 and 20 hours ago; readers see no expired ones even before the sweep.
	if got := h.search(logs.FilterLogEventsInput{LogGroupName: new("g")}); len(got) != 1 {
		t.Errorf("before the sweep: %v", got)
	}
	if out := do(h, h.GetLogEvents, &logs.GetLogEventsInput{LogGroupName: new("g"), LogStreamName: new("s"), StartFromHead: new(true)}); len(out.Events) != 1 {
		t.Errorf("GetLogEvents: %v", out.Events)
	}
	h.sweepAll()
	if n := rows(h, chunks); n != 1 {
		t.Errorf("%d chunks are left", n)
	}
	if g := do(h, h.DescribeLogGroups, &logs.DescribeLogGroupsInput{}).LogGroups[0]; *g.StoredBytes != 27 {
		t.Errorf("stored bytes %d", *g.StoredBytes)
	}
	do(h, h.DeleteRetentionPolicy, &logs.DeleteRetentionPolicyInput{LogGroupName: new("g")})
	if got := h.search(logs.FilterLogEventsInput{LogGroupName: new("g")}); len(got) != 1 {
		t.Errorf("after the sweep: %v", got)
	}
}

func TestRules(t *testing.T) {
	h := newHarness(t)
	do(h, h.CreateLogGroup, &logs.CreateLogGroupInput{LogGroupName: new("g"), Tags: map[string]string{"team": "x"}})
	base := "arn:aws:logs:us-east-1:123456789012:log-group:g"
	access := func(operation string, in any) []auth.Access {
		t.Helper()
		for _, o := range h.Service.Service().Operations {
			if o.Name == operation {
				got, err := o.Access(t.Context(), h.scope, in)
				if err != nil || len(got) == 0 {
					t.Fatalf("%s: %v %v", operation, got, err)
				}
				return got
			}
		}
		t.Fatalf("no operation %s", operation)
		return nil
	}
	put := access("PutLogEvents", &logs.PutLogEventsInput{LogGroupName: new("g"), LogStreamName: new("s")})[0]
	if put.Action != "logs:PutLogEvents" || put.Resource != base+":log-stream:s" || put.Context["aws:ResourceTag/team"][0] != "x" {
		t.Errorf("PutLogEvents needs %+v", put)
	}
	if got := access("ListTagsForResource", &logs.ListTagsForResourceInput{ResourceArn: &base})[0]; got.Resource != base {
		t.Errorf("ListTagsForResource needs %+v", got)
	}
	if got := access("FilterLogEvents", &logs.FilterLogEventsInput{LogGroupIdentifier: &base})[0]; got.Resource != base+":log-stream:" {
		t.Errorf("FilterLogEvents needs %+v", got)
	}
	create := access("CreateLogGroup", &logs.CreateLogGroupInput{LogGroupName: new("n"), Tags: map[string]string{"k": "v"}})
	if len(create) != 2 || create[0].Context["aws:RequestTag/k"][0] != "v" || create[1].Action != "logs:TagResource" {
		t.Errorf("CreateLogGroup needs %+v", create)
	}
	if put.Policy != "" {
		t.Errorf("a policy from nowhere: %s", put.Policy)
	}
	statement := `{"Effect":"Allow","Principal":{"Service":"%s.amazonaws.com"},"Action":"logs:PutLogEvents","Resource":"*"}`
	one := fmt.Sprintf(`{"Version":"2012-10-17","Statement":`+statement+`}`, "es")
	two := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[`+statement+`]}`, "route53")
	do(h, h.PutResourcePolicy, &logs.PutResourcePolicyInput{PolicyName: new("p1"), PolicyDocument: &one})
	do(h, h.PutResourcePolicy, &logs.PutResourcePolicyInput{ResourceArn: &base, PolicyDocument: &two})
	put = access("PutLogEvents", &logs.PutLogEventsInput{LogGroupName: new("g"), LogStreamName: new("s")})[0]
	p, err := auth.ParsePolicy(put.Policy)
	if err != nil || len(p.Statements) != 2 {
		t.Errorf("joined policy %s: %v", put.Policy, err)
	}
}

func TestResourcePolicies(t *testing.T) {
	h := newHarness(t)
	h.make("g")
	doc := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"es.amazonaws.com"},"Action":"logs:*","Resource":"*"}]}`
	for i := range maxPolicies {
		do(h, h.PutResourcePolicy, &logs.PutResourcePolicyInput{PolicyName: new(fmt.Sprint(i)), PolicyDocument: &doc})
	}
	refuse(h, h.PutResourcePolicy, &logs.PutResourcePolicyInput{PolicyName: new("x"), PolicyDocument: &doc}, "LimitExceededException", "Resource limit exceeded.")
	refuse(h, h.PutResourcePolicy, &logs.PutResourcePolicyInput{PolicyName: new("0"), PolicyDocument: new("{")}, "InvalidParameterException", "")
	refuse(h, h.PutResourcePolicy, &logs.PutResourcePolicyInput{PolicyName: new("0"), PolicyDocument: &doc, ExpectedRevisionId: new("no")}, "OperationAbortedException", "")
	first := do(h, h.DescribeResourcePolicies, &logs.DescribeResourcePoliciesInput{Limit: new(int32(6))})
	second := do(h, h.DescribeResourcePolicies, &logs.DescribeResourcePoliciesInput{Limit: new(int32(6)), NextToken: first.NextToken})
	if len(first.ResourcePolicies) != 6 || len(second.ResourcePolicies) != 4 || second.NextToken != nil {
		t.Errorf("pages of %d and %d", len(first.ResourcePolicies), len(second.ResourcePolicies))
	}
	do(h, h.DeleteResourcePolicy, &logs.DeleteResourcePolicyInput{PolicyName: new("0")})
	refuse(h, h.DeleteResourcePolicy, &logs.DeleteResourcePolicyInput{PolicyName: new("0")},
		"ResourceNotFoundException", "Policy with name [0] does not exist.")

	arn := "arn:aws:logs:us-east-1:123456789012:log-group:g"
	do(h, h.PutResourcePolicy, &logs.PutResourcePolicyInput{ResourceArn: &arn, PolicyDocument: &doc})
	out := do(h, h.DescribeResourcePolicies, &logs.DescribeResourcePoliciesInput{ResourceArn: &arn, PolicyScope: new("RESOURCE")})
	if len(out.ResourcePolicies) != 1 || *out.ResourcePolicies[0].PolicyScope != "RESOURCE" {
		t.Errorf("group's policies: %+v", out.ResourcePolicies)
	}
	do(h, h.DeleteLogGroup, &logs.DeleteLogGroupInput{LogGroupName: new("g")})
	if n := rows(h, policies); n != maxPolicies-1 {
		t.Errorf("%d policies are left", n)
	}
}
