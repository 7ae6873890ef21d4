package ecr

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	api "skerry/internal/api/ecr"
	"skerry/internal/auth"
	"skerry/internal/registry"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// scanQuota is how long an image that was scanned on request must wait for the
// next time ("Scan images for OS vulnerabilities in Amazon ECR": once in 24 hours).
const scanQuota = 24 * time.Hour

// scannable tells whether an image has layers to look into: it is no list of
// images and no artifact.
func scannable(m *registry.Manifest) bool {
	if m.IsIndex() || m.Subject != "" || len(m.Layers) == 0 {
		return false
	}
	return !slices.ContainsFunc(m.Layers, func(d registry.Descriptor) bool {
		return !strings.Contains(d.MediaType, "diff.tar") && !strings.Contains(d.MediaType, "layer.v1.tar") && !strings.Contains(d.MediaType, ".nondistributable.")
	})
}

// scanOf returns the scan of an image, nil if there is none.
func scanOf(tx *store.Tx, m *registry.Manifest) (*scanRow, error) {
	row, err := scans.Get(tx, m.Repo.Key()+store.K(m.Digest))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return row, err
}

// request has an image scanned.
func (s *Service) request(tx *store.Tx, m *registry.Manifest, asked bool) error {
	tx.OnCommit(func() { s.Wake(scanLoop) })
	now := s.Clock.Now()
	if err := findings.Delete(tx, m.Repo.Key()+store.K(m.Digest)); err != nil {
		return err
	}
	return scans.Put(tx, &scanRow{Repo: m.Repo, Digest: m.Digest, Status: inProgress, Requested: now, Due: now, Asked: asked})
}

// StartImageScan has an image scanned.
func (s *Service) StartImageScan(ctx context.Context, sc auth.Scope, in *api.StartImageScanInput) (*api.StartImageScanOutput, error) {
	id := repoOf(sc, in.RegistryId, in.RepositoryName)
	out := &api.StartImageScanOutput{RegistryId: &id.Account, RepositoryName: &id.Name, ImageScanStatus: &api.ImageScanStatus{Status: new(inProgress)}}
	return out, s.Store.Update(ctx, func(tx *store.Tx) error {
		m, err := s.image(tx, id, in.ImageId)
		if err != nil {
			return err
		}
		out.ImageId = &api.ImageIdentifier{ImageDigest: &m.Digest, ImageTag: in.ImageId.ImageTag}
		if m.Archived {
			return &api.ImageArchivedException{Message: new("The image with digest '" + m.Digest + "' is archived and cannot be scanned")}
		}
		if !scannable(m) {
			return &api.UnsupportedImageTypeException{Message: new("The image with digest '" + m.Digest + "' is of a type that cannot be scanned")}
		}
		old, err := scanOf(tx, m)
		if err != nil {
			return err
		}
		if old != nil && old.Status == inProgress {
			return nil // it is under way
		}
		if old != nil && old.Asked && old.Status != api.ScanStatusFailed && s.Clock.Now().Sub(old.Requested) < scanQuota {
			return &api.LimitExceededException{Message: new("The scan quota per image has been exceeded. Wait and try again.")}
		}
		return s.request(tx, m, true)
	})
}

