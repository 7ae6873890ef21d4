package iam

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	api "skerry/internal/api/iam"
	"skerry/internal/auth"
	"skerry/internal/base/arn"
	"skerry/internal/base/ids"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// Pages: "GenerateServiceLastAccessedDetails" and "Refine permissions in AWS using
// last accessed information".
const (
	trackedFor = 400 * 24 * time.Hour // how long a use is told
	jobAge     = 7 * 24 * time.Hour   // how long a report can be read
)

// about is what a report is about: the policies that count and the users and roles
// that have them, each sorted by ARN.
type about struct {
	policies []*auth.Policy
	entities []held
}

// GenerateServiceLastAccessedDetails makes a report of the services that a user,
// group, role or managed policy allows, and when they were last tried. It is
// complete with the answer.
func (s *Service) GenerateServiceLastAccessedDetails(ctx context.Context, sc auth.Scope, in *api.GenerateServiceLastAccessedDetailsInput) (*api.GenerateServiceLastAccessedDetailsOutput, error) {
	level := "SERVICE_LEVEL"
	if in.Granularity != nil {
		level = *in.Granularity
	}
	id := ids.UUID()
	err := s.d.Store.Update(ctx, func(tx *store.Tx) error {
		of, err := s.about(tx, sc, wire.Value(in.Arn))
		if err != nil {
			return err
		}
		job := &jobRow{Account: sc.Account, ID: id, Owner: jobOwner(sc.Principal), Level: level, Created: s.d.Clock.Now().UTC()}
		if err := s.fill(tx, job, of); err != nil {
			return err
		}
		return jobs.Put(tx, job)
	})
	return &api.GenerateServiceLastAccessedDetailsOutput{JobId: wire.Ptr(id)}, err
}

// jobOwner is who may read a report: the user who asked for it, or the session.
func jobOwner(p auth.Principal) string {
	if p.Kind == auth.AssumedRole && p.AccessKey != "" {
		return p.AccessKey
	}
	return p.ID
}

func unsupportedARN(text string) error {
	return invalidInput("Invalid Entity Arn: %s is not supported.", text)
}

// goneARN is the error of these operations for an entity that is not there.
func goneARN(err error, text string) error {
	if isNoSuchEntity(err) {
		return noSuchEntity("ARN %s does not exist.", text)
	}
	return err
}

// entityOf reads the ARN of a user, group, role or policy of the account. Of the
// path, nothing counts.
func entityOf(sc auth.Scope, text string) (kind, name string, err error) {
	a, err := arn.Parse(text)
	switch {
	case err != nil:
		return "", "", invalidInput("ARN %s is not valid.", text)
	case a.Partition != arn.Partition:
		return "", "", validationError("Invalid ARN partition")
	case a.Service != "iam":
		return "", "", validationError("Invalid service in ARN")
	}
	kind, rest := a.ResourceType()
	if a.Account != sc.Account && (kind != "policy" || a.Account != managedAccount) {
		return "", "", accessDenied("User: %s is not authorized to perform the operation on %s", sc.Principal.ARN, text)
	}
	return kind, rest[strings.LastIndexByte(rest, '/')+1:], nil
}

// grantors loads the user (and the user's groups), group or role whose policies
// count; nil if the kind is another one.
func (s *Service) grantors(tx *store.Tx, sc auth.Scope, kind, name string) ([]held, error) {
	if kind != "user" && kind != "group" && kind != "role" {
		return nil, nil
	}
	return s.source(tx, sc.Account, iamARN(sc.Account, kind, "/", name))
}

