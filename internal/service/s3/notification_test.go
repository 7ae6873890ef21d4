package s3

import (
	"encoding/json"
	"strings"
	"testing"

	"skerry/internal/api/s3"
	"skerry/internal/base/awserr"
	"skerry/internal/store"
	"skerry/internal/wire"
)

const (
	function = "arn:aws:lambda:us-east-1:" + account + ":function:f"
	queue    = "arn:aws:sqs:us-east-1:" + account + ":q"
)

func lambdaConfig(arn, event string, rules ...string) s3.LambdaFunctionConfiguration {
	c := s3.LambdaFunctionConfiguration{LambdaFunctionArn: &arn, Events: []string{event}}
	if len(rules) > 0 {
		c.Filter = &s3.NotificationConfigurationFilter{Key: &s3.S3KeyFilter{}}
		for _, r := range rules {
			name, v, _ := strings.Cut(r, "=")
			c.Filter.Key.FilterRules = append(c.Filter.Key.FilterRules, s3.FilterRule{Name: &name, Value: &v})
		}
	}
	return c
}

func notification(c *s3.NotificationConfiguration) *s3.PutBucketNotificationConfigurationInput {
	return &s3.PutBucketNotificationConfigurationInput{Bucket: wire.Ptr("bucket"), NotificationConfiguration: c}
}

func TestNotificationTargets(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", false)
	lambdas := func(cs ...s3.LambdaFunctionConfiguration) *s3.PutBucketNotificationConfigurationInput {
		return notification(&s3.NotificationConfiguration{LambdaFunctionConfigurations: cs})
	}
	all := "s3:ObjectCreated:*"
	err := refuse(h, h.root, lambdas(lambdaConfig(function, all)), "InvalidArgument")
	if err == nil || !strings.Contains(err.Error(), "Unable to validate the following destination configurations") {
		t.Errorf("a function that is not there: %v", err)
	}
	h.targets[function], h.targets[queue] = true, true
	refuse(h, h.root, lambdas(lambdaConfig(function, "s3:Nonsense")), "InvalidArgument")
	refuse(h, h.root, lambdas(lambdaConfig(queue, all)), "InvalidArgument")
	refuse(h, h.root, lambdas(lambdaConfig(function, all, "colour=red")), "InvalidArgument")
	refuse(h, h.root, lambdas(lambdaConfig(function, all, "prefix=a", "prefix=b")), "InvalidArgument")
	refuse(h, h.root, lambdas(lambdaConfig(function, all, "prefix=a"), lambdaConfig(function, "s3:ObjectCreated:Put", "prefix=ab")), "InvalidArgument")
	do[s3.PutBucketNotificationConfigurationOutput](h, h.root, lambdas(lambdaConfig(function, all, "suffix=.jpg"), lambdaConfig(function, all, "suffix=.png")))
	do[s3.PutBucketNotificationConfigurationOutput](h, h.root, notification(&s3.NotificationConfiguration{
		QueueConfigurations: []s3.QueueConfiguration{{QueueArn: wire.Ptr(queue), Events: []string{all}}}}))
	if len(h.tests) != 1 || !strings.Contains(h.tests[0], `"Event":"s3:TestEvent"`) || !strings.Contains(h.tests[0], `"Bucket":"bucket"`) {
		t.Errorf("test events %q", h.tests)
	}
	got := do[s3.GetBucketNotificationConfigurationOutput](h, h.root, &s3.GetBucketNotificationConfigurationInput{Bucket: wire.Ptr("bucket")})
	if len(got.QueueConfigurations) != 1 || got.QueueConfigurations[0].Id == nil || len(got.LambdaFunctionConfigurations) != 0 {
		t.Errorf("configuration %+v", got)
	}
}

