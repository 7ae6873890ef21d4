package daemon

import (
	"archive/tar"
	"bufio"
	"compress/bzip2"
	"compress/flate"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"skerry/internal/engine"
)

// importImage answers POST /images/create?fromSrc=-: the body is a tar of a whole
// file system, which becomes an image of one layer.
func (d *Daemon) importImage(c *call) error {
	if c.query.Get("fromSrc") != "-" {
		return unsupported("docker import of a URL; fetch it, and import the file")
	}
	settings := &container.Config{}
	if err := applyChanges(settings, c.query["changes"]); err != nil {
		return err
	}
	name := c.query.Get("repo")
	if name != "" {
		if tag := c.query.Get("tag"); tag != "" {
			name += ":" + tag
		}
		name = withTag(name)
	}
	platform, err := parsePlatform(c.query.Get("platform"))
	if err != nil {
		return err
	}
	if platform == (engine.Platform{}) {
		platform = engine.Platform{OS: "linux", Architecture: runtime.GOARCH}
	}
	layer, id, err := d.keepLayer(c.Body)
	if layer != nil {
		defer layer.Close()
	}
	if err != nil {
		return err
	}
	type object = map[string]any
	now := d.clock.Now().UTC()
	config, err := json.Marshal(object{
		"created": now, "os": platform.OS, "architecture": platform.Architecture, "variant": platform.Variant, "config": settings,
		"rootfs":  object{"type": "layers", "diff_ids": []string{id}},
		"history": []object{{"created": now, "comment": c.query.Get("message")}},
	})
	if err != nil {
		return err
	}
	archive, w := io.Pipe()
	defer archive.Close()
	go func() { _ = w.CloseWithError(writeArchive(w, name, config, layer)) }()
	all, err := d.engine.Images().Load(c.Context(), archive, func(engine.Progress) {})
	if err != nil {
		return archiveFault(err)
	}
	for _, i := range all {
		d.tellThing(events.ImageEventType, events.ActionImport, i.ID, map[string]string{"name": i.ID})
		p := &progress{c: c}
		p.line(progressLine{Status: i.ID})
	}
	return nil
}

// keepLayer keeps an archive, uncompressed, in a file without a name, and returns
// its digest.
func (d *Daemon) keepLayer(body io.Reader) (*os.File, string, error) {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return nil, "", err
	}
	f, err := os.CreateTemp(d.dir, "import-")
	if err != nil {
		return nil, "", err
	}
	if err := os.Remove(f.Name()); err != nil {
		return f, "", err
	}
	r, err := uncompressed(body)
	if err != nil {
		return f, "", badRequest("%v", err)
	}
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(f, sum), r); err != nil {
		return f, "", archiveFault(err)
	}
	_, err = f.Seek(0, io.SeekStart)
	return f, "sha256:" + hex.EncodeToString(sum.Sum(nil)), err
}

// archiveFault makes the fault of an archive that is none, or not whole, the
// client's.
func archiveFault(err error) error {
	var deflated flate.CorruptInputError
	var bzipped bzip2.StructuralError
	for _, broken := range []error{tar.ErrHeader, io.ErrUnexpectedEOF, gzip.ErrHeader, gzip.ErrChecksum, zstd.ErrMagicMismatch, zstd.ErrCRCMismatch} {
		if errors.Is(err, broken) {
			return badRequest("%v", err)
		}
	}
	if errors.As(err, &deflated) || errors.As(err, &bzipped) {
		return badRequest("%v", err)
	}
	return err
}

// uncompressed reads what may be compressed.
func uncompressed(in io.Reader) (io.Reader, error) {
	b := bufio.NewReader(in)
	head, err := b.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case strings.HasPrefix(string(head), "\x1f\x8b"):
		return gzip.NewReader(b)
	case strings.HasPrefix(string(head), "BZh"):
		return bzip2.NewReader(b), nil
	case string(head) == "\x28\xb5\x2f\xfd":
		return zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(128<<20))
	}
	return b, nil
}

// writeArchive writes an image of one layer as docker save does.
func writeArchive(w io.Writer, name string, config []byte, layer *os.File) error {
	st, err := layer.Stat()
	if err != nil {
		return err
	}
	names := []string{}
	if name != "" {
		names = append(names, name)
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": names, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	t := tar.NewWriter(w)
	for _, f := range []struct {
		name string
		size int64
		r    io.Reader
	}{{"layer.tar", st.Size(), layer}, {"config.json", int64(len(config)), strings.NewReader(string(config))}, {"manifest.json", int64(len(manifest)), strings.NewReader(string(manifest))}} {
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Size: f.size, Mode: 0o644}); err != nil {
			return err
		}
		if _, err := io.Copy(t, f.r); err != nil {
			return err
		}
	}
	return t.Close()
}
