package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"skerry/internal/store"
)

// Notice says that an image was pushed or has gone, to somebody outside of the
// store.
type Notice struct {
	Repo   Repo
	Digest string
	Gone   bool
	Tries  int
	After  time.Time // it is told no sooner
}

var notices = store.NewTable("registry/notices", func(n *Notice) store.Key { return n.Repo.Key() + store.K(n.Digest) }, noticesByTime)

var noticesByTime = store.NewIndex("after", func(n *Notice) []store.Key { return []store.Key{store.K(n.After)} })

const (
	noticePage  = 20 // of one run
	noticeTries = 8
	noticePause = 5 * time.Second // before the second try; doubled by each
)

// notify has Tell tell of an image, whose transaction this is. The last word on an
// image is what counts.
func (r *Registry) notify(tx *store.Tx, m *Manifest, gone bool) error {
	if r.hooks.Told == nil {
		return nil
	}
	if r.hooks.Wake != nil {
		tx.OnCommit(r.hooks.Wake)
	}
	return notices.Put(tx, &Notice{Repo: m.Repo, Digest: m.Digest, Gone: gone, After: r.now()})
}

// Tell tells Hooks.Told of the images that it was not told of yet: of each at least
// once, and again a few times when it fails. A loop runs it.
func (r *Registry) Tell(ctx context.Context) (report string, err error) {
	told, failed := 0, 0
	for {
		var due []*Notice
		if err := r.Store.View(ctx, func(tx *store.Tx) error {
			due = nil
			for n, err := range noticesByTime.Scan(tx, store.Range{To: store.K(r.now().Add(1))}) {
				if err != nil {
					return err
				}
				if due = append(due, n); len(due) == noticePage {
					return nil
				}
			}
			return nil
		}); err != nil {
			return "", err
		}
		for _, n := range due {
			fault := r.hooks.Told(ctx, *n)
			if ctx.Err() != nil {
				return "", ctx.Err()
			}
			if err := r.settle(ctx, n, fault); err != nil {
				return "", err
			}
			if fault == nil {
				told++
			} else {
				failed++
			}
		}
		if len(due) < noticePage {
			return fmt.Sprintf("%d told, %d failed", told, failed), nil
		}
	}
}

// settle takes a notice away, or puts it off. One that was written anew meanwhile
// stays.
func (r *Registry) settle(ctx context.Context, n *Notice, fault error) error {
	return r.Store.Update(ctx, func(tx *store.Tx) error {
		key := n.Repo.Key() + store.K(n.Digest)
		now, err := notices.Get(tx, key)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil || !now.After.Equal(n.After) || now.Gone != n.Gone {
			return err
		}
		if fault == nil {
			return notices.Delete(tx, key)
		}
		if now.Tries++; now.Tries == noticeTries {
			r.Log.Warn("registry: nobody would hear of an image", "repository", n.Repo.Name, "digest", n.Digest, "error", fault)
			return notices.Delete(tx, key)
		}
		now.After = r.now().Add(noticePause << (now.Tries - 1))
		return notices.Put(tx, now)
	})
}
