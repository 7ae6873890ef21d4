package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// disk is the machine's, and full when a test says so.
type disk struct {
	vfs.FS
	full  atomic.Bool
	tight bool // it has no room for a deletion either
}

func (d *disk) GetDiskUsage(dir string) (vfs.DiskUsage, error) {
	if d.full.Load() {
		return vfs.DiskUsage{TotalBytes: 1 << 30, UsedBytes: 1 << 30}, nil
	}
	return d.FS.GetDiskUsage(dir)
}

func (d *disk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if d.tight && filepath.Base(name) == "BALLAST" {
		return nil, errors.New("no ballast")
	}
	return d.FS.Create(name, c)
}

// fill fills the disk, and returns when the store knows.
func (w *world) fill() {
	w.t.Helper()
	w.disk.full.Store(true)
	w.until("nothing can be made", func() bool {
		code, text := w.ask("POST", "/volumes/create", object{})
		return code == 500 && strings.Contains(text, "no space left on device")
	})
}

// execCode is the exit code of a program of exec, or -1.
func (w *world) execCode(id string) int {
	w.t.Helper()
	var s struct {
		Running  bool
		ExitCode *int
	}
	w.must("GET", "/exec/"+id+"/json", nil, &s)
	if s.Running || s.ExitCode == nil {
		return -1
	}
	return *s.ExitCode
}

// free makes room, and returns when all is written.
func (w *world) free() {
	w.t.Helper()
	w.disk.full.Store(false)
	w.until("the rows are written", func() bool {
		w.loops.Wake(containerLoop)
		return len(w.daemon.late.ids()) == 0
	})
}

// On a full disk clients learn of exits, and everything can be stopped and removed.
func TestFullDisk(t *testing.T) {
	w := newWorld(t)
	ends := w.create("ends", nil, nil)
	again := w.create("again", nil, object{"RestartPolicy": object{"Name": "always"}})
	gone := w.create("gone", nil, object{"AutoRemove": true, "Binds": []string{"/inside"}})
	bulky := w.create("bulky", nil, object{"Binds": []string{"bulk:/bulk"}})
	for _, id := range []string{ends, again, gone, bulky} {
		w.start(id)
	}
	var x struct{ ID string }
	busy := w.create("busy", nil, nil)
	w.start(busy)
	w.must("POST", "/containers/busy/exec", object{"Cmd": []string{"cat"}, "AttachStdin": true}, &x)
	conn, _ := w.hijack("/exec/"+x.ID+"/start", "{}")
	w.fill()
	conn.Close() // the end of its input
	w.until("the exec's code", func() bool { return w.execCode(x.ID) == 5 })
	w.must("POST", "/containers/ends/kill?signal=USR1", nil)
	if code := w.wait(ends, "not-running"); code != 138 {
		t.Errorf("code %d", code)
	}
	w.must("POST", "/containers/again/pause", nil)
	if s := w.inspect(again); s.State.Status != "paused" {
		t.Errorf("%+v", s.State)
	}
	w.must("POST", "/containers/again/unpause", nil)
	w.must("POST", "/containers/again/stop", nil)
	if s := w.inspect(again); s.State.Status != "exited" || s.State.ExitCode != 143 {
		t.Errorf("%+v", s.State)
	}
	var list []struct{ ID, State string }
	w.must("GET", "/containers/json", nil, &list)
	if len(list) != 3 {
		t.Errorf("%+v", list)
	}
	w.must("POST", "/containers/gone/kill", nil)
	w.until("--rm", func() bool { code, _ := w.ask("GET", "/containers/gone/json", nil); return code == 404 })
	w.must("DELETE", "/containers/bulky?force=1", nil)
	w.must("DELETE", "/volumes/bulk", nil)
	w.must("POST", "/containers/prune", nil, &struct{}{})
	w.fails(404, "No such container", "GET", "/containers/ends/json", nil)
	w.free()
	w.loops.Wake(execLoop)
	w.until("the exec is written", func() bool { return len(w.daemon.terms.late()) == 0 })
	w.down()
	w.up()
	if code := w.execCode(x.ID); code != 5 {
		t.Errorf("code %d", code)
	}
}

// An exit that could not be noted is written when there is room, and found again
// when the server was killed before.
func TestFullDiskEnds(t *testing.T) {
	for _, killed := range []bool{false, true} {
		w := newWorld(t)
		id := w.create("one", nil, nil)
		w.start(id)
		w.fill()
		w.must("POST", "/containers/one/kill", nil)
		if killed {
			w.down()
			w.disk.full.Store(false) // a store is not opened on a full disk
			w.up()
			w.until("the exit is known", func() bool { return w.inspect(id).State.Status == "exited" })
		} else {
			w.free()
		}
		w.down()
		w.up()
		if s := w.inspect(id); s.State.Status != "exited" || s.State.ExitCode != 137 {
			t.Errorf("killed %v: %+v", killed, s.State)
		}
		w.must("POST", "/containers/one/rename?name=two", nil)
		w.start("two")
	}
}

// Where not even a row can be deleted, what fills the disk goes first.
func TestTightDisk(t *testing.T) {
	w := newWorld(t)
	w.down()
	w.disk.tight = true
	if err := os.RemoveAll(filepath.Join(w.dir, "store")); err != nil { // and the ballast
		t.Fatal(err)
	}
	w.up()
	id := w.create("bulky", nil, object{"Binds": []string{"bulk:/bulk"}})
	w.must("POST", "/volumes/create", object{"Name": "more"})
	w.start(id)
	w.fill()
	w.must("POST", "/containers/bulky/kill", nil)
	if s := w.inspect(id); s.State.Status != "exited" {
		t.Errorf("%+v", s.State)
	}
	w.fails(409, "volume is in use", "DELETE", "/volumes/bulk", nil)
	w.fails(500, "no space left on device", "DELETE", "/volumes/more", nil)
	if _, err := os.Stat(w.daemon.folder("more")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its files: %v", err)
	}
	if _, err := os.Stat(w.daemon.folder("bulk")); err != nil {
		t.Error(err)
	}
	w.fails(500, "no space left on device", "DELETE", "/containers/bulky?force=1", nil)
	w.fails(500, "no space left on device", "DELETE", "/volumes/bulk", nil)
	if _, err := os.Stat(w.daemon.folder("bulk")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its files: %v", err)
	}
	w.free()
	w.until("the removal went on", func() bool { code, _ := w.ask("GET", "/containers/bulky/json", nil); return code == 404 })
	w.must("DELETE", "/volumes/more", nil)
	w.must("DELETE", "/volumes/bulk", nil)
}
