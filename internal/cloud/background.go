package cloud

import (
	"slices"

	"skerry/internal/blob"
	"skerry/internal/loop"
)

// background is the roster: every loop that works when nobody asks. Each says
// itself what it does and how often; who wakes it stands here.
func (p *parts) background(blobs blob.Store) []loop.Loop {
	return slices.Concat([]loop.Loop{
		p.outbox.Loop(),      // woken by every transaction that emits
		p.meter.FlushLoop(),  // by period
		p.meter.FoldLoop(),   // by period
		p.iam.FlushLoop(),    // by period: when keys, users and roles were last used
		p.sts.SweepLoop(),    // by period: sessions that ended
		p.logs.Sweep(),       // by period: retention, and what was deleted
		p.logs.Storage(),     // by period
		p.s3.GarbageLoop(),   // by period: the bytes of deleted objects
		p.s3.StorageLoop(),   // by period
		p.s3.LifecycleLoop(), // by period: the buckets' lifecycle rules
		p.ecr.Lifecycle(),    // by period, and woken by PutLifecyclePolicy
		p.ecr.Previews(),     // woken by StartLifecyclePolicyPreview
		p.ecr.Scans(),        // woken by pushes and StartImageScan
		p.ecr.Storage(),      // by period
		p.unpackLoop(),       // woken by pushes to the registry
		p.registryLoop(),     // by period: abandoned uploads, layers that no image names
		p.sweepLoop(blobs),   // by period: what crashes leave behind
	},
		p.images.Loops(), // woken by removals and at the start; and by period
		p.lambda.Loops(), // woken by invocations and by changes of functions
		p.daemon.Loops()) // woken by what happens to docker's containers
}
