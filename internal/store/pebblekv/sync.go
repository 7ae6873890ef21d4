package pebblekv

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"skerry/internal/store/kv"
)

// settle returns when the log is on disk up to a version. The first that waits
// starts a sync, which is for all; see the package comment.
func (d *DB) settle(version uint64) error {
	g := &d.group
	g.Lock()
	defer g.Unlock()
	for g.durable < version && g.err == nil {
		if d.room.blocked.Load() > 0 {
			return fmt.Errorf("%w: the log waits for room", kv.ErrNoSpace)
		}
		if !g.running {
			g.running = true
			go d.lead()
		}
		g.done.Wait()
	}
	if g.durable >= version {
		return nil
	}
	return g.err
}

// lead syncs once.
func (d *DB) lead() {
	reached, err := d.sync()
	d.group.Lock()
	defer d.group.Unlock()
	d.group.running = false
	d.group.err = err
	d.group.durable = max(d.group.durable, reached)
	d.group.done.Broadcast()
}

// nudge has those who wait in settle look again.
func (d *DB) nudge() {
	d.group.Lock()
	defer d.group.Unlock()
	d.group.done.Broadcast()
}

// broken returns the error after which nothing can be written any more.
func (d *DB) broken() error {
	d.group.Lock()
	defer d.group.Unlock()
	return d.group.err
}

func (d *DB) fail(err error) {
	d.group.Lock()
	defer d.group.Unlock()
	d.group.err = err
	d.group.done.Broadcast()
}

// sync puts everything applied so far on disk, shows it to Views, and returns its
// version.
func (d *DB) sync() (uint64, error) {
	d.mu.Lock()
	version := d.mu.version
	snap := d.db.NewSnapshot()
	d.mu.Unlock()
	if !d.relaxed {
		if err := d.syncLog(); err != nil {
			snap.Close()
			return 0, translate(err)
		}
	}
	return version, d.publish(snap, version)
}

// syncLog appends an empty record to the log and waits for it to be synced, and
// with it everything before.
func (d *DB) syncLog() error {
	b := d.db.NewBatch()
	if err := b.LogData(nil, nil); err != nil {
		return err
	}
	if err := d.db.ApplyNoSyncWait(b, pebble.Sync); err != nil {
		return err
	}
	if err := b.SyncWait(); err != nil {
		return err
	}
	return b.Close()
}