// DescribeImageScanFindings tells what the last scan of an image has found.
func (s *Service) DescribeImageScanFindings(ctx context.Context, sc auth.Scope, in *api.DescribeImageScanFindingsInput) (*api.DescribeImageScanFindingsOutput, error) {
	id := repoOf(sc, in.RegistryId, in.RepositoryName)
	out := &api.DescribeImageScanFindingsOutput{RegistryId: &id.Account, RepositoryName: &id.Name}
	token, err := readToken(in.NextToken)
	if err != nil {
		return nil, err
	}
	from := 0
	if token != "" {
		if from, err = strconv.Atoi(token); err != nil || from < 0 {
			return nil, invalid("nextToken", "Invalid token")
		}
	}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		m, err := s.image(tx, id, in.ImageId)
		if err != nil {
			return err
		}
		out.ImageId = &api.ImageIdentifier{ImageDigest: &m.Digest, ImageTag: in.ImageId.ImageTag}
		row, err := scanOf(tx, m)
		if err != nil {
			return err
		}
		if row == nil {
			return &api.ScanNotFoundException{Message: new("Image scan does not exist for the image with '{imageDigest:'" + m.Digest + "', imageTag:'" + cmp.Or(wire.Value(in.ImageId.ImageTag), "null") +
				"'}' in the repository with name '" + id.Name + "' in the registry with id '" + id.Account + "'")}
		}
		out.ImageScanStatus = &api.ImageScanStatus{Status: &row.Status, Description: &row.Description}
		// The AWS CLI cannot page through findings that are not there.
		out.ImageScanFindings = &api.ImageScanFindings{
			ImageScanCompletedAt: when(row.Ended), VulnerabilitySourceUpdatedAt: when(row.Updated), FindingSeverityCounts: row.Counts,
			Findings: []api.ImageScanFinding{},
		}
		found, err := findings.Get(tx, id.Key()+store.K(m.Digest))
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		page := found.Findings[min(from, len(found.Findings)):]
		if n := limit(in.MaxResults, 100); len(page) > n {
			page, out.NextToken = page[:n], writeToken(strconv.Itoa(from+n))
		}
		for _, f := range page {
			out.ImageScanFindings.Findings = append(out.ImageScanFindings.Findings, f.describe())
		}
		return nil
	})
}

// describe is a finding as the API shows it.
func (f *finding) describe() api.ImageScanFinding {
	out := api.ImageScanFinding{Name: &f.Name, Severity: &f.Severity}
	if f.Description != "" {
		out.Description = &f.Description
	}
	if f.URI != "" {
		out.Uri = &f.URI
	}
	score := ""
	if f.Score > 0 {
		score = strconv.FormatFloat(f.Score, 'f', 1, 64)
	}
	for _, a := range [][2]string{
		{"package_name", f.Package}, {"package_version", f.Version}, {"patched_version", f.Fixed}, {"package_path", f.Path},
		{"CVSS3_VECTOR", f.Vector}, {"CVSS3_SCORE", score},
	} {
		if a[1] != "" {
			out.Attributes = append(out.Attributes, api.Attribute{Key: &a[0], Value: &a[1]})
		}
	}
	return out
}

// onPush tells whether a repository's images are scanned when they are pushed, and
// by which filters of the registry.
func (r *registryRow) onPush(repo *registry.Repository) (bool, []string) {
	var applied []string
	for _, f := range r.ScanFilters {
		if registry.Matches(f, repo.Repo.Name) {
			applied = append(applied, f)
		}
	}
	return len(applied) > 0 || repo.ScanOnPush, applied
}

