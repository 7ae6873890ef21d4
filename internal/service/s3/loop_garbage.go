package s3

import (
	"context"
	"fmt"
	"sync"
	"time"

	"skerry/internal/blob"
	"skerry/internal/loop"
	"skerry/internal/store"
)

const garbagePage = 200 // rows of one transaction

// GarbageLoop returns the loop that deletes the bytes that nothing refers to.
func (s *Service) GarbageLoop() loop.Loop {
	return loop.Loop{
		Name: "s3/garbage", Does: "deletes the bytes of deleted and overwritten objects",
		Period: time.Minute, Deadline: 10 * time.Minute, Run: s.runGarbage,
	}
}

func (s *Service) runGarbage(ctx context.Context) (string, error) {
	n := 0
	for {
		rows, err := s.dueGarbage(ctx)
		if err != nil {
			return "", err
		}
		for _, g := range rows {
			if err := s.collect(ctx, g); err != nil {
				return fmt.Sprintf("%d deleted", n), err
			}
			n++
		}
		if len(rows) < garbagePage {
			return fmt.Sprintf("%d deleted", n), nil
		}
	}
}

func (s *Service) dueGarbage(ctx context.Context) (rows []*garbageRow, err error) {
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		rows = nil
		for g, err := range garbage.Scan(tx, store.Range{To: store.K(s.now())}) {
			if err != nil {
				return err
			}
			if rows = append(rows, g); len(rows) == garbagePage {
				return nil
			}
		}
		return nil
	})
	return rows, err
}

// collect deletes one piece of garbage: files first, then rows, so that a crash in
// between leaves rows that say what is still to do.
func (s *Service) collect(ctx context.Context, g *garbageRow) error {
	if g.Content != "" && s.reading.has(g.Content) {
		return s.Store.Update(ctx, func(tx *store.Tx) error { return s.postpone(tx, g) })
	}
	if g.Blob != "" {
		if err := s.Blobs.Delete(ctx, g.Blob); err != nil {
			return fmt.Errorf("s3: delete blob: %w", err)
		}
	}
	if g.Content != "" {
		if err := s.collectContent(ctx, g.Content); err != nil {
			return fmt.Errorf("s3: delete content %s: %w", g.Content, err)
		}
	}
	return s.Store.Update(ctx, func(tx *store.Tx) error { return garbage.Delete(tx, store.K(g.After, g.ID)) })
}

// postpone leaves a piece of garbage to a later run.
func (s *Service) postpone(tx *store.Tx, g *garbageRow) error {
	if err := garbage.Delete(tx, store.K(g.After, g.ID)); err != nil {
		return err
	}
	return s.drop(tx, *g)
}

func (s *Service) collectContent(ctx context.Context, id string) error {
	for {
		var page []*contentRow
		err := s.Store.View(ctx, func(tx *store.Tx) error {
			page = nil
			for row, err := range contents.Scan(tx, store.Range{Prefix: store.K(id)}) {
				if err != nil {
					return err
				}
				if page = append(page, row); len(page) == garbagePage {
					return nil
				}
			}
			return nil
		})
		if err != nil || len(page) == 0 {
			return err
		}
		for _, row := range page {
			if row.Blob == "" {
				continue
			}
			if err := s.Blobs.Delete(ctx, row.Blob); err != nil {
				return err
			}
		}
		err = s.Store.Update(ctx, func(tx *store.Tx) error {
			for _, row := range page {
				if err := contents.Delete(tx, store.K(row.ID, row.Part)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}

// Referenced tells which of some blobs are in use here, for the sweep of those that
// a crash has left behind.
func (s *Service) Referenced(ctx context.Context, refs []blob.Ref) (map[blob.Ref]bool, error) {
	used := map[blob.Ref]bool{}
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		for _, r := range refs {
			for _, err := range byBlob.ScanKeys(tx, store.Range{Prefix: store.K(r)}) {
				if err != nil {
					return err
				}
				used[r] = true
			}
		}
		return nil
	})
	return used, err
}

// reading counts who reads contents of several parts. Their files are opened one
// after the other, and stay until the last one was.
type reading struct {
	mu sync.Mutex
	of map[string]int // by content
}

func (r *reading) begin(content string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of = map[string]int{}
	}
	r.of[content]++
}

func (r *reading) end(content string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of[content]--; r.of[content] == 0 {
		delete(r.of, content)
	}
}

// has tells whether somebody reads a content.
func (r *reading) has(content string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.of[content] > 0
}
