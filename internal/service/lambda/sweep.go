package lambda

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"skerry/internal/blob"
	"skerry/internal/store"
)

// sweepAfter is how long code is kept that nothing refers to: longer than any
// request takes from storing it to referring to it.
const sweepAfter = time.Hour

// runSweep removes the code of functions and layers that are gone, packed and
// unpacked.
func (s *Service) runSweep(ctx context.Context) (string, error) {
	before := s.Clock.Now().Add(-sweepAfter)
	var due []blob.Ref
	wanted := map[string]bool{} // folders
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		due = nil
		for b, err := range blobs.Scan(tx, store.Range{}) {
			if err != nil {
				return err
			}
			if used, err := inUse(tx, b.Ref); err != nil {
				return err
			} else if !used && b.Kept.Before(before) {
				due = append(due, b.Ref)
			}
		}
		for v, err := range versions.Scan(tx, store.Range{}) {
			if err != nil {
				return err
			}
			wanted[folderOf([]blob.Ref{v.Code.Ref})] = true
			var refs []blob.Ref
			for _, l := range v.Config.Layers {
				refs = append(refs, l.Ref)
			}
			wanted[folderOf(refs)] = true
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	var faults []error
	for _, key := range due {
		faults = append(faults, s.sweepBlob(ctx, key, before))
	}
	n := s.sweepFolders(wanted, before)
	return fmt.Sprintf("%d zip files and %d folders removed", len(due), n), errors.Join(faults...)
}

func inUse(tx *store.Tx, key blob.Ref) (bool, error) {
	for _, err := range byCode.ScanKeys(tx, store.Range{Prefix: store.K(string(key))}) {
		return err == nil, err
	}
	for _, err := range layersByCode.ScanKeys(tx, store.Range{Prefix: store.K(string(key))}) {
		return err == nil, err
	}
	return false, nil
}

// sweepBlob removes a blob unless it has come to use meanwhile.
func (s *Service) sweepBlob(ctx context.Context, key blob.Ref, before time.Time) error {
	gone := false
	err := s.Store.Update(ctx, func(tx *store.Tx) error {
		gone = false
		b, err := blobs.Get(tx, store.K(string(key)))
		if err != nil || !b.Kept.Before(before) {
			return nil
		}
		if used, err := inUse(tx, key); err != nil || used {
			return err
		}
		gone = true
		return blobs.Delete(tx, store.K(string(key)))
	})
	if err != nil || !gone {
		return err
	}
	_, err = s.Blobs.DeleteOlder(ctx, key, before)
	return err
}

// sweepFolders removes unpacked code that no function and no sandbox uses.
func (s *Service) sweepFolders(wanted map[string]bool, before time.Time) (n int) {
	s.fleet.mu.Lock()
	for _, sb := range s.fleet.all {
		for _, refs := range sb.attached {
			wanted[folderOf(refs)] = true
		}
	}
	s.fleet.mu.Unlock()
	all, err := os.ReadDir(filepath.Join(s.Dir, "code"))
	if err != nil {
		return 0 // there is none yet
	}
	for _, e := range all {
		info, err := e.Info()
		if err != nil || wanted[e.Name()] || !info.ModTime().Before(before) {
			continue
		}
		if os.RemoveAll(filepath.Join(s.Dir, "code", e.Name())) == nil {
			n++
		}
	}
	return n
}

// Referenced tells which of some blobs are this service's: they are removed by its
// own sweep and by nobody else.
func (s *Service) Referenced(ctx context.Context, refs []blob.Ref) (map[blob.Ref]bool, error) {
	ours := map[blob.Ref]bool{}
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		for _, r := range refs {
			known, err := blobs.Has(tx, store.K(string(r)))
			if err == nil && !known {
				known, err = inUse(tx, r)
			}
			if err != nil {
				return err
			}
			ours[r] = known
		}
		return nil
	})
	return ours, err
}