// about finds out what a report on an ARN is about.
func (s *Service) about(tx *store.Tx, sc auth.Scope, text string) (about, error) {
	kind, name, err := entityOf(sc, text)
	if err != nil {
		return about{}, err
	}
	if kind == "policy" {
		return s.aboutPolicy(tx, sc, text)
	}
	list, err := s.grantors(tx, sc, kind, name)
	if err != nil {
		return about{}, goneARN(err, text)
	}
	if list == nil {
		return about{}, unsupportedARN(text)
	}
	of := about{entities: list[:1]}
	for _, h := range list {
		docs, err := s.documents(tx, h.entity)
		if err != nil {
			return about{}, err
		}
		for _, d := range docs {
			of.policies = append(of.policies, d.Policy)
		}
	}
	if kind == "group" {
		members := map[string]*userRow{}
		if err := addMembers(tx, members, list[0].ID); err != nil {
			return about{}, err
		}
		of.entities = heldUsers(members)
	}
	return of, nil
}

// aboutPolicy is about for a managed policy: those who have it, be it through a
// group. That it bounds somebody does not count.
func (s *Service) aboutPolicy(tx *store.Tx, sc auth.Scope, text string) (about, error) {
	d, err := s.managedDocument(tx, sc.Account, text)
	if err != nil {
		return about{}, goneARN(err, text)
	}
	attached := store.Range{Prefix: store.K(sc.Account, asPermissions, d.Source)}
	members := map[string]*userRow{}
	for u, err := range usersByPolicy.Scan(tx, attached) {
		if err != nil {
			return about{}, err
		}
		members[u.ID] = u
	}
	for g, err := range groupsByPolicy.Scan(tx, attached) {
		if err == nil {
			err = addMembers(tx, members, g.ID)
		}
		if err != nil {
			return about{}, err
		}
	}
	of := about{policies: []*auth.Policy{d.Policy}, entities: heldUsers(members)}
	list, err := all(rolesByPolicy.Scan(tx, attached), nil)
	slices.SortFunc(list, func(a, b *roleRow) int { return strings.Compare(a.arn(), b.arn()) })
	for _, r := range list {
		of.entities = append(of.entities, held{roleKind, &r.entity})
	}
	return of, err
}

// addMembers adds the users of a group.
func addMembers(tx *store.Tx, to map[string]*userRow, group string) error {
	for u, err := range usersByGroup.Scan(tx, store.Range{Prefix: store.K(group)}) {
		if err != nil {
			return err
		}
		to[u.ID] = u
	}
	return nil
}

func heldUsers(members map[string]*userRow) []held {
	var out []held
	for _, u := range members {
		out = append(out, held{userKind, &u.entity})
	}
	slices.SortFunc(out, func(a, b held) int { return strings.Compare(a.arn(), b.arn()) })
	return out
}

// arn is the ARN that an entity has now.
func (h held) arn() string { return iamARN(h.Account, h.kind.name, h.Path, h.Name) }

// fill writes the report: a service for each that the policies may allow.
func (s *Service) fill(tx *store.Tx, job *jobRow, of about) error {
	tried := map[string]map[string]seen{}
	for _, h := range of.entities {
		job.Entities = append(job.Entities, h.ID)
		tried[h.ID] = map[string]seen{}
	}
	if err := s.attempts(tx, tried); err != nil {
		return err
	}
	since := job.Created.Add(-trackedFor)
	for _, n := range s.services() {
		any, tracked := n.reached(of.policies)
		if !any {
			continue
		}
		row := serviceAccess{Namespace: n.prefix, Name: n.name, Used: map[string]time.Time{}}
		for _, h := range of.entities {
			if last := latest(tried[h.ID], n.prefix+":", since); !last.at.IsZero() {
				row.Used[h.ID] = last.at
				row.Last.take(h, last)
			}
		}
		if job.Level == "ACTION_LEVEL" {
			for _, a := range tracked {
				action := actionAccess{Name: strings.TrimPrefix(a, n.prefix+":")}
				for _, h := range of.entities {
					if last := tried[h.ID][a]; last.at.After(since) {
						action.Last.take(h, last)
					}
				}
				row.Actions = append(row.Actions, action)
			}
		}
		job.Services = append(job.Services, row)
	}
	return nil
}

