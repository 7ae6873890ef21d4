package s3

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"skerry/internal/api/s3"
	"skerry/internal/api/sts"
	"skerry/internal/auth"
	"skerry/internal/base/arn"
	"skerry/internal/base/ids"
	"skerry/internal/events"
	"skerry/internal/op"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// ReplicationKind is the kind of the outbox's deliveries that copy a version to
// another bucket.
const ReplicationKind = "s3/replication"

// The states of x-amz-replication-status.
const (
	replicaPending = "PENDING"
	replicaDone    = "COMPLETED"
	replicaFailed  = "FAILED"
	replicaItself  = "REPLICA"
)

// replicaOrder is a delivery's payload: the version to copy.
type replicaOrder struct {
	Bucket, BucketID, Key, Version string
	Class                          string // of the copy; empty: as the source
	Owner                          bool   // the copy belongs to the destination's account
}

// PutBucketReplication implements s3:PutReplicationConfiguration.
func (s *Service) PutBucketReplication(ctx context.Context, sc auth.Scope, in *s3.PutBucketReplicationInput) (*s3.PutBucketReplicationOutput, error) {
	c := in.ReplicationConfiguration
	if c == nil || len(c.Rules) == 0 || len(c.Rules) > maxLifecycleRules {
		return nil, malformedXML()
	}
	if role, err := arn.Parse(value(c.Role)); err != nil || role.Service != "iam" {
		return nil, invalidArgument("Role", value(c.Role), "Invalid role specified in replication configuration")
	}
	for i := range c.Rules {
		if value(c.Rules[i].ID) == "" {
			c.Rules[i].ID = wire.Ptr(ids.UUID())
		}
		if err := checkReplicationRule(&c.Rules[i], c.Rules[:i]); err != nil {
			return nil, err
		}
	}
	check := func(tx *store.Tx, b *bucketRow) error {
		if b.State != "Enabled" {
			return invalidRequest("Versioning must be 'Enabled' on the bucket to apply a replication configuration")
		}
		for _, r := range c.Rules {
			to, err := buckets.Get(tx, store.K(bucketOfARN(value(r.Destination.Bucket))))
			switch {
			case errors.Is(err, store.ErrNotFound):
				return invalidRequest("Destination bucket must exist.")
			case err != nil:
				return err
			case to.State != "Enabled":
				return invalidRequest("Destination bucket must have versioning enabled.")
			case to.ID == b.ID:
				return invalidRequest("Destination bucket cannot be the same as the source bucket.")
			}
		}
		return nil
	}
	return &s3.PutBucketReplicationOutput{}, s.setConfig(ctx, in.Bucket, in.ExpectedBucketOwner, kindReplication, &configRow{Replication: c}, check)
}

// checkReplicationRule refuses malformed rules and what is not built: replication
// time control, existing objects, changes made to replicas, keys of KMS.
func checkReplicationRule(r *s3.ReplicationRule, before []s3.ReplicationRule) error {
	d := r.Destination
	status := value(r.Status)
	switch {
	case status != "Enabled" && status != "Disabled", d == nil || bucketOfARN(value(d.Bucket)) == "":
		return malformedXML()
	case r.Filter != nil && r.DeleteMarkerReplication == nil:
		return invalidRequest("DeleteMarkerReplication must be specified for this version of Cross Region Replication configuration schema. Please refer to S3 Developer Guide for more information.")
	case r.Filter != nil && r.Priority == nil:
		return invalidRequest("Priority must be specified for this version of Cross Region Replication configuration schema. Please refer to S3 Developer Guide for more information.")
	case filtersTags(r.Filter) && value(r.DeleteMarkerReplication.Status) == "Enabled":
		return invalidRequest("Delete marker replication is not supported if any Tag filter is specified. Please refer to S3 Developer Guide for more information.")
	case d.ReplicationTime != nil, d.Metrics != nil:
		return notImplemented("ReplicationTime")
	case d.EncryptionConfiguration != nil:
		return notImplemented("EncryptionConfiguration")
	case r.ExistingObjectReplication != nil && value(r.ExistingObjectReplication.Status) == "Enabled":
		return notImplemented("ExistingObjectReplication")
	case r.SourceSelectionCriteria != nil && r.SourceSelectionCriteria.ReplicaModifications != nil && value(r.SourceSelectionCriteria.ReplicaModifications.Status) == "Enabled":
		return notImplemented("ReplicaModifications")
	}
	for _, o := range before {
		if value(o.ID) == value(r.ID) {
			return invalidRequest("Rule Id must be unique")
		}
		if o.Priority != nil && r.Priority != nil && *o.Priority == *r.Priority {
			return invalidRequest("Found duplicate priorities. Priorities must be unique within the configuration.")
		}
	}
	_, err := storageClass(d.StorageClass)
	return err
}

