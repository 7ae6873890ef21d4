package image_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"skerry/internal/engine"
	"skerry/internal/engine/enginetest"
	"skerry/internal/engine/image/remote"
)

func TestPush(t *testing.T) {
	b, r := open(t), newRegistry(t)
	r.auth = "bearer"
	auth := engine.Auth{Username: user, Password: password}
	d := r.add("base", "latest", ociZstd, small())
	if _, err := b.Pull(t.Context(), r.name("base"), engine.PullOptions{Auth: auth}); err != nil {
		t.Fatal(err)
	}
	if err := b.Tag(t.Context(), r.name("base"), r.name("team/app:v1")); err != nil {
		t.Fatal(err)
	}
	var p told
	got, err := b.Push(t.Context(), r.name("team/app:v1"), engine.PushOptions{Auth: auth, Progress: p.add})
	if err != nil || got != d["digest"] {
		t.Fatalf("pushed %s and not %s: %v", got, d["digest"], err)
	}
	if !p.has("Mounted from base") || r.asked("PATCH") > 1 { // the configuration
		t.Errorf("%d uploads; %v", r.asked("PATCH"), p.all)
	}
	if i, err := b.Get(t.Context(), r.name("team/app@"+got)); err != nil || !slices.Contains(i.Digests, r.name("team/app@"+got)) {
		t.Errorf("by its digest: %v, %v", i.Digests, err)
	}
	p = told{}
	if _, err := b.Push(t.Context(), r.name("team/app:v1"), engine.PushOptions{Auth: auth, Progress: p.add}); err != nil || !p.has("Layer already exists") || p.has("Pushed") {
		t.Errorf("again: %v, %v", err, p.all)
	}
	other := newRegistry(t)
	other.mounts, other.fail = false, 2
	if err := b.Tag(t.Context(), r.name("base"), other.name("app")); err != nil {
		t.Fatal(err)
	}
	if got, err = b.Push(t.Context(), other.name("app"), engine.PushOptions{Progress: p.add}); err != nil || got != d["digest"] || !p.has("Pushed") {
		t.Fatalf("to another: %s, %v", got, err)
	}
	c := open(t)
	i, err := c.Pull(t.Context(), other.name("app@"+got), engine.PullOptions{})
	if err != nil || len(i.Names) > 0 || c.content(t, i.ID, "etc/new") != "new" {
		t.Errorf("pulled from there: %+v, %v", i, err)
	}
	if _, err := b.Push(t.Context(), r.name("none"), engine.PushOptions{}); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("what is not there: %v", err)
	}
	if _, err := b.Push(t.Context(), r.name("team/app:v1"), engine.PushOptions{}); !errors.Is(err, remote.ErrDenied) {
		t.Errorf("without signing in: %v", err)
	}
}

