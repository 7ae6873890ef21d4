package enginetest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"skerry/internal/engine"
)

// A container's changes are listed, counted, and made an image of.
func (s *suite) layers() {
	s.able("layers", func(c engine.Capabilities) bool { return c.Layers && c.Images })
	image, err := Busybox("skerry.test/layers:v1")
	if err != nil {
		s.Skip(err)
	}
	image.Layers = append(image.Layers, []ImageFile{
		{Name: "data/"}, {Name: "data/gone", Content: []byte("1\n")}, {Name: "data/kept", Content: []byte("2\n")}, {Name: "data/old", Content: []byte("3\n")},
		{Name: "tree/"}, {Name: "tree/leaf", Content: []byte("4\n")}, {Name: "tree/deep/"}, {Name: "tree/deep/leaf", Content: []byte("5\n")},
	})
	_, err = s.e.Images().Load(s.ctx, bytes.NewReader(Archive(image)), func(engine.Progress) {})
	s.must(err)
	s.Cleanup(func() {
		_, err := s.e.Images().Remove(context.Background(), "skerry.test/layers:v1", true)
		s.must(err)
	})
	run := func(image, script string) (engine.ID, string) {
		s.Helper()
		spec := Spec(script)
		spec.Root = engine.Root{Image: image, Writable: true}
		spec.Env = []string{"PATH=/bin"}
		spec.Mounts = []engine.Mount{{Kind: engine.MountTmpfs, Target: "/tmp"}}
		id, err := s.e.Create(s.ctx, spec)
		s.must(err)
		s.Cleanup(func() { s.must(s.e.Remove(context.Background(), id)) })
		s.must(s.e.Start(s.ctx, id))
		exit, err := s.e.Wait(s.ctx, id)
		s.must(err)
		if exit.Code != 0 {
			s.Errorf("%+v: %s", exit, s.output(id, engine.Stderr))
		}
		return id, s.output(id, engine.Stdout)
	}
	list := func(id engine.ID) string {
		s.Helper()
		all, err := s.e.Changes(s.ctx, id)
		s.must(err)
		var b strings.Builder
		for _, c := range all {
			fmt.Fprintf(&b, "%c %s\n", "CAD"[c.Kind], c.Path)
		}
		return b.String()
	}
	id, _ := run("skerry.test/layers:v1", `true`)
	if got := list(id); got != "" {
		s.Errorf("nothing was written: %q", got)
	}
	id, _ = run("skerry.test/layers:v1", `rm /data/gone; echo changed > /data/old; mkdir /new; echo 0123456789 > /new/file; ln /new/file /new/again; ln -s file /new/link
		echo x > /tmp/volatile; rm -r /tree; mkdir /tree; echo 6 > /tree/own; chown 1000:2000 /new/file; chmod 4750 /new/file; echo /gone >> /data/gone; rm /data/gone`)
	want := "C /data\nD /data/gone\nC /data/old\nA /new\nA /new/again\nA /new/file\nA /new/link\nC /tree\nD /tree/deep\nD /tree/leaf\nA /tree/own\n"
	if got := list(id); got != want {
		s.Errorf("changes %q, want %q", got, want)
	}
	size, err := s.e.Written(s.ctx, id)
	s.must(err)
	if size != 11+8+2 {
		s.Errorf("%d bytes are written", size)
	}
	made, err := s.e.Commit(s.ctx, id, engine.CommitSpec{Name: "skerry.test/layers:v2", Author: "somebody", Comment: "by hand",
		Config: engine.ImageConfig{Command: []string{"sh"}, Env: []string{"A=b", "PATH=/bin"}, Labels: map[string]string{"made": "yes"}, Ports: []string{"80/tcp"}, Dir: "/new"}})
	s.must(err)
	s.Cleanup(func() {
		_, err := s.e.Images().Remove(context.Background(), "skerry.test/layers:v2", true)
		s.must(err)
	})
	got, err := s.e.Images().Get(s.ctx, "skerry.test/layers:v2")
	s.must(err)
	if got.ID != made.ID || !slices.Equal(got.Names, []string{"skerry.test/layers:v2"}) || got.Config.Author != "somebody" || got.Config.Labels["made"] != "yes" ||
		!slices.Equal(got.Config.Ports, []string{"80/tcp"}) || got.Config.Dir != "/new" || !slices.Contains(got.Config.Env, "A=b") {
		s.Errorf("%+v", got)
	}
	if len(got.Layers) != 3 || len(got.History) == 0 || got.History[len(got.History)-1].Comment != "by hand" {
		s.Errorf("layers %q, history %+v", got.Layers, got.History)
	}
	second, out := run("skerry.test/layers:v2", `cat /data/old /new/link; ls /data /tree; stat -c '%a %u %g %h' /new/file; ls /tmp; rm /new/link`)
	if want := "changed\n0123456789\n/data:\nkept\nold\n\n/tree:\nown\n4750 1000 2000 2\n"; out != want {
		s.Errorf("the image has %q, want %q", out, want)
	}
	if got := list(second); got != "C /new\nD /new/link\n" {
		s.Errorf("changes of a container of the image: %q", got)
	}
	_, err = s.e.Changes(s.ctx, "nobody")
	s.is(err, engine.ErrNotFound)
	_, err = s.e.Commit(s.ctx, "nobody", engine.CommitSpec{})
	s.is(err, engine.ErrNotFound)
}