func filtersTags(f *s3.ReplicationRuleFilter) bool {
	return f != nil && (f.Tag != nil || f.And != nil && len(f.And.Tags) > 0)
}

func bucketOfARN(text string) string {
	name, ok := strings.CutPrefix(text, "arn:aws:s3:::")
	if !ok || strings.Contains(name, "/") {
		return ""
	}
	return name
}

// GetBucketReplication implements s3:GetReplicationConfiguration.
func (s *Service) GetBucketReplication(ctx context.Context, sc auth.Scope, in *s3.GetBucketReplicationInput) (*s3.GetBucketReplicationOutput, error) {
	row, err := s.viewConfig(ctx, in.Bucket, in.ExpectedBucketOwner, kindReplication, "ReplicationConfigurationNotFoundError", "The replication configuration was not found")
	if err != nil {
		return nil, err
	}
	return &s3.GetBucketReplicationOutput{ReplicationConfiguration: row.Replication}, nil
}

// DeleteBucketReplication implements s3:PutReplicationConfiguration's removal.
func (s *Service) DeleteBucketReplication(ctx context.Context, sc auth.Scope, in *s3.DeleteBucketReplicationInput) (*s3.DeleteBucketReplicationOutput, error) {
	return &s3.DeleteBucketReplicationOutput{}, s.setConfig(ctx, in.Bucket, in.ExpectedBucketOwner, kindReplication, nil, nil)
}

// replicaRules returns the rules that copy a version, one for each destination:
// that of the highest priority, which also says whether delete markers go there.
func replicaRules(c *s3.ReplicationConfiguration, o *objectRow) []s3.ReplicationRule {
	rules := slices.Clone(c.Rules)
	slices.SortStableFunc(rules, func(a, b s3.ReplicationRule) int { return int(value(b.Priority)) - int(value(a.Priority)) })
	var out []s3.ReplicationRule
	seen := map[string]bool{}
	for _, r := range rules {
		marked := r.Filter == nil || r.DeleteMarkerReplication != nil && value(r.DeleteMarkerReplication.Status) == "Enabled"
		to := value(r.Destination.Bucket)
		if value(r.Status) != "Enabled" || seen[to] || !replicates(&r, o) {
			continue
		}
		seen[to] = true
		if !o.Marker || marked {
			out = append(out, r)
		}
	}
	return out
}

// replicates says whether a rule's filter takes in a version.
func replicates(r *s3.ReplicationRule, o *objectRow) bool {
	rule := s3.LifecycleRule{Prefix: r.Prefix}
	if f := r.Filter; f != nil {
		rule.Filter = &s3.LifecycleRuleFilter{Prefix: f.Prefix, Tag: f.Tag}
		if f.And != nil {
			rule.Filter.And = &s3.LifecycleRuleAndOperator{Prefix: f.And.Prefix, Tags: f.And.Tags}
		}
	}
	return applies(&rule, o.Key, o.Size, o.Tags)
}

