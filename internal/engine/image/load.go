package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"

	"skerry/internal/blob"
	"skerry/internal/engine"
)

// The most that an archive may have beside its layers.
const (
	maxText  = 64 << 20 // bytes of manifests and configurations
	maxFiles = 10_000
)

// Load implements engine.Images. The archive is read once, whatever its order:
// each layer is unpacked as it comes by, and what no image turns out to name is
// dropped.
func (s *Store) Load(ctx context.Context, archive io.Reader, progress func(engine.Progress)) ([]engine.Image, error) {
	l := &loading{
		s: s, ctx: ctx, progress: progress, text: map[string][]byte{}, links: map[string]string{}, layers: map[string]loaded{},
		release: func() {},
	}
	defer func() { l.release() }()
	if err := l.read(archive); err != nil {
		return nil, about(err, "load")
	}
	arrivals, err := l.arrivals()
	if err != nil {
		return nil, about(err, "load")
	}
	var out []engine.Image
	for _, a := range arrivals {
		i, err := s.record(ctx, a)
		if err != nil {
			return out, err
		}
		out = append(out, i)
	}
	return out, nil
}

// loading is an archive that is being loaded.
type loading struct {
	s        *Store
	ctx      context.Context
	progress func(engine.Progress)
	text     map[string][]byte // files of JSON
	links    map[string]string
	layers   map[string]loaded
	files    int
	size     int // of text
	release  func()
}

// loaded is a file of the archive that is a layer.
type loaded struct {
	layerUse
	raw bool // it was not compressed
}

func (l *loading) read(archive io.Reader) error {
	first := readAhead(archive)
	defer first.Close()
	z, err := decompress(first)
	if err != nil {
		return err
	}
	defer z.Close()
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if l.files++; l.files > maxFiles {
			return fmt.Errorf("the archive has more than %d files", maxFiles)
		}
		name := path.Clean("/" + h.Name)[1:]
		switch h.Typeflag {
		case tar.TypeReg:
			err = l.file(name, h.Size, t)
		case tar.TypeSymlink:
			l.links[name] = path.Clean("/" + path.Join(path.Dir(name), h.Linkname))[1:]
		case tar.TypeLink:
			l.links[name] = path.Clean("/" + h.Linkname)[1:]
		}
		if err != nil {
			return fmt.Errorf("%.200q: %w", name, err)
		}
	}
}

// file takes a file in: a layer, or text.
func (l *loading) file(name string, size int64, content io.Reader) error {
	head := make([]byte, 512)
	n, err := io.ReadFull(content, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	head = head[:n]
	whole := io.MultiReader(bytes.NewReader(head), content)
	switch {
	case isTar(head):
		return l.layer(name, size, whole, true)
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}), bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return l.layer(name, size, whole, false)
	case n > 0 && (head[0] == '{' || head[0] == '['):
		if size > maxConfig || l.size+int(size) > maxText {
			return fmt.Errorf("a manifest or configuration of %d bytes", size)
		}
		l.size += int(size)
		text, err := io.ReadAll(whole)
		l.text[name] = text
		return err
	}
	return nil
}

// isTar tells whether a file that begins so is a tar archive: its first header's
// checksum is right, or it is an empty one.
func isTar(head []byte) bool {
	if len(head) < 512 {
		return false
	}
	sum := int64(0)
	for i, b := range head {
		if i >= 148 && i < 156 {
			b = ' '
		}
		sum += int64(b)
	}
	if sum == 8*' ' {
		return true
	}
	said, err := strconv.ParseInt(strings.Trim(string(head[148:156]), " \x00"), 8, 64)
	return err == nil && said == sum
}

// layer takes a layer in. One that was not compressed is kept by gzip, so that it
// can be pushed.
func (l *loading) layer(name string, size int64, content io.Reader, raw bool) error {
	r, err := l.s.newRoom()
	if err != nil {
		return err
	}
	defer r.done()
	w, err := l.s.cfg.Blobs.Create(l.ctx, blob.CreateOptions{})
	if err != nil {
		return err
	}
	defer w.Abort()
	id := path.Base(name)
	if id == "layer.tar" {
		id = path.Base(path.Dir(name))
	}
	content = &counting{Reader: content, report: l.progress, p: engine.Progress{Layer: short(id), Status: "Loading layer", Total: size}}
	var sink io.Writer = w
	var gz *gzip.Writer
	if raw {
		if gz, err = gzip.NewWriterLevel(w, gzip.BestSpeed); err != nil {
			return err
		}
		sink = gz
	}
	in := newHashing(content)
	diffID, what, err := l.s.unpackInto(l.ctx, r, io.TeeReader(in, sink))
	if err != nil {
		return err
	}
	if gz != nil {
		if err := gz.Close(); err != nil {
			return err
		}
	}
	if hex, ok := strings.CutPrefix(name, "blobs/sha256/"); ok && "sha256:"+hex != in.digest() {
		return fmt.Errorf("its content is %s", in.digest())
	}
	got := loaded{layerUse{descriptor{MediaType: typeLayer, Size: w.Size()}, diffID}, raw}
	blobRef, err := w.Commit()
	if err != nil {
		return err
	}
	got.Blob.Digest = "sha256:" + string(blobRef)
	l.hold(diffID)
	l.layers[name] = got
	return r.keep(l.ctx, diffID, what)
}

