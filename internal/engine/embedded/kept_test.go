//go:build linux && amd64

package embedded

import (
	"context"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"skerry/internal/engine"
)

// The root of a container that has written nothing serves the next one; what another
// has done to its own is seen by nobody, and no other account gets either.
func TestRootKept(t *testing.T) {
	d := open(t)
	withImages(t, d, map[string][]string{"i": {busybox(t), layer(t, tree{"gone": "here", "folder/file": "text"})}})
	seen := map[uint64]bool{} // the folders of what is written, by inode
	// once runs a script in a container of its own and says whether its root was an earlier one's
	once := func(script, account string) (out string, kept bool) {
		spec := inImage("i", script)
		spec.Account = account
		id, err := d.Create(context.Background(), spec)
		if err == nil {
			err = d.Start(context.Background(), id)
		}
		if err != nil {
			t.Fatal(err)
		}
		var st syscall.Stat_t
		if err := syscall.Stat(filepath.Join(d.cfg.Data, "containers", string(id)), &st); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Wait(context.Background(), id); err != nil {
			t.Fatal(err)
		}
		out, errs := output(t, d, id)
		if errs != "" {
			t.Errorf("%s: %s", script, errs)
		}
		if err := d.Remove(context.Background(), id); err != nil {
			t.Fatal(err)
		}
		kept, seen[st.Ino] = seen[st.Ino], true
		return out, kept
	}
	const looks = "ls / /folder; cat /gone /folder/file; stat -c '%a %u:%g' / /folder /gone"
	again := func(what string) (out string) {
		for deadline := time.Now().Add(20 * time.Second); ; {
			out, kept := once(looks, "a")
			if kept {
				return out
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: no root serves twice", what)
			}
		}
	}
	want := again("at first")
	if _, kept := once(looks, "b"); kept {
		t.Error("another account got it")
	}
	for _, change := range []string{"echo x > /new", "echo x > /new; rm /new", "rm /gone", "chmod 700 /", "chown 5:6 /", "chmod 700 /; chmod 755 /",
		"rm -r /folder", "echo x >> /folder/file", "chmod 600 /gone"} {
		once(change, "a")
		for range 3 {
			if out, _ := once(looks, "a"); out != want {
				t.Errorf("after %q in another container: %q, want %q", change, out, want)
			}
		}
	}
	again("in the end")
}

// One that main has a descriptor of does not serve another: main may still write.
func TestRootOpenedIsNotKept(t *testing.T) {
	d := open(t)
	withImages(t, d, map[string][]string{"i": {busybox(t)}})
	ctx := context.Background()
	folder := func(id engine.ID) uint64 {
		var st syscall.Stat_t
		if err := syscall.Stat(filepath.Join(d.cfg.Data, "containers", string(id)), &st); err != nil {
			t.Fatal(err)
		}
		return st.Ino
	}
	id := started(t, d, inImage("i", "true"))
	root, _, err := d.root(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(root.FD) // until then no other folder has the number
	opened := folder(id)
	if _, err := d.Wait(ctx, id); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(ctx, id); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		next := started(t, d, inImage("i", "true"))
		if folder(next) == opened {
			t.Fatal("it serves another")
		}
		if _, err := d.Wait(ctx, next); err != nil {
			t.Fatal(err)
		}
		if err := d.Remove(ctx, next); err != nil {
			t.Fatal(err)
		}
	}
}
