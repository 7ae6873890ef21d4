package s3

import (
	"encoding/json"
	"fmt"
	"strings"

	"skerry/internal/auth"
	"skerry/internal/base/ids"
	"skerry/internal/events"
	"skerry/internal/store"
)

// The documents of "Event message structure" and "Using EventBridge".

type eventRecord struct {
	EventVersion      string            `json:"eventVersion"`
	EventSource       string            `json:"eventSource"`
	AWSRegion         string            `json:"awsRegion"`
	EventTime         string            `json:"eventTime"`
	EventName         string            `json:"eventName"`
	UserIdentity      eventIdentity     `json:"userIdentity"`
	RequestParameters map[string]string `json:"requestParameters"`
	ResponseElements  map[string]string `json:"responseElements"`
	S3                eventBody         `json:"s3"`
}

type eventIdentity struct {
	PrincipalID string `json:"principalId"`
}

type eventBody struct {
	SchemaVersion   string      `json:"s3SchemaVersion"`
	ConfigurationID string      `json:"configurationId"`
	Bucket          eventBucket `json:"bucket"`
	Object          eventObject `json:"object"`
}

type eventBucket struct {
	Name          string        `json:"name"`
	OwnerIdentity eventIdentity `json:"ownerIdentity"`
	ARN           string        `json:"arn"`
}

type eventObject struct {
	Key       string `json:"key"` // url encoded
	Size      *int64 `json:"size,omitempty"`
	ETag      string `json:"eTag,omitempty"`
	VersionID string `json:"versionId,omitempty"`
	Sequencer string `json:"sequencer"`
}

const eventTime = "2006-01-02T15:04:05.000Z"

// notify puts the events of a change to an object into the outbox, in the
// transaction of the change. event has the form s3:ObjectCreated:Put.
func (s *Service) notify(tx *store.Tx, b *bucketRow, o *objectRow, sc auth.Scope, event string) error {
	if !b.Notifies {
		return nil
	}
	row, err := config(tx, b, kindNotification)
	if err != nil || row == nil {
		return err
	}
	for _, d := range destinations(row.Notification) {
		if !d.wants(event, o.Key) {
			continue
		}
		body, err := json.Marshal(map[string]any{"Records": []eventRecord{s.record(b, o, sc, event, d.id)}})
		if err != nil {
			return fmt.Errorf("s3: event: %w", err)
		}
		err = s.Outbox.Emit(tx, events.Delivery{
			Target: d.arn, Source: b.arn(), Service: principal, Account: b.Account, Region: b.Region,
			Payload: body, Attributes: map[string]string{"Subject": "Amazon S3 Notification"},
		})
		if err != nil {
			return err
		}
	}
	if row.Notification.EventBridgeConfiguration == nil {
		return nil
	}
	return s.notifyBus(tx, b, o, sc, event)
}

// wants says whether a configuration asks for an event of a key.
func (d destination) wants(event, key string) bool {
	for _, kind := range d.events {
		if eventMatches(kind, event) {
			prefix, suffix, err := d.affixes()
			return err == nil && strings.HasPrefix(key, prefix) && strings.HasSuffix(key, suffix)
		}
	}
	return false
}

func (s *Service) record(b *bucketRow, o *objectRow, sc auth.Scope, event, configuration string) eventRecord {
	r := eventRecord{
		EventVersion: "2.1", EventSource: "aws:s3", AWSRegion: b.Region,
		EventTime: s.now().Format(eventTime), EventName: strings.TrimPrefix(event, "s3:"),
		UserIdentity:      eventIdentity{principalID(sc)},
		RequestParameters: map[string]string{"sourceIPAddress": sourceIP(sc)},
		ResponseElements:  map[string]string{"x-amz-request-id": sc.Request.ID, "x-amz-id-2": sc.Request.ID},
		S3: eventBody{
			SchemaVersion: "1.0", ConfigurationID: configuration,
			Bucket: eventBucket{b.Name, eventIdentity{canonicalID(b.Account)}, b.arn()},
			Object: eventObject{Key: escapeKey(o.Key), Sequencer: sequencer(o)},
		},
	}
	switch strings.Split(r.EventName, ":")[0] {
	case "ObjectTagging", "ObjectAcl": // 2.3: the newer kinds of events
		r.EventVersion = "2.3"
	case "LifecycleExpiration", "LifecycleTransition":
		r.EventVersion = "2.3"
		r.UserIdentity.PrincipalID = "s3.amazonaws.com"
	}
	if !o.Marker && !strings.HasPrefix(r.EventName, "ObjectRemoved:") {
		r.S3.Object.Size, r.S3.Object.ETag = &o.Size, o.ETag
	} else if o.Marker {
		r.S3.Object.ETag = "d41d8cd98f00b204e9800998ecf8427e"
	}
	if o.Version != nullVersion {
		r.S3.Object.VersionID = o.Version
	}
	return r
}

