package registry

import (
	"context"
	"fmt"
	"iter"
	"time"

	"skerry/internal/blob"
	"skerry/internal/store"
)

const (
	// uploadLife is how long an upload waits for its next part.
	uploadLife = 24 * time.Hour
	// looseLife is how long a layer waits for an image that names it; looseGrain
	// is how exactly the time is kept at which it was asked for.
	looseLife  = 24 * time.Hour
	looseGrain = time.Hour
	// orphanLife is how long the manifests about a deleted one stay. Page: "Images
	// signed or with other reference artifacts".
	orphanLife = 24 * time.Hour

	collectPage = 200 // rows of one transaction
)

// Collect forgets what nobody wants any more: uploads that were abandoned, layers
// that no image names, and what was about a deleted image. A loop runs it.
func (r *Registry) Collect(ctx context.Context) (report string, err error) {
	n, err := r.collectUploads(ctx)
	if err != nil {
		return "", fmt.Errorf("registry: collect uploads: %w", err)
	}
	layers, err := r.collectBlobs(ctx)
	if err != nil {
		return "", fmt.Errorf("registry: collect layers: %w", err)
	}
	orphans, err := r.collectOrphans(ctx)
	if err != nil {
		return "", fmt.Errorf("registry: collect referrers: %w", err)
	}
	return fmt.Sprintf("%d uploads, %d layers, %d referrers", n, layers, orphans), nil
}

func (r *Registry) collectUploads(ctx context.Context) (n int, err error) {
	for {
		found := 0
		err := r.Store.Update(ctx, func(tx *store.Tx) error {
			found = 0
			for u, err := range uploadsByTime.Scan(tx, store.Range{To: store.K(r.now().Add(-uploadLife))}) {
				if err != nil {
					return err
				}
				if err := dropUpload(tx, u); err != nil {
					return err
				}
				if found++; found == collectPage {
					break
				}
			}
			return nil
		})
		if n += found; err != nil || found < collectPage {
			return n, err
		}
	}
}

// collectBlobs goes through the old layers page by page; those that are named stay
// as they are.
func (r *Registry) collectBlobs(ctx context.Context) (n int, err error) {
	span := store.Range{To: store.K(r.now().Add(-looseLife))}
	for {
		var seen, gone int
		var last store.Key
		err := r.Store.Update(ctx, func(tx *store.Tx) error {
			seen, gone = 0, 0
			for b, err := range blobsByTime.Scan(tx, span) {
				if err != nil {
					return err
				}
				seen, last = seen+1, store.K(b.Touched)+b.Repo.Key()+store.K(b.Digest)
				used, err := named(tx, b.Repo, b.Digest)
				if err != nil {
					return err
				}
				if !used {
					gone++
					if err := blobs.Delete(tx, b.Repo.Key()+store.K(b.Digest)); err != nil {
						return err
					}
				}
				if seen == collectPage {
					break
				}
			}
			return nil
		})
		if n += gone; err != nil || seen < collectPage {
			return n, err
		}
		span.After = last
	}
}

func (r *Registry) collectOrphans(ctx context.Context) (n int, err error) {
	span := store.Range{To: store.K(r.now().Add(-orphanLife))}
	for {
		var seen, gone int
		var last store.Key
		err := r.Store.Update(ctx, func(tx *store.Tx) error {
			seen, gone = 0, 0
			for m, err := range manifestsOrphaned.Scan(tx, span) {
				if err != nil {
					return err
				}
				seen, last = seen+1, store.K(m.Orphaned)+m.Repo.Key()+store.K(m.Digest)
				names, err := r.TagsOf(tx, m.Repo, m.Digest)
				if err != nil {
					return err
				}
				if len(names) == 0 {
					_, err := r.DeleteManifest(tx, m.Repo, m.Digest)
					if err != nil && CodeOf(err) != ImageReferenced {
						return err
					}
					gone++
				}
				if seen == collectPage {
					break
				}
			}
			return nil
		})
		if n += gone; err != nil || seen < collectPage {
			return n, err
		}
		span.After = last
	}
}

// Referenced tells which of some blobs are in use here, for the sweep of those
// that no row names.
func (r *Registry) Referenced(ctx context.Context, refs []blob.Ref) (map[blob.Ref]bool, error) {
	used := map[blob.Ref]bool{}
	scans := []func(*store.Tx, store.Range) iter.Seq2[store.Key, error]{blobsByRef.ScanKeys, manifestsByRef.ScanKeys, partsByRef.ScanKeys}
	err := r.Store.View(ctx, func(tx *store.Tx) error {
		for _, ref := range refs {
			for _, scan := range scans {
				for _, err := range scan(tx, store.Range{Prefix: store.K(string(ref))}) {
					if err != nil {
						return err
					}
					used[ref] = true
					break
				}
			}
		}
		return nil
	})
	return used, err
}