func TestEvents(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", true)
	h.targets[function] = true
	do[s3.PutBucketNotificationConfigurationOutput](h, h.root, notification(&s3.NotificationConfiguration{
		EventBridgeConfiguration: &s3.EventBridgeConfiguration{},
		LambdaFunctionConfigurations: []s3.LambdaFunctionConfiguration{
			lambdaConfig(function, "s3:ObjectCreated:*", "prefix=in/", "Suffix=.jpg"), lambdaConfig(function, "s3:ObjectRemoved:*")}}))
	h.put("bucket", "in/not.png", "x")
	h.put("bucket", "out/not.jpg", "x")
	put := h.put("bucket", "in/a b+ü.jpg", "picture")
	first := h.delivered(function, 1)[0]
	var doc struct{ Records []eventRecord }
	if err := json.Unmarshal(first.Payload, &doc); err != nil || len(doc.Records) != 1 {
		t.Fatalf("%v: %s", err, first.Payload)
	}
	r := doc.Records[0]
	if r.EventName != "ObjectCreated:Put" || r.EventSource != "aws:s3" || r.EventVersion != "2.1" || r.AWSRegion != "us-east-1" || r.EventTime != "2026-11-21T12:00:00.000Z" ||
		r.S3.Object.Key != "in/a+b%2B%C3%BC.jpg" || *r.S3.Object.Size != 7 || quote(r.S3.Object.ETag) != *put.ETag || r.S3.Object.VersionID != *put.VersionId ||
		r.S3.Bucket.Name != "bucket" || r.S3.Bucket.ARN != "arn:aws:s3:::bucket" || r.RequestParameters["sourceIPAddress"] != "10.1.2.3" {
		t.Errorf("record %s", first.Payload)
	}
	if first.Service != "s3.amazonaws.com" || first.Source != "arn:aws:s3:::bucket" || first.Account != account {
		t.Errorf("delivery %+v", first)
	}
	form := h.root
	form.Request.Auth.Type = "POST"
	do[s3.PutObjectOutput](h, form, putObject("bucket", "in/form.jpg"))
	if got := h.delivered(function, 2)[1]; !strings.Contains(string(got.Payload), `"ObjectCreated:Post"`) {
		t.Errorf("a form's event is %s", got.Payload)
	}
	do[s3.DeleteObjectOutput](h, h.root, &s3.DeleteObjectInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("in/a b+ü.jpg")})
	second := h.delivered(function, 3)[2]
	if !strings.Contains(string(second.Payload), "ObjectRemoved:DeleteMarkerCreated") {
		t.Errorf("second %s", second.Payload)
	}
	if err := json.Unmarshal(second.Payload, &doc); err != nil || doc.Records[0].S3.Object.Sequencer <= r.S3.Object.Sequencer {
		t.Errorf("the sequencer does not rise: %v", err)
	}
	bus := h.delivered("arn:aws:events:us-east-1:"+account+":event-bus/default", 5)
	if bus[0].Attributes["Source"] != "aws.s3" {
		t.Errorf("EventBridge got %+v", bus[0])
	}
}

// A write that fails emits nothing, and one whose event cannot be emitted does not
// happen: both are one transaction.
func TestNoEventWithoutObject(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", false)
	h.targets[function] = true
	do[s3.PutBucketNotificationConfigurationOutput](h, h.root, notification(&s3.NotificationConfiguration{
		LambdaFunctionConfigurations: []s3.LambdaFunctionConfiguration{lambdaConfig(function, "s3:ObjectCreated:*")}}))
	in := putObject("bucket", "k")
	in.ContentMD5 = wire.Ptr("AAAAAAAAAAAAAAAAAAAAAA==")
	refuse(h, h.root, in, "BadDigest")
	in = putObject("bucket", "k")
	in.IfMatch = wire.Ptr("x")
	refuse(h, h.root, in, "NoSuchKey")
	h.put("bucket", "last", "x")
	if got := h.delivered(function, 1); len(got) != 1 || !strings.Contains(string(got[0].Payload), `"key":"last"`) {
		t.Errorf("%d deliveries", len(got))
	}
}

