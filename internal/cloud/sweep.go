package cloud

import (
	"context"
	"fmt"
	"time"

	"skerry/internal/base/clock"
	"skerry/internal/blob"
	"skerry/internal/loop"
)

// orphanAge is how long ago a blob must have been written to be taken for one that
// a crash has left behind: longer than any request takes from the blob to its row.
const orphanAge = 24 * time.Hour

// sweepLoop returns the loop that deletes the blobs that no service knows. Every
// service that keeps blobs is asked.
func (p *parts) sweepLoop(blobs blob.Store) loop.Loop {
	return loop.Loop{
		Name: "blobs/sweep", Does: "deletes the blobs that a crash has left without a row",
		Period: 6 * time.Hour, Deadline: time.Hour,
		Run: func(ctx context.Context) (string, error) {
			n, bytes, err := blob.Sweep(ctx, blobs, clock.Real.Now().Add(-orphanAge), p.referenced)
			return fmt.Sprintf("%d blobs of %d bytes", n, bytes), err
		},
	}
}

// referenced tells which of some blobs are in use.
func (p *parts) referenced(ctx context.Context, refs []blob.Ref) (map[blob.Ref]bool, error) {
	used := map[blob.Ref]bool{}
	for _, ask := range []func(context.Context, []blob.Ref) (map[blob.Ref]bool, error){
		p.s3.Referenced, p.lambda.Referenced, p.registry.Referenced, p.images.Referenced,
	} {
		got, err := ask(ctx, refs)
		if err != nil {
			return nil, err
		}
		for r, ok := range got {
			used[r] = used[r] || ok
		}
	}
	return used, nil
}
