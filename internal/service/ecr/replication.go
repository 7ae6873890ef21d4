package ecr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	api "skerry/internal/api/ecr"
	"skerry/internal/auth"
	"skerry/internal/base/ids"
	"skerry/internal/events"
	"skerry/internal/registry"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// ReplicationKind is the kind of the outbox's deliveries that copy an image.
const ReplicationKind = "ecr/replication"

// maxDestinations is how many registries all rules together may copy to
// ("Private image replication in Amazon ECR").
const maxDestinations = 25

// PutReplicationConfiguration says where pushed images are copied to.
func (s *Service) PutReplicationConfiguration(ctx context.Context, sc auth.Scope, in *api.PutReplicationConfigurationInput) (*api.PutReplicationConfigurationOutput, error) {
	var rules []replicationRule
	unique := map[destination]bool{}
	for _, r := range in.ReplicationConfiguration.Rules {
		rule := replicationRule{}
		if len(r.Destinations) == 0 {
			return nil, refused("A replication rule must have a destination")
		}
		for _, d := range r.Destinations {
			to := destination{wire.Value(d.RegistryId), wire.Value(d.Region)}
			if to == (destination{sc.Account, sc.Region}) {
				return nil, invalid("replicationConfiguration", "Replication destination cannot be the same as the source registry")
			}
			unique[to] = true
			rule.Destinations = append(rule.Destinations, to)
		}
		for _, f := range r.RepositoryFilters {
			rule.Prefixes = append(rule.Prefixes, wire.Value(f.Filter))
		}
		rules = append(rules, rule)
	}
	if len(unique) > maxDestinations {
		return nil, refused("The replication configuration has more than %d unique destinations", maxDestinations)
	}
	err := s.changeRegistry(ctx, sc, func(_ *store.Tx, row *registryRow) error {
		row.Replication = rules
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.PutReplicationConfigurationOutput{ReplicationConfiguration: in.ReplicationConfiguration}, nil
}

// DescribeRegistry tells where the registry's images are copied to.
func (s *Service) DescribeRegistry(ctx context.Context, sc auth.Scope, _ *api.DescribeRegistryInput) (*api.DescribeRegistryOutput, error) {
	row, err := s.viewRegistry(ctx, sc)
	if err != nil {
		return nil, err
	}
	c := &api.ReplicationConfiguration{Rules: []api.ReplicationRule{}}
	for _, r := range row.Replication {
		rule := api.ReplicationRule{Destinations: []api.ReplicationDestination{}}
		for _, d := range r.Destinations {
			rule.Destinations = append(rule.Destinations, api.ReplicationDestination{Region: &d.Region, RegistryId: &d.Account})
		}
		for _, p := range r.Prefixes {
			rule.RepositoryFilters = append(rule.RepositoryFilters, api.RepositoryFilter{Filter: &p, FilterType: new(api.RepositoryFilterTypePrefixMatch)})
		}
		c.Rules = append(c.Rules, rule)
	}
	return &api.DescribeRegistryOutput{RegistryId: &sc.Account, ReplicationConfiguration: c}, nil
}

// destinations returns the registries to which a repository's images are copied.
func (r *registryRow) destinations(name string) []destination {
	var all []destination
	seen := map[destination]bool{}
	for _, rule := range r.Replication {
		match := len(rule.Prefixes) == 0
		for _, p := range rule.Prefixes {
			match = match || strings.HasPrefix(name, p)
		}
		for _, d := range rule.Destinations {
			if match && !seen[d] {
				seen[d] = true
				all = append(all, d)
			}
		}
	}
	return all
}

// copied marks the context of the transaction that puts a copy: copies are not
// copied on ("replication is not transitive").
type copied struct{}

// order is what a delivery says: which image, with which of its tags, where to.
type order struct {
	From   registry.Repo
	Digest string
	Tags   []string
	To     destination
}

// replicate orders the copies of a pushed image.
func (s *Service) replicate(tx *store.Tx, reg *registryRow, p registry.Push) error {
	if tx.Context().Value(copied{}) != nil {
		return nil
	}
	from := p.Manifest.Repo
	for _, to := range reg.destinations(from.Name) {
		payload, err := json.Marshal(order{From: from, Digest: p.Manifest.Digest, Tags: p.Tags, To: to})
		if err != nil {
			return err
		}
		if err := replicas.Put(tx, &replicaRow{Repo: from, Digest: p.Manifest.Digest, To: to, Status: api.ReplicationStatusInProgress}); err != nil {
			return err
		}
		err = s.Outbox.Emit(tx, events.Delivery{
			Kind: ReplicationKind, Target: registry.Repo{Account: to.Account, Region: to.Region, Name: from.Name}.ARN(), Source: from.ARN(),
			Service: "replication.ecr.amazonaws.com", Account: from.Account, Region: from.Region, Payload: payload,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Replicator is the outbox's target that copies images.
func (s *Service) Replicator() events.Target { return &replicator{s} }

type replicator struct{ *Service }

// Deliver implements events.Target.
func (r *replicator) Deliver(ctx context.Context, d events.Delivery) error {
	var o order
	if err := json.Unmarshal(d.Payload, &o); err != nil {
		return events.Permanent(err)
	}
	to := registry.Repo{Account: o.To.Account, Region: o.To.Region, Name: o.From.Name}
	if err := r.prepare(ctx, o.From, to); err != nil {
		return final(err)
	}
	err := r.Store.Update(context.WithValue(ctx, copied{}, true), func(tx *store.Tx) error {
		if err := r.copy(tx, o.From, to, o.Digest, o.Tags, 0); err != nil {
			return err
		}
		return r.ended(tx, &o, api.ReplicationStatusComplete, "")
	})
	if registry.CodeOf(err) == registry.ImageNotFound {
		return nil // deleted meanwhile: there is nothing to copy
	}
	return final(err)
}

// final marks what trying again does not mend: a refusal. What is missing at the
// source may still be coming.
func final(err error) error {
	switch registry.CodeOf(err) {
	case "", registry.LayersNotFound, registry.LayerNotFound, registry.ReferencedImagesNotFound:
		return err
	}
	return events.Permanent(err)
}

// prepare makes the repository of a copy if there is none, as far as the
// registry's owner lets the source do so.
func (r *replicator) prepare(ctx context.Context, from, to registry.Repo) error {
	there, policy := true, ""
	err := r.Store.View(ctx, func(tx *store.Tx) error {
		if _, err := r.Registry.Repository(tx, to); registry.CodeOf(err) == registry.RepositoryNotFound {
			there = false
		} else if err != nil {
			return err
		}
		row, err := registryOf(tx, to.Account, to.Region)
		policy = row.policy(err)
		return err
	})
	if err != nil {
		return err
	}
	source := auth.NewScope(auth.Principal{
		Kind: auth.Root, Account: from.Account, ARN: "arn:aws:iam::" + from.Account + ":root", ID: from.Account,
	}, to.Region, auth.Request{ID: ids.UUID(), Time: r.Clock.Now(), Secure: true})
	actions := []string{"ecr:ReplicateImage"}
	if !there {
		actions = append(actions, "ecr:CreateRepository")
	}
	for _, need := range registry.Needs(to, nil, actions...) {
		need.Policy = policy
		if d := auth.Evaluate(auth.Evaluation{Scope: source, Access: need}); !d.Allowed() {
			return registry.Refuse(fmt.Sprintf("The registry with id '%s' does not let '%s' perform %s", to.Account, from.Account, need.Action))
		}
	}
	if there {
		return nil
	}
	return r.createFor(ctx, source, to, api.RCTAppliedForReplication)
}

// policy is the registry's; none if it could not be read.
func (r *registryRow) policy(err error) string {
	if err != nil {
		return ""
	}
	return r.Policy
}

// maxNesting is how deep indexes in indexes are copied.
const maxNesting = 8

// copy puts an image, and those that it names, into another repository. Layers are
// files that both then name.
func (r *replicator) copy(tx *store.Tx, from, to registry.Repo, digest string, tags []string, depth int) error {
	m, err := r.Registry.Manifest(tx, from, digest, "")
	if err != nil {
		return err
	}
	if depth > maxNesting {
		return registry.Refuse("The index is nested too deep")
	}
	for _, child := range m.Manifests {
		if err := r.copy(tx, from, to, child.Digest, nil, depth+1); err != nil {
			return err
		}
	}
	for _, l := range layersOf(m) {
		_, err := r.Registry.MountBlob(tx, from, to, l.Digest)
		if registry.CodeOf(err) == registry.LayerNotFound && len(l.URLs) > 0 {
			continue // it is fetched from elsewhere, and was never pushed
		}
		if err != nil {
			return err
		}
	}
	_, err = r.Registry.PutManifest(tx, to, m, tags...)
	return err
}

// ended notes how a copy ended, unless its image is gone.
func (r *replicator) ended(tx *store.Tx, o *order, status, failure string) error {
	row := &replicaRow{Repo: o.From, Digest: o.Digest, To: o.To, Status: status, Failure: failure}
	has, err := replicas.Has(tx, row.key())
	if err != nil || !has {
		return err
	}
	return replicas.Put(tx, row)
}

// GiveUp implements events.Mourner.
func (r *replicator) GiveUp(tx *store.Tx, d events.Delivery, cause error) error {
	var o order
	if err := json.Unmarshal(d.Payload, &o); err != nil {
		return nil // it was never one of ours
	}
	code := "InternalFailure"
	if e, ok := errors.AsType[*registry.Error](cause); ok {
		code = string(e.Code)
	}
	return r.ended(tx, &o, api.ReplicationStatusFailed, code)
}

// DescribeImageReplicationStatus tells how far the copies of an image are.
func (s *Service) DescribeImageReplicationStatus(ctx context.Context, sc auth.Scope, in *api.DescribeImageReplicationStatusInput) (*api.DescribeImageReplicationStatusOutput, error) {
	id := repoOf(sc, in.RegistryId, in.RepositoryName)
	out := &api.DescribeImageReplicationStatusOutput{RepositoryName: &id.Name, ReplicationStatuses: []api.ImageReplicationStatus{}}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		m, err := s.image(tx, id, in.ImageId)
		if err != nil {
			return err
		}
		out.ImageId = &api.ImageIdentifier{ImageDigest: &m.Digest, ImageTag: in.ImageId.ImageTag}
		for row, err := range replicas.Scan(tx, store.Range{Prefix: id.Key() + store.K(m.Digest)}) {
			if err != nil {
				return err
			}
			one := api.ImageReplicationStatus{Region: &row.To.Region, RegistryId: &row.To.Account, Status: &row.Status}
			if row.Failure != "" {
				one.FailureCode = &row.Failure
			}
			out.ReplicationStatuses = append(out.ReplicationStatuses, one)
		}
		return nil
	})
}