// PutRegistryScanningConfiguration says which repositories' images are scanned
// when they are pushed.
func (s *Service) PutRegistryScanningConfiguration(ctx context.Context, sc auth.Scope, in *api.PutRegistryScanningConfigurationInput) (*api.PutRegistryScanningConfigurationOutput, error) {
	if wire.Value(in.ScanType) == api.ScanTypeEnhanced {
		return nil, refused("Enhanced scanning is done by Amazon Inspector, which is not there. Use BASIC.")
	}
	var filters, manual []string
	rules, seen := false, map[string]bool{}
	for _, r := range in.Rules {
		frequency := wire.Value(r.ScanFrequency)
		if frequency == api.ScanFrequencyContinuousScan {
			return nil, refused("The scan frequency CONTINUOUS_SCAN is supported for ENHANCED scanning only")
		}
		if seen[frequency] {
			return nil, refused("There can be one rule of each scan frequency only")
		}
		seen[frequency] = true
		for _, f := range r.RepositoryFilters {
			if frequency == api.ScanFrequencyScanOnPush {
				filters = append(filters, wire.Value(f.Filter))
			} else {
				manual = append(manual, wire.Value(f.Filter))
			}
		}
		rules = rules || frequency == api.ScanFrequencyScanOnPush
	}
	var out *api.RegistryScanningConfiguration
	err := s.changeRegistry(ctx, sc, func(_ *store.Tx, row *registryRow) error {
		row.ScanFilters, row.ScanRules, row.Manual = filters, rules, manual
		out = row.scanning()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.PutRegistryScanningConfigurationOutput{RegistryScanningConfiguration: out}, nil
}

// scanning is the registry's configuration as the API shows it.
func (r *registryRow) scanning() *api.RegistryScanningConfiguration {
	out := &api.RegistryScanningConfiguration{ScanType: new(api.ScanTypeBasic), Rules: []api.RegistryScanningRule{}}
	if r.ScanRules {
		out.Rules = append(out.Rules, api.RegistryScanningRule{ScanFrequency: new(api.ScanFrequencyScanOnPush), RepositoryFilters: scanFilters(r.ScanFilters)})
	}
	if len(r.Manual) > 0 {
		out.Rules = append(out.Rules, api.RegistryScanningRule{ScanFrequency: new(api.ScanFrequencyManual), RepositoryFilters: scanFilters(r.Manual)})
	}
	return out
}

func scanFilters(filters []string) []api.ScanningRepositoryFilter {
	out := []api.ScanningRepositoryFilter{}
	for _, f := range filters {
		out = append(out, api.ScanningRepositoryFilter{Filter: &f, FilterType: new(api.ScanningRepositoryFilterTypeWildcard)})
	}
	return out
}

// GetRegistryScanningConfiguration returns the registry's configuration of scans.
func (s *Service) GetRegistryScanningConfiguration(ctx context.Context, sc auth.Scope, _ *api.GetRegistryScanningConfigurationInput) (*api.GetRegistryScanningConfigurationOutput, error) {
	row, err := s.viewRegistry(ctx, sc)
	if err != nil {
		return nil, err
	}
	return &api.GetRegistryScanningConfigurationOutput{RegistryId: &sc.Account, ScanningConfiguration: row.scanning()}, nil
}

// BatchGetRepositoryScanningConfiguration tells how repositories are scanned.
func (s *Service) BatchGetRepositoryScanningConfiguration(ctx context.Context, sc auth.Scope, in *api.BatchGetRepositoryScanningConfigurationInput) (*api.BatchGetRepositoryScanningConfigurationOutput, error) {
	out := &api.BatchGetRepositoryScanningConfigurationOutput{
		ScanningConfigurations: []api.RepositoryScanningConfiguration{}, Failures: []api.RepositoryScanningConfigurationFailure{},
	}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		reg, err := registryOf(tx, sc.Account, sc.Region)
		if err != nil {
			return err
		}
		for _, name := range in.RepositoryNames {
			row, err := s.Registry.Repository(tx, repoOf(sc, nil, &name))
			if registry.CodeOf(err) == registry.RepositoryNotFound {
				out.Failures = append(out.Failures, api.RepositoryScanningConfigurationFailure{
					RepositoryName: &name, FailureCode: new(api.ScanningConfigurationFailureCodeRepositoryNotFound), FailureReason: new("The repository does not exist"),
				})
				continue
			}
			if err != nil {
				return err
			}
			push, applied := reg.onPush(row)
			frequency := api.ScanFrequencyManual
			if push {
				frequency = api.ScanFrequencyScanOnPush
			}
			out.ScanningConfigurations = append(out.ScanningConfigurations, api.RepositoryScanningConfiguration{
				RepositoryArn: new(row.Repo.ARN()), RepositoryName: &name, ScanOnPush: &push, ScanFrequency: &frequency, AppliedScanFilters: scanFilters(applied),
			})
		}
		return nil
	})
}