// latest is the last attempt of an entity at any action with a prefix.
func latest(tried map[string]seen, prefix string, since time.Time) (last seen) {
	for action, t := range tried {
		if strings.HasPrefix(action, prefix) && t.at.After(since) && t.at.After(last.at) {
			last = t
		}
	}
	return last
}

// take keeps the later of two attempts.
func (l *lastAccess) take(h held, t seen) {
	if t.at.After(l.At) {
		*l = lastAccess{h.arn(), t.region, t.at}
	}
}

// job loads a report for the one who asked for it.
func (s *Service) job(tx *store.Tx, sc auth.Scope, id *string) (*jobRow, error) {
	missing := noSuchEntity("Job %s does not exist.", wire.Value(id))
	r, err := jobs.Get(tx, store.K(sc.Account, wire.Value(id)))
	if r, err = found(r, err, missing); err != nil {
		return nil, err
	}
	if r.Owner != jobOwner(sc.Principal) || s.d.Clock.Now().Sub(r.Created) >= jobAge {
		return nil, missing
	}
	return r, nil
}

// dropJobs deletes the reports that are too old to be read.
func (s *Service) dropJobs(ctx context.Context) (n int, err error) {
	old := store.Range{To: store.K(s.d.Clock.Now().UTC().Add(-jobAge))}
	var list []*jobRow
	if err := s.view(ctx, func(tx *store.Tx) error {
		list, err = all(jobsByCreated.Scan(tx, old), nil)
		return err
	}); err != nil || len(list) == 0 {
		return 0, err
	}
	return len(list), s.d.Store.Update(ctx, func(tx *store.Tx) error {
		for _, r := range list {
			if err := jobs.Delete(tx, store.K(r.Account, r.ID)); err != nil {
				return err
			}
		}
		return nil
	})
}

func invalidMarker() error { return invalidInput("The marker passed in the request was invalid.") }

// span reads which of n items of a report a request wants. A marker holds the
// report, the operation and the place in the list, which stays as it was.
func (l listing) span(job *jobRow, operation string, n int) (from, to int, next *string, err error) {
	p, err := l.page()
	if err != nil {
		return 0, 0, nil, err
	}
	prefix := operation + " " + job.ID + " "
	if p.after != "" {
		place, ours := strings.CutPrefix(p.after, prefix)
		from, err = strconv.Atoi(place)
		if !ours || err != nil || from < 0 {
			return 0, 0, nil, invalidMarker()
		}
	}
	from = min(from, n)
	if to = min(from+p.max, n); to < n {
		next = marker(prefix + strconv.Itoa(to))
	}
	return from, to, next, nil
}

// GetServiceLastAccessedDetails returns a report, by the services' prefixes.
func (s *Service) GetServiceLastAccessedDetails(ctx context.Context, sc auth.Scope, in *api.GetServiceLastAccessedDetailsInput) (*api.GetServiceLastAccessedDetailsOutput, error) {
	var out *api.GetServiceLastAccessedDetailsOutput
	err := s.view(ctx, func(tx *store.Tx) error {
		job, err := s.job(tx, sc, in.JobId)
		if err != nil {
			return err
		}
		from, to, next, err := listing{in.Marker, in.MaxItems}.span(job, "services", len(job.Services))
		if err != nil {
			return err
		}
		out = &api.GetServiceLastAccessedDetailsOutput{
			JobStatus: wire.Ptr("COMPLETED"), JobType: wire.Ptr(job.Level), JobCreationDate: wire.Ptr(job.Created), JobCompletionDate: wire.Ptr(job.Created),
			ServicesLastAccessed: []api.ServiceLastAccessed{}, IsTruncated: wire.Ptr(next != nil), Marker: next,
		}
		for _, r := range job.Services[from:to] {
			out.ServicesLastAccessed = append(out.ServicesLastAccessed, r.answer())
		}
		return nil
	})
	return out, err
}

