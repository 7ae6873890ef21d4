package daemon

import (
	"slices"
	"strings"
	"testing"

	"skerry/internal/engine"
)

func TestDiff(t *testing.T) {
	w := newWorld(t)
	id := w.create("it", nil, nil)
	if code, text := w.ask("GET", "/containers/it/changes", nil); code != 200 || strings.TrimSpace(text) != "[]" {
		t.Errorf("%d %s", code, text)
	}
	w.engine.Changed(idOf(id), engine.Change{Path: "/etc"}, engine.Change{Path: "/etc/new", Kind: engine.Added}, engine.Change{Path: "/tmp/gone", Kind: engine.Deleted})
	if _, text := w.ask("GET", "/containers/it/changes", nil); strings.TrimSpace(text) != `[{"Path":"/etc","Kind":0},{"Path":"/etc/new","Kind":1},{"Path":"/tmp/gone","Kind":2}]` {
		t.Error(text)
	}
	var one struct{ SizeRw, SizeRootFs *int64 }
	w.must("GET", "/containers/it/json?size=1", nil, &one)
	if one.SizeRw == nil || *one.SizeRw != 300 || *one.SizeRootFs != 1<<20+300 {
		t.Errorf("%+v", one)
	}
	var list []struct{ SizeRw, SizeRootFs *int64 }
	w.must("GET", "/containers/json?all=1&size=true", nil, &list)
	if len(list) != 1 || list[0].SizeRw == nil || *list[0].SizeRw != 300 || *list[0].SizeRootFs != 1<<20+300 {
		t.Errorf("%+v", list)
	}
	list[0].SizeRw = nil
	w.must("GET", "/containers/json?all=1", nil, &list)
	if list[0].SizeRw != nil {
		t.Error("sizes that nobody has asked for")
	}
	w.fails(404, "No such container: no", "GET", "/containers/no/changes", nil)
}

func TestCommit(t *testing.T) {
	w := newWorld(t)
	w.create("it", object{"Env": []string{"A=1", "B=2"}, "Cmd": []string{"sleep", "7"}, "Labels": object{"mine": "yes"}}, nil)
	w.start("it")
	var made struct{ ID string }
	w.must("POST", "/commit?container=it&repo=mine&tag=v1&author=me&comment=so&changes=ENV+A%3D3&changes=EXPOSE+81", object{"User": "app"}, &made)
	i, err := w.engine.Images().Get(t.Context(), "mine:v1")
	if err != nil {
		t.Fatal(err)
	}
	c := i.Config
	if i.ID != made.ID || c.Author != "me" || c.User != "app" || !slices.Equal(c.Command, []string{"sleep", "7"}) || c.Labels["mine"] != "yes" || c.Labels["of"] != "image" ||
		!slices.Equal(c.Ports, []string{"80/tcp", "81/tcp"}) || !slices.Contains(c.Env, "A=3") || slices.Contains(c.Env, "A=1") || !slices.Contains(c.Env, "B=2") || !slices.Contains(c.Env, "FROM=image") {
		t.Errorf("%+v", i)
	}
	if h := i.History[0]; h.Comment != "so" || h.Author != "me" || h.CreatedBy != "sleep 7" {
		t.Errorf("%+v", h)
	}
	if s := w.inspect("it"); s.State.Status != "running" {
		t.Errorf("%+v", s.State)
	}
	w.must("POST", `/commit?container=it&repo=mine&changes=ENTRYPOINT+["echo"]`, nil)
	if i, err = w.engine.Images().Get(t.Context(), "mine:latest"); err != nil || !slices.Equal(i.Config.Entrypoint, []string{"echo"}) || len(i.Config.Command) > 0 {
		t.Errorf("%+v, %v", i, err)
	}
	w.must("POST", "/containers/it/pause", nil)
	w.must("POST", "/commit?container=it", nil, &made)
	if s := w.inspect("it"); s.State.Status != "paused" {
		t.Errorf("%+v", s.State)
	}
	w.must("POST", "/containers/it/unpause", nil)
	w.fails(400, "RUN is not a valid change command", "POST", "/commit?container=it&changes=RUN+x", nil)
	w.fails(404, "No such container: no", "POST", "/commit?container=no", nil)
	// One that stands still with nobody having paused it: the server was killed meanwhile.
	id := idOf(w.inspect("it").ID)
	if err := w.engine.Freeze(t.Context(), id, true); err != nil {
		t.Fatal(err)
	}
	w.down()
	w.up()
	w.until("it goes on", func() bool {
		st, err := w.engine.Inspect(t.Context(), id)
		return err == nil && st.State == engine.Running
	})
}
