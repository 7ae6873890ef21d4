package pebblekv

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"skerry/internal/store/kv"
)

// settle returns when the log is on disk up to a version. The first that waits
// starts a sync, which is for all; see the package comment.
func (d *DB) settle(version uint64) error {
	for d.group.durable.Load() < version {
		ended, err := d.join(version)
		if err != nil {
			return err
		}
		if ended != nil {
			<-ended
		}
	}
	return nil
}

// join starts a sync unless one runs, and returns a channel that is closed when it
// ends; none if the version has become durable meanwhile.
func (d *DB) join(version uint64) (ended <-chan struct{}, err error) {
	g := &d.group
	g.Lock()
	defer g.Unlock()
	switch {
	case g.durable.Load() >= version:
		return nil, nil
	case g.err != nil:
		return nil, g.err
	case d.room.blocked.Load() > 0:
		return nil, fmt.Errorf("%w: the log waits for room", kv.ErrNoSpace)
	case !g.running:
		g.running = true
		go d.lead()
	}
	return g.ended, nil
}

// lead syncs once.
func (d *DB) lead() {
	reached, err := d.sync()
	d.group.Lock()
	defer d.group.Unlock()
	d.group.running = false
	if err != nil {
		d.group.err = err
	} else {
		d.group.durable.Store(max(d.group.durable.Load(), reached))
	}
	d.wake()
}

// wake has those who wait in settle look again; d.group is locked.
func (d *DB) wake() {
	close(d.group.ended)
	d.group.ended = make(chan struct{})
}

// nudge is wake for those who do not hold the lock.
func (d *DB) nudge() {
	d.group.Lock()
	defer d.group.Unlock()
	d.wake()
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
	d.wake()
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
