package ecr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	api "skerry/internal/api/ecr"
	"skerry/internal/loop"
	"skerry/internal/registry"
	"skerry/internal/service/ecr/scan"
	"skerry/internal/store"
)

const (
	scanLoop    = "ecr/scan"
	scanTime    = 15 * time.Minute // for one image
	layersTime  = time.Hour        // for layers to come, of an image that is pulled through
	maxFindings = 10_000           // kept of one scan; the counts are of all
)

// Scans is the loop that scans images, one after the other.
func (s *Service) Scans() loop.Loop {
	return loop.Loop{Name: scanLoop, Does: "lists the packages in images and looks them up", Period: time.Minute, Deadline: time.Hour, Run: s.scanImages}
}

// scanImages scans the images that wait.
func (s *Service) scanImages(ctx context.Context) (string, error) {
	n := 0
	for {
		var row *scanRow
		err := s.Store.View(ctx, func(tx *store.Tx) error {
			row = nil
			for r, err := range scansWaiting.Scan(tx, store.Range{To: store.K(s.Clock.Now().Add(time.Millisecond))}) {
				row = r
				return err
			}
			return nil
		})
		if err != nil || row == nil {
			return fmt.Sprintf("%d images", n), err
		}
		if err := s.scanImage(ctx, row); err != nil {
			return "", fmt.Errorf("ecr: scan %s of %s: %w", row.Digest, row.Repo.ARN(), err)
		}
		n++
	}
}

// scanImage scans an image and stores what was found. An image that cannot be
// read makes a scan that failed, not an error.
func (s *Service) scanImage(ctx context.Context, row *scanRow) error {
	done, found := *row, &findingsRow{Repo: row.Repo, Digest: row.Digest}
	limited, cancel := context.WithTimeout(ctx, scanTime)
	defer cancel()
	err := s.look(limited, &done, found)
	done.Ended = s.Clock.Now()
	switch {
	case ctx.Err() != nil:
		return ctx.Err() // the server stops: the next start scans it
	case registry.CodeOf(err) == registry.LayerNotFound && done.Ended.Sub(row.Requested) < layersTime:
		done = *row // its layers are being pulled through
		done.Due = s.Clock.Now().Add(time.Minute)
	case errors.Is(err, scan.ErrTooLarge):
		done.Status, done.Description = api.ScanStatusLimitExceeded, err.Error()
	case err != nil:
		done.Status, done.Description = api.ScanStatusFailed, "The image could not be read."
		s.Log.Warn("ecr: scan", "repository", row.Repo.ARN(), "image", row.Digest, "error", err)
	}
	return s.Store.Update(ctx, func(tx *store.Tx) error {
		now, err := scans.Get(tx, row.Repo.Key()+store.K(row.Digest))
		if errors.Is(err, store.ErrNotFound) {
			return nil // deleted with its image
		}
		if err != nil || !now.Requested.Equal(row.Requested) {
			return err
		}
		if len(found.Findings) > 0 {
			if err := findings.Put(tx, found); err != nil {
				return err
			}
		}
		return scans.Put(tx, &done)
	})
}

// look reads the layers and fills in what was found.
func (s *Service) look(ctx context.Context, row *scanRow, found *findingsRow) error {
	var layers []scan.Layer
	var foreign []string
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		layers, foreign = nil, nil
		m, err := s.Registry.Manifest(tx, row.Repo, row.Digest, "")
		if err != nil {
			return err
		}
		for _, d := range m.Layers {
			b, err := s.Registry.Blob(tx, row.Repo, d.Digest)
			if registry.CodeOf(err) == registry.LayerNotFound && len(d.URLs) > 0 {
				foreign = append(foreign, "layer "+d.Digest+": is kept elsewhere")
				continue
			}
			if err != nil {
				return err
			}
			layers = append(layers, scan.Layer{Digest: d.Digest, Open: func(ctx context.Context) (io.ReadCloser, error) {
				return s.Registry.OpenBlob(ctx, b)
			}})
		}
		return nil
	})
	if err != nil {
		return err
	}
	inv, err := scan.Image(ctx, layers, s.limits)
	if err != nil {
		return err
	}
	inv.Unread = append(inv.Unread, foreign...)
	if inv.System == "" && len(inv.Packages) == 0 {
		row.Status, row.Description = api.ScanStatusUnsupportedImage, "UnsupportedImageError: no operating system and no packages were found in the image's layers."
		return nil
	}
	row.Description = fmt.Sprintf("The scan found %d packages.", len(inv.Packages))
	if n := len(inv.Unread); n > 0 {
		row.Description += fmt.Sprintf(" %d files could not be read: %s.", n, inv.Unread[0])
	}
	row.Counts = map[string]int32{}
	if s.Feed == "" {
		row.Status = api.ScanStatusFindingsUnavailable
		row.Description += " They were not looked up, as no feed of vulnerabilities is given: the findings list the packages."
		for _, p := range inv.Packages {
			found.add(row, finding{Name: p.Ecosystem + "/" + p.Name, Severity: api.FindingSeverityInformational, Package: p.Name, Version: p.Version, Path: p.Path})
		}
		return nil
	}
	known, newest, err := scan.Feed{Dir: s.Feed}.Match(ctx, inv)
	if err != nil {
		return err
	}
	row.Status, row.Updated = api.ScanStatusComplete, newest
	for _, f := range known {
		found.add(row, finding{Name: f.ID, Description: f.Description, URI: f.URL, Severity: f.Severity,
			Package: f.Package.Name, Version: f.Package.Version, Fixed: f.Fixed, Path: f.Package.Path, Vector: f.Vector, Score: f.Score})
	}
	return nil
}

// add keeps a finding, if there is room, and counts it.
func (r *findingsRow) add(scan *scanRow, f finding) {
	if scan.Counts[f.Severity]++; len(r.Findings) < maxFindings {
		r.Findings = append(r.Findings, f)
	}
}

// pushed has a pushed image scanned and copied, as the registry says
// (registry.Hooks).
func (s *Service) pushed(tx *store.Tx, p registry.Push) error {
	m := p.Manifest
	row, err := registryOf(tx, m.Repo.Account, m.Repo.Region)
	if err != nil {
		return err
	}
	if p.New && scannable(m) {
		repo, err := s.Registry.Repository(tx, m.Repo)
		if err != nil {
			return err
		}
		if yes, _ := row.onPush(repo); yes {
			if err := s.request(tx, m, false); err != nil {
				return err
			}
		}
	}
	return s.replicate(tx, row, p)
}