func TestReplication(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", true)
	h.make("copies", false)
	role := "arn:aws:iam::" + account + ":role/replicator"
	put := &s3.PutBucketReplicationInput{Bucket: wire.Ptr("bucket"), ReplicationConfiguration: &s3.ReplicationConfiguration{Role: &role, Rules: []s3.ReplicationRule{{
		Status: wire.Ptr("Enabled"), Priority: wire.Ptr(int32(1)), Filter: &s3.ReplicationRuleFilter{Prefix: wire.Ptr("yes/")},
		DeleteMarkerReplication: &s3.DeleteMarkerReplication{Status: wire.Ptr("Enabled")},
		Destination:             &s3.Destination{Bucket: wire.Ptr("arn:aws:s3:::copies"), StorageClass: wire.Ptr("STANDARD_IA")}}}}}
	refuse(h, h.root, put, "InvalidRequest") // no versioning there
	do[s3.PutBucketVersioningOutput](h, h.root, &s3.PutBucketVersioningInput{Bucket: wire.Ptr("copies"), VersioningConfiguration: &s3.VersioningConfiguration{Status: wire.Ptr("Enabled")}})
	h.user(account, "x", "") // the role's policies are those of its session's ARN
	h.policies["arn:aws:sts::"+account+":assumed-role/replicator/s3-replication"] = h.policies[h.user(account, "replicating", allowAll).Principal.ARN]
	do[s3.PutBucketReplicationOutput](h, h.root, put)
	refuse(h, h.root, &s3.PutBucketVersioningInput{Bucket: wire.Ptr("bucket"), VersioningConfiguration: &s3.VersioningConfiguration{Status: wire.Ptr("Suspended")}}, "InvalidBucketState")

	body := string(noise(100_000, 1))
	v := h.put("bucket", "yes/k", body).VersionId
	h.put("bucket", "no/k", body)
	status := func(bucket, key string) string {
		out, err := h.invoke(t.Context(), h.root, "HeadObject", &s3.HeadObjectInput{Bucket: &bucket, Key: &key})
		if err != nil {
			return err.Error()
		}
		return value(out.(*s3.HeadObjectOutput).ReplicationStatus)
	}
	h.wait("replica", func() bool { return status("bucket", "yes/k") == replicaDone })
	out := do[s3.GetObjectOutput](h, h.root, getObject("copies", "yes/k"))
	if h.read(out) != body || *out.VersionId != *v || *out.StorageClass != "STANDARD_IA" || *out.ReplicationStatus != replicaItself {
		t.Errorf("copy %+v", out)
	}
	if got := status("bucket", "no/k"); got != "" {
		t.Errorf("what no rule copies is %s", got)
	}
	// The copy has a claim of its own to the bytes.
	do[s3.DeleteObjectOutput](h, h.root, &s3.DeleteObjectInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("yes/k"), VersionId: v})
	h.sweep()
	if h.get("copies", "yes/k") != body {
		t.Error("the copy's bytes went with the source")
	}
	h.put("bucket", "yes/k", "again")
	do[s3.DeleteObjectOutput](h, h.root, &s3.DeleteObjectInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("yes/k")})
	h.wait("replicated delete marker", func() bool { return strings.HasPrefix(status("copies", "yes/k"), "NoSuchKey") })
}

func TestReplicaRules(t *testing.T) {
	rule := func(priority int32, to, prefix, markers string) s3.ReplicationRule {
		return s3.ReplicationRule{Status: wire.Ptr("Enabled"), Priority: &priority, Filter: &s3.ReplicationRuleFilter{Prefix: &prefix},
			DeleteMarkerReplication: &s3.DeleteMarkerReplication{Status: &markers}, Destination: &s3.Destination{Bucket: wire.Ptr("arn:aws:s3:::" + to)}}
	}
	c := &s3.ReplicationConfiguration{Rules: []s3.ReplicationRule{rule(1, "x", "a/", "Enabled"), rule(2, "x", "a/b/", "Disabled"), rule(3, "y", "", "Enabled")}}
	for _, x := range []struct {
		key    string
		marker bool
		want   string
	}{{"a/k", false, "3 1"}, {"a/k", true, "3 1"}, {"a/b/k", false, "3 2"}, {"a/b/k", true, "3"}, {"k", true, "3"}} {
		got := ""
		for _, r := range replicaRules(c, &objectRow{Key: x.key, Marker: x.marker}) {
			got += " " + itoa(int(*r.Priority))
		}
		if strings.TrimSpace(got) != x.want {
			t.Errorf("%s, marker %t: the rules%s copy it, want %s", x.key, x.marker, got, x.want)
		}
	}
	r := c.Rules[0]
	r.Filter = &s3.ReplicationRuleFilter{Tag: &s3.Tag{Key: wire.Ptr("k"), Value: wire.Ptr("v")}}
	if err := checkReplicationRule(&r, nil); awserr.Code(err) != "InvalidRequest" {
		t.Errorf("delete markers by tags: %v", err)
	}
}

// TestReplicatedToAll: a version is replicated once all of its copies are made.
func TestReplicatedToAll(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", true)
	h.put("bucket", "k", "x")
	var q replicaOrder
	status := func(copying int, ends ...string) (got string) {
		t.Helper()
		err := h.Store.Update(t.Context(), func(tx *store.Tx) error {
			b, err := h.bucket(tx, wire.Ptr("bucket"), nil)
			if err != nil {
				return err
			}
			o, err := current(tx, b, "k")
			if err != nil {
				return err
			}
			q = replicaOrder{Bucket: b.Name, BucketID: b.ID, Key: o.Key, Version: o.Version}
			o.Replication, o.Copying = replicaPending, copying
			if err := save(tx, o); err != nil {
				return err
			}
			for _, end := range ends {
				if err := h.setReplication(tx, q, end); err != nil {
					return err
				}
			}
			o, err = current(tx, b, "k")
			got = o.Replication
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if a, b, c := status(2, replicaDone), status(2, replicaDone, replicaDone), status(2, replicaFailed, replicaDone); a != replicaPending || b != replicaDone || c != replicaFailed {
		t.Errorf("one of two: %s, both: %s, one failed: %s", a, b, c)
	}
}
