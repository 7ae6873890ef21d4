package pebblekv

import (
	"github.com/cockroachdb/pebble/v2"
)

// settle returns when the log is on disk up to a version. One of those who wait
// syncs for all; see the package comment.
func (d *DB) settle(version uint64) error {
	g := &d.group
	g.Lock()
	defer g.Unlock()
	for g.durable < version && g.err == nil {
		if g.running {
			g.done.Wait()
			continue
		}
		g.running = true
		g.Unlock()
		reached, err := d.sync()
		g.Lock()
		g.running = false
		g.err = err
		g.durable = max(g.durable, reached)
		g.done.Broadcast()
	}
	if g.durable >= version {
		return nil
	}
	return g.err
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
