package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"skerry/internal/store"
)

// notice is a push that somebody outside of the store is still to be told of.
type notice struct {
	Repo   Repo
	Digest string
	Tags   []string
	Tries  int
	After  time.Time // no sooner
}

var notices = store.NewTable("registry/notices", func(n *notice) store.Key { return n.Repo.Key() + store.K(n.Digest) }, noticesByTime)

var noticesByTime = store.NewIndex("after", func(n *notice) []store.Key { return []store.Key{store.K(n.After)} })

const (
	noticePage  = 20 // of one run
	noticeTries = 8
	noticePause = 5 * time.Second // before the second try; doubled by each
)

// pushed does what follows a push, in its transaction.
func (r *Registry) pushed(tx *store.Tx, p Push) error {
	if r.hooks.Told != nil {
		m := p.Manifest
		if err := notices.Put(tx, &notice{Repo: m.Repo, Digest: m.Digest, Tags: p.Tags, After: r.now()}); err != nil {
			return err
		}
		if r.hooks.Wake != nil {
			tx.OnCommit(r.hooks.Wake)
		}
	}
	if r.hooks.Pushed == nil {
		return nil
	}
	return r.hooks.Pushed(tx, p)
}

// Tell tells Hooks.Told of the pushes that it was not told of yet: each at least
// once, and again a few times when it fails. A loop runs it.
func (r *Registry) Tell(ctx context.Context) (report string, err error) {
	told, failed := 0, 0
	for {
		var due []*notice
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
			fault := r.hooks.Told(ctx, n.Repo, n.Digest, n.Tags)
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
func (r *Registry) settle(ctx context.Context, n *notice, fault error) error {
	return r.Store.Update(ctx, func(tx *store.Tx) error {
		key := n.Repo.Key() + store.K(n.Digest)
		now, err := notices.Get(tx, key)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil || !now.After.Equal(n.After) {
			return err
		}
		if fault == nil {
			return notices.Delete(tx, key)
		}
		if now.Tries++; now.Tries == noticeTries {
			r.Log.Warn("registry: a push could not be told", "repository", n.Repo.Name, "digest", n.Digest, "error", fault)
			return notices.Delete(tx, key)
		}
		now.After = r.now().Add(noticePause << (now.Tries - 1))
		return notices.Put(tx, now)
	})
}