// TestPushMountRefused has a registry that knows no mounts.
// TestPushSignsIn: the first requests, one for each layer, are all told to sign in.
func TestPushSignsIn(t *testing.T) {
	b := open(t)
	spec := enginetest.ImageSpec{}
	for i := range 8 {
		spec.Layers = append(spec.Layers, []enginetest.ImageFile{{Name: "file", Content: []byte{byte(i)}}})
	}
	for range 5 {
		r := newRegistry(t)
		r.auth = "basic"
		spec.Names = []string{r.name("app")}
		if _, err := b.Load(t.Context(), bytes.NewReader(enginetest.Archive(spec)), nil); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Push(t.Context(), r.name("app"), engine.PushOptions{Auth: engine.Auth{Username: user, Password: password}}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPushMountRefused(t *testing.T) {
	b, r := open(t), newRegistry(t)
	r.mounts = false
	r.add("base", "latest", docker, small())
	if _, err := b.Pull(t.Context(), r.name("base"), engine.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := b.Tag(t.Context(), r.name("base"), r.name("app")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Push(t.Context(), r.name("app"), engine.PushOptions{}); err != nil || len(r.blobs["app"]) != 3 {
		t.Errorf("%d blobs, %v", len(r.blobs["app"]), err)
	}
}

func TestSave(t *testing.T) {
	b, r := open(t), newRegistry(t)
	d := r.add("app", "latest", oci, small())
	i, err := b.Pull(t.Context(), r.name("app"), engine.PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	j := b.load(t, small("small", "small:2"))[0]
	var archive bytes.Buffer
	if err := b.Save(t.Context(), []string{r.name("app"), "small", "small:2", i.ID}, &archive); err != nil {
		t.Fatal(err)
	}
	for name, compress := range map[string]func([]byte) []byte{"plain": bytes.Clone, "gzip": gzipped, "zstd": zstandard} {
		for _, layout := range []bool{false, true} {
			c := open(t)
			content := compress(without(t, archive.Bytes(), layout))
			all, err := c.Load(t.Context(), bytes.NewReader(content), nil)
			if err != nil {
				t.Fatalf("%s, layout %v: %v", name, layout, err)
			}
			for _, want := range []engine.Image{i, j} {
				if got, err := c.Get(t.Context(), want.ID); err != nil || !slices.Equal(got.Names, want.Names) || !slices.Equal(got.Layers, want.Layers) {
					t.Errorf("%s: loaded %+v of %d, %v", name, got, len(all), err)
				}
			}
			other := newRegistry(t)
			if err := c.Tag(t.Context(), r.name("app"), other.name("app")); err != nil {
				t.Fatal(err)
			}
			if got, err := c.Push(t.Context(), other.name("app"), engine.PushOptions{}); err != nil || got != d["digest"] {
				t.Errorf("%s: pushed %s and not %s: %v", name, got, d["digest"], err)
			}
		}
	}
	if err := b.Save(t.Context(), []string{"none"}, io.Discard); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("saved what is not there: %v", err)
	}
}

// without takes docker's manifest.json out of an archive, so that the OCI layout is
// left.
func without(t *testing.T, archive []byte, docker bool) []byte {
	t.Helper()
	if !docker {
		return archive
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Name == "manifest.json" {
			continue
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestLoadOld loads what docker save wrote before it knew layouts: names with
// folders, and links between equal layers.
func TestLoadOld(t *testing.T) {
	b := open(t)
	layer := enginetest.Layer(enginetest.ImageFile{Name: "file", Content: []byte("content")})
	conf := encode(map[string]any{"os": "linux", "architecture": "amd64", "rootfs": map[string]any{"diff_ids": []string{digest(layer), digest(layer)}}})
	name := strings.TrimPrefix(digest(conf), "sha256:") + ".json"
	archive := enginetest.Layer(
		enginetest.ImageFile{Name: "aa/VERSION", Content: []byte("1.0")}, enginetest.ImageFile{Name: "aa/layer.tar", Content: layer},
		enginetest.ImageFile{Name: "bb/layer.tar", Link: "../aa/layer.tar"}, enginetest.ImageFile{Name: name, Content: conf},
		enginetest.ImageFile{Name: "manifest.json", Content: encode([]any{map[string]any{
			"Config": name, "RepoTags": []string{"old:1"}, "Layers": []string{"aa/layer.tar", "bb/layer.tar"},
		}})},
	)
	if _, err := b.Load(t.Context(), bytes.NewReader(archive), nil); err != nil {
		t.Fatal(err)
	}
	if got := b.content(t, "old:1", "file"); got != "content" {
		t.Errorf("file: %q", got)
	}
}

func TestLoadRefused(t *testing.T) {
	b := open(t)
	layer := enginetest.Layer(enginetest.ImageFile{Name: "file"})
	evil := enginetest.Layer(enginetest.ImageFile{Name: "../../evil"})
	manifest := func(config, layer string) enginetest.ImageFile {
		return enginetest.ImageFile{Name: "manifest.json", Content: encode([]any{map[string]any{"Config": config, "Layers": []string{layer}}})}
	}
	conf := func(diff string) enginetest.ImageFile {
		return enginetest.ImageFile{Name: "c.json", Content: encode(map[string]any{"os": "linux", "rootfs": map[string]any{"diff_ids": []string{diff}}})}
	}
	for name, files := range map[string][]enginetest.ImageFile{
		"nothing":          {},
		"no configuration": {{Name: "l.tar", Content: layer}, manifest("c.json", "l.tar")},
		"no layer":         {conf(digest(layer)), manifest("c.json", "l.tar")},
		"another layer":    {{Name: "l.tar", Content: layer}, conf(digest(evil)), manifest("c.json", "l.tar")},
		"a hostile layer":  {{Name: "l.tar", Content: evil}, conf(digest(evil)), manifest("c.json", "l.tar")},
		"a false digest":   {{Name: "blobs/sha256/" + digest(evil)[7:], Content: layer}, conf(digest(layer)), manifest("c.json", "blobs/sha256/"+digest(evil)[7:])},
		"no JSON":          {{Name: "manifest.json", Content: []byte("{")}},
		"outside":          {conf(digest(layer)), manifest("../../c.json", "../../../etc/passwd")},
	} {
		if got, err := b.Load(t.Context(), bytes.NewReader(enginetest.Layer(files...)), nil); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for _, content := range []string{"", "no archive at all", strings.Repeat("x", 2000)} {
		if got, err := b.Load(t.Context(), strings.NewReader(content), nil); err == nil {
			t.Errorf("%.10q: %+v", content, got)
		}
	}
	b.clean(t)
}

// TestImplied has a layer with files in folders that only the layer below
// describes.
func TestImplied(t *testing.T) {
	b, r := open(t), newRegistry(t)
	lower := []enginetest.ImageFile{{Name: "tmp/", Mode: 0o777 | sticky, UID: 3}}
	i := implied(t, b, r, lower)
	h, err := b.Hold(t.Context(), i)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Release()
	if mode, uid := owner(t, h.Layers[1]+"/tmp"); mode != 0o1777 || uid != 3 {
		t.Errorf("tmp is %o of %d", mode, uid)
	}
	if mode, _ := owner(t, h.Layers[1]+"/new"); mode != 0o755 {
		t.Errorf("new is %o", mode)
	}
}