func principalID(sc auth.Scope) string {
	switch sc.Principal.Kind {
	case auth.Anonymous:
		return "AWS:anonymous"
	case auth.Service:
		return sc.Principal.Service
	}
	return "AWS:" + sc.Principal.ID
}

func sourceIP(sc auth.Scope) string {
	if sc.Request.SourceIP == "" {
		return principal
	}
	return sc.Request.SourceIP
}

// sequencer tells the order of the events of one key, as text.
func sequencer(o *objectRow) string { return fmt.Sprintf("00%016X", o.Seq) }

// bridged are the events that EventBridge gets, with their detail types.
var bridged = map[string]string{
	"ObjectCreated": "Object Created", "ObjectRemoved": "Object Deleted", "LifecycleExpiration": "Object Deleted",
	"LifecycleTransition": "Object Storage Class Changed", "ObjectAcl:Put": "Object ACL Updated",
	"ObjectTagging:Put": "Object Tags Added", "ObjectTagging:Delete": "Object Tags Deleted",
}

// notifyBus emits an event to EventBridge's default bus.
func (s *Service) notifyBus(tx *store.Tx, b *bucketRow, o *objectRow, sc auth.Scope, event string) error {
	name := strings.TrimPrefix(event, "s3:")
	kind, how, _ := strings.Cut(name, ":")
	detailType, ok := bridged[kind]
	if !ok {
		detailType = bridged[name]
	}
	object := map[string]any{"key": o.Key, "sequencer": sequencer(o)}
	if !o.Marker && kind != "ObjectRemoved" {
		object["size"], object["etag"] = o.Size, o.ETag
	}
	if o.Version != nullVersion {
		object["version-id"] = o.Version
	}
	detail := map[string]any{
		"version": "0", "bucket": map[string]string{"name": b.Name}, "object": object,
		"request-id": sc.Request.ID, "requester": requester(sc), "source-ip-address": sourceIP(sc),
	}
	switch kind {
	case "ObjectCreated":
		detail["reason"] = map[string]string{"Put": "PutObject", "Post": "POST Object", "Copy": "CopyObject", "CompleteMultipartUpload": "CompleteMultipartUpload"}[how]
	case "ObjectRemoved", "LifecycleExpiration":
		detail["reason"] = "DeleteObject"
		if kind == "LifecycleExpiration" {
			detail["reason"] = "Lifecycle Expiration"
		}
		detail["deletion-type"] = "Permanently Deleted"
		if o.Marker && how == "DeleteMarkerCreated" {
			detail["deletion-type"] = "Delete Marker Created"
		}
	}
	body, err := json.Marshal(detail)
	if err != nil {
		return fmt.Errorf("s3: event: %w", err)
	}
	return s.Outbox.Emit(tx, events.Delivery{
		Target: s.busARN(b), Source: b.arn(), Service: principal, Account: b.Account, Region: b.Region, Payload: body,
		Attributes: map[string]string{"Source": "aws.s3", "DetailType": detailType},
	})
}

func requester(sc auth.Scope) string {
	if sc.Principal.Kind == auth.Service {
		return sc.Principal.Service
	}
	return sc.Principal.Account
}

// testEvent is the message that S3 sends to a new target.
func (s *Service) testEvent(b *bucketRow, sc auth.Scope) []byte {
	body, err := json.Marshal(struct{ Service, Event, Time, Bucket, RequestID, HostID string }{
		"Amazon S3", "s3:TestEvent", s.now().Format(eventTime), b.Name, sc.Request.ID, ids.UUID(),
	})
	if err != nil {
		panic("s3: test event: " + err.Error()) // strings always encode
	}
	return body
}
