package cloud

import "skerry/internal/loop"

// background is the roster: every loop that works when nobody asks. Each says
// itself what it does and how often; who wakes it stands here.
func (p *parts) background() []loop.Loop {
	return []loop.Loop{
		p.outbox.Loop(), // woken by every transaction that emits
		p.meter.FlushLoop(),
		p.meter.FoldLoop(),
		p.logs.Sweep(),   // by period: retention, and what was deleted
		p.logs.Storage(), // by period
	}
}