// planReplica marks a new version as waiting for replication if a rule copies it.
// What lifecycle rules delete is not replicated.
func (s *Service) planReplica(tx *store.Tx, b *bucketRow, o *objectRow, byLifecycle bool) error {
	o.Replication, o.Copying = "", 0
	if !b.Copies || byLifecycle {
		return nil
	}
	row, err := config(tx, b, kindReplication)
	if err != nil || row == nil {
		return err
	}
	if o.Copying = len(replicaRules(row.Replication, o)); o.Copying > 0 {
		o.Replication = replicaPending
	}
	return nil
}

// emitReplica puts the copying of a placed version into the outbox.
func (s *Service) emitReplica(tx *store.Tx, b *bucketRow, o *objectRow) error {
	if o.Replication != replicaPending {
		return nil
	}
	row, err := config(tx, b, kindReplication)
	if err != nil {
		return err
	}
	for _, r := range replicaRules(row.Replication, o) {
		owned := r.Destination.AccessControlTranslation != nil
		body, err := json.Marshal(replicaOrder{b.Name, b.ID, o.Key, o.Version, value(r.Destination.StorageClass), owned})
		if err != nil {
			return fmt.Errorf("s3: replication: %w", err)
		}
		err = s.Outbox.Emit(tx, events.Delivery{
			Kind: ReplicationKind, Target: value(r.Destination.Bucket), Source: b.arn(), Service: principal,
			Account: b.Account, Region: b.Region, Role: value(row.Replication.Role), Payload: body,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Replicator returns what delivers ReplicationKind.
func (s *Service) Replicator() events.Target { return replicator{s} }

type replicator struct{ s *Service }

// Deliver implements events.Target: it copies a version, as the role that the
// configuration names. Source and copy share their bytes.
func (r replicator) Deliver(ctx context.Context, d events.Delivery) error {
	var q replicaOrder
	if err := json.Unmarshal(d.Payload, &q); err != nil {
		return events.Permanent(err)
	}
	sc, err := r.s.assume(ctx, d)
	if err != nil {
		return err
	}
	var from, to *bucketRow
	var o *objectRow
	err = r.s.Store.View(ctx, func(tx *store.Tx) error {
		if from, err = buckets.Get(tx, store.K(q.Bucket)); err == nil {
			if o, err = findVersion(tx, from, q.Key, q.Version); err == nil {
				to, err = buckets.Get(tx, store.K(bucketOfARN(d.Target)))
			}
		}
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return events.Permanent(err)
	case err != nil:
		return err
	case from.ID != q.BucketID || o == nil:
		return nil // deleted since: nothing to copy
	}
	needs := []auth.Access{
		{Action: "s3:GetObjectVersionForReplication", Resource: from.objectARN(q.Key), Owner: from.Account, Policy: from.Policy},
		{Action: "s3:ReplicateObject", Resource: to.objectARN(q.Key), Owner: to.Account, Policy: to.Policy},
	}
	if o.Marker {
		needs[1].Action = "s3:ReplicateDelete"
	}
	if ok, err := r.s.allowed(ctx, sc, needs...); err != nil || !ok {
		if err == nil {
			err = fmt.Errorf("s3: %s may not replicate %s to %s", d.Role, q.Key, to.Name)
		}
		return err
	}
	return events.Done(func(tx *store.Tx) error { return r.s.putReplica(tx, sc, q, to.Name) })
}

// GiveUp implements events.Mourner.
func (r replicator) GiveUp(tx *store.Tx, d events.Delivery, cause error) error {
	var q replicaOrder
	if err := json.Unmarshal(d.Payload, &q); err != nil {
		return fmt.Errorf("s3: replication: %w", err)
	}
	return r.s.setReplication(tx, q, replicaFailed)
}

// setReplication notes how one of a version's copies ended. The version is
// replicated once all are, and not if one has failed.
func (s *Service) setReplication(tx *store.Tx, q replicaOrder, status string) error {
	b, err := buckets.Get(tx, store.K(q.Bucket))
	if errors.Is(err, store.ErrNotFound) || err == nil && b.ID != q.BucketID {
		return nil
	}
	if err != nil {
		return err
	}
	o, err := findVersion(tx, b, q.Key, q.Version)
	if err != nil || o == nil || o.Replication == replicaFailed {
		return err
	}
	if o.Copying--; o.Copying <= 0 || status == replicaFailed {
		o.Replication = status
	}
	return save(tx, o)
}

// putReplica stores the copy under the source's version id and tells the source.
func (s *Service) putReplica(tx *store.Tx, sc auth.Scope, q replicaOrder, name string) error {
	from, err := buckets.Get(tx, store.K(q.Bucket))
	if errors.Is(err, store.ErrNotFound) || err == nil && from.ID != q.BucketID {
		return nil
	}
	if err != nil {
		return err
	}
	old, err := findVersion(tx, from, q.Key, q.Version)
	if err != nil || old == nil {
		return err
	}
	to, err := buckets.Get(tx, store.K(name))
	if errors.Is(err, store.ErrNotFound) || err == nil && to.State != "Enabled" {
		return s.setReplication(tx, q, replicaFailed)
	}
	if err != nil {
		return err
	}
	there, err := findVersion(tx, to, q.Key, q.Version)
	if err != nil {
		return err
	}
	if there == nil {
		if err := s.insertReplica(tx, sc, to, old, q); err != nil {
			return err
		}
	}
	return s.setReplication(tx, q, replicaDone)
}

func (s *Service) insertReplica(tx *store.Tx, sc auth.Scope, to *bucketRow, old *objectRow, q replicaOrder) error {
	o := *old
	o.Bucket, o.Replication, o.Copying = to.ID, replicaItself, 0
	if q.Class != "" && q.Class != "STANDARD" {
		o.Class = q.Class
	}
	if q.Owner || to.Owner == ownerEnforced {
		o.Owner, o.ACL = to.Account, nil
	}
	if to.Lock == nil {
		o.LockMode, o.LegalHold, o.RetainUntil = "", false, time.Time{}
	}
	if o.Content != "" {
		if err := share(tx, o.Content); err != nil {
			return err
		}
	}
	cur, err := current(tx, to, o.Key)
	if err != nil {
		return err
	}
	if cur != nil && cur.Seq > o.Seq { // a newer one was written meanwhile
		o.Retired = s.now()
		return versions.Insert(tx, &o)
	}
	o.Retired = time.Time{}
	if err := s.retire(tx, to, &o, cur, s.now()); err != nil {
		return err
	}
	if err := objects.Put(tx, &o); err != nil {
		return err
	}
	event := "s3:ObjectCreated:Put"
	if o.Marker {
		event = "s3:ObjectRemoved:DeleteMarkerCreated"
	}
	return s.notify(tx, to, &o, sc, event)
}

// assume takes the role of a delivery as S3.
func (s *Service) assume(ctx context.Context, d events.Delivery) (auth.Scope, error) {
	now := s.now()
	self := auth.ServiceScope(principal, d.Account, d.Region, d.Source, ids.UUID(), now)
	out, err := op.Call[sts.AssumeRoleOutput](ctx, s.Cloud, self, sts.Schema.ID, "AssumeRole", &sts.AssumeRoleInput{
		RoleArn: &d.Role, RoleSessionName: wire.Ptr("s3-replication"),
	})
	if err != nil {
		return auth.Scope{}, fmt.Errorf("s3: assume %s: %w", d.Role, err)
	}
	c, err := s.Directory.Credential(ctx, value(out.Credentials.AccessKeyId))
	if err != nil {
		return auth.Scope{}, fmt.Errorf("s3: assume %s: %w", d.Role, err)
	}
	return auth.NewScope(c.Principal, d.Region, auth.Request{ID: self.Request.ID, Time: now, Secure: true, SourceARN: d.Source, SourceAccount: d.Account}), nil
}