// hold keeps a layer until the load has ended.
func (l *loading) hold(diffID string) {
	before, release := l.release, l.s.secure([]string{diffID})
	l.release = func() { before(); release() }
}

// find follows the archive's links to a file.
func (l *loading) find(name string) string {
	name = path.Clean("/" + name)[1:]
	for range 10 {
		to, ok := l.links[name]
		if !ok {
			break
		}
		name = to
	}
	return name
}

// arrivals finds the archive's images: those of manifest.json, as docker save
// writes it, else those of the OCI layout's index.
func (l *loading) arrivals() ([]arrival, error) {
	if text, ok := l.text["manifest.json"]; ok {
		return l.saved(text)
	}
	if text, ok := l.text["index.json"]; ok {
		return l.layout(text)
	}
	return nil, faultf(engine.ErrInvalid, "the archive has neither manifest.json nor index.json")
}

// saved reads docker save's manifest.json.
func (l *loading) saved(text []byte) ([]arrival, error) {
	var all []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	var out []arrival
	for _, one := range all {
		a := arrival{config: l.text[l.find(one.Config)]}
		if a.config == nil {
			return nil, fmt.Errorf("the archive has no configuration %.200q", one.Config)
		}
		c, err := parseConfiguration(a.config)
		if err != nil {
			return nil, err
		}
		if len(c.RootFS.DiffIDs) != len(one.Layers) {
			return nil, fmt.Errorf("invalid manifest, layers length mismatch: expected %d, got %d", len(c.RootFS.DiffIDs), len(one.Layers))
		}
		for i, name := range one.Layers {
			got, ok := l.layers[l.find(name)]
			if !ok {
				return nil, fmt.Errorf("the archive has no layer %.200q", name)
			}
			if got.DiffID != c.RootFS.DiffIDs[i] {
				return nil, fmt.Errorf("layer %.200q is %s and not %s", name, got.DiffID, c.RootFS.DiffIDs[i])
			}
			a.layers = append(a.layers, got.layerUse)
		}
		for _, t := range one.RepoTags {
			n, err := ParseName(t)
			if err != nil || n.Digest != "" {
				return nil, fmt.Errorf("the name %.200q: %w", t, ErrName)
			}
			a.names = append(a.names, n)
		}
		if err := l.manifest(&a); err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

// manifest finds the manifest by which an image came, if the archive has it, else
// makes one.
func (l *loading) manifest(a *arrival) error {
	for name, text := range l.text {
		var m manifest
		if !strings.HasPrefix(name, "blobs/sha256/") || json.Unmarshal(text, &m) != nil || m.Config == nil || m.Config.Digest != digestOf(a.config) ||
			"blobs/sha256/"+hexOf(digestOf(text)) != name {
			continue
		}
		if slices.EqualFunc(m.Layers, a.layers, func(d descriptor, u layerUse) bool { return d.Digest == u.Blob.Digest }) {
			for i := range a.layers {
				a.layers[i].Blob.MediaType = m.Layers[i].MediaType
			}
			a.body, a.manifest = text, descriptor{MediaType: m.MediaType, Digest: digestOf(text), Size: int64(len(text))}
			if a.manifest.MediaType == "" {
				a.manifest.MediaType = typeManifest
			}
			return nil
		}
	}
	m := manifest{SchemaVersion: 2, MediaType: typeSchema2, Config: &descriptor{MediaType: typeConfig, Digest: digestOf(a.config), Size: int64(len(a.config))}}
	m.Layers = []descriptor{}
	for _, u := range a.layers {
		m.Layers = append(m.Layers, u.Blob)
	}
	var err error
	if a.body, err = json.MarshalIndent(m, "", "   "); err != nil {
		return err
	}
	a.manifest = descriptor{MediaType: typeSchema2, Digest: digestOf(a.body), Size: int64(len(a.body))}
	return nil
}

// short is what people see of a digest.
func short(digest string) string {
	hex := hexOf(digest)
	return hex[:min(12, len(hex))]
}

// counting reports how much has been read.
type counting struct {
	io.Reader
	report func(engine.Progress)
	p      engine.Progress
	told   int64
}

const tellStep = 512 << 10 // bytes between reports

func (c *counting) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.p.Current += int64(n)
	if c.report != nil && (c.p.Current-c.told >= tellStep || err == io.EOF) {
		c.told = c.p.Current
		c.report(c.p)
	}
	return n, err
}