func (r *serviceAccess) answer() api.ServiceLastAccessed {
	a := api.ServiceLastAccessed{
		ServiceName: wire.Ptr(r.Name), ServiceNamespace: wire.Ptr(r.Namespace), TotalAuthenticatedEntities: wire.Ptr(int32(len(r.Used))),
	}
	if !r.Last.At.IsZero() {
		a.LastAuthenticated, a.LastAuthenticatedEntity, a.LastAuthenticatedRegion = wire.Ptr(r.Last.At), wire.Ptr(r.Last.Entity), wire.Ptr(r.Last.Region)
	}
	for _, t := range r.Actions {
		b := api.TrackedActionLastAccessed{ActionName: wire.Ptr(t.Name)}
		if !t.Last.At.IsZero() {
			b.LastAccessedTime, b.LastAccessedEntity, b.LastAccessedRegion = wire.Ptr(t.Last.At), wire.Ptr(t.Last.Entity), wire.Ptr(t.Last.Region)
		}
		a.TrackedActionsLastAccessed = append(a.TrackedActionsLastAccessed, b)
	}
	return a
}

// GetServiceLastAccessedDetailsWithEntities lists the users and roles of a report
// that could have used a service, the last who tried first. They bear the names
// that they have now.
func (s *Service) GetServiceLastAccessedDetailsWithEntities(ctx context.Context, sc auth.Scope, in *api.GetServiceLastAccessedDetailsWithEntitiesInput) (*api.GetServiceLastAccessedDetailsWithEntitiesOutput, error) {
	var out *api.GetServiceLastAccessedDetailsWithEntitiesOutput
	prefix := wire.Value(in.ServiceNamespace)
	err := s.view(ctx, func(tx *store.Tx) error {
		job, err := s.job(tx, sc, in.JobId)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(s.services(), func(n namespace) bool { return n.prefix == prefix }) {
			return invalidInput("Service namepace %s is either invalid or unsupported.", prefix) // AWS's spelling
		}
		var entities []string
		used := map[string]time.Time{}
		for _, r := range job.Services {
			if r.Namespace == prefix {
				entities, used = slices.Clone(job.Entities), r.Used
			}
		}
		slices.SortStableFunc(entities, func(a, b string) int { return used[b].Compare(used[a]) })
		from, to, next, err := listing{in.Marker, in.MaxItems}.span(job, "entities", len(entities))
		if err != nil {
			return err
		}
		out = &api.GetServiceLastAccessedDetailsWithEntitiesOutput{
			JobStatus: wire.Ptr("COMPLETED"), JobCreationDate: wire.Ptr(job.Created), JobCompletionDate: wire.Ptr(job.Created),
			EntityDetailsList: []api.EntityDetails{}, IsTruncated: wire.Ptr(next != nil), Marker: next,
		}
		for _, id := range entities[from:to] {
			d, err := entityDetails(tx, id, used[id])
			if err != nil {
				return err
			}
			out.EntityDetailsList = append(out.EntityDetailsList, d...)
		}
		return nil
	})
	return out, err
}

// entityDetails describes a user or role; nothing if it is gone.
func entityDetails(tx *store.Tx, id string, last time.Time) ([]api.EntityDetails, error) {
	h := held{kind: userKind}
	u, err := one(tx, usersByID, id, store.ErrNotFound)
	if err == nil {
		h.entity = &u.entity
	} else if errors.Is(err, store.ErrNotFound) {
		var r *roleRow
		if r, err = one(tx, rolesByID, id, store.ErrNotFound); err == nil {
			h = held{roleKind, &r.entity}
		}
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	d := api.EntityDetails{EntityInfo: &api.EntityInfo{
		Arn: wire.Ptr(h.arn()), Name: wire.Ptr(h.Name), Type: wire.Ptr(strings.ToUpper(h.kind.name)), Id: wire.Ptr(h.ID), Path: wire.Ptr(h.Path),
	}}
	if !last.IsZero() {
		d.LastAuthenticated = wire.Ptr(last)
	}
	return []api.EntityDetails{d}, nil
}
