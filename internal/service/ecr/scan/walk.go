package scan

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"

	"skerry/internal/base/gunzip"
)

// file is a file of the image that tells of packages.
type file struct {
	layer    string
	packages []Package
	release  map[string]string // of os-release
	unread   string            // why it could not be read
}

// walk is the state of reading an image.
type walk struct {
	limits  Limits
	left    int64 // bytes that may still be unpacked
	entries int
	tmp     *os.File
	found   map[string]*file // by path, of the layers read so far
}

// parser reads a file that tells of packages.
type parser func(r *io.SectionReader, f *file) error

// layer reads a layer and lays it over those before.
func (w *walk) layer(ctx context.Context, l Layer) error {
	raw, err := l.Open(ctx)
	if err != nil {
		return fmt.Errorf("scan: layer %s: %w", l.Digest, err)
	}
	defer func() { _ = raw.Close() }()
	plain, done, err := unpack(&stopped{ctx, raw})
	if err != nil {
		return fmt.Errorf("scan: layer %s: %w", l.Digest, err)
	}
	defer done()
	bounded := &counted{r: plain, left: &w.left}
	lower := below(w.found)
	gone, here := map[string]bool{}, map[string]*file{}
	t := tar.NewReader(bounded)
	for {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("scan: layer %s: %w", l.Digest, err)
		}
		if w.entries++; w.entries > w.limits.Entries {
			return fmt.Errorf("%w: more than %d files", ErrTooLarge, w.limits.Entries)
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		dir, base := path.Split(name)
		if base == ".wh..wh..opq" {
			gone[dir] = true // all that is below dir, whose name ends in a slash
			continue
		}
		if hidden, ok := strings.CutPrefix(base, ".wh."); ok {
			if lower[dir+hidden] {
				gone[dir+hidden] = true
			}
			continue
		}
		if w.found[name] != nil || lower[name] && h.Typeflag != tar.TypeDir {
			gone[name] = true
		}
		delete(here, name)
		if h.Typeflag != tar.TypeReg {
			continue
		}
		f, err := w.look(t, h, name)
		if err != nil {
			return fmt.Errorf("scan: layer %s: %w", l.Digest, err)
		}
		if f != nil {
			f.layer = l.Digest
			here[name] = f
		}
		if len(here)+len(w.found) > w.limits.Packages {
			return fmt.Errorf("%w: more than %d files that tell of packages", ErrTooLarge, w.limits.Packages)
		}
	}
	w.lay(here, gone)
	return nil
}

// lay removes what a layer hides and adds what it has.
func (w *walk) lay(here map[string]*file, gone map[string]bool) {
	for p := range w.found {
		if gone[p] {
			delete(w.found, p)
			continue
		}
		for d := path.Dir(p); ; d = path.Dir(d) {
			if d == "." {
				d = ""
			}
			if gone[d] && d != "" || gone[strings.TrimPrefix(d+"/", "/")] {
				delete(w.found, p)
				break
			}
			if d == "" {
				break
			}
		}
	}
	for p, f := range here {
		w.found[p] = f
	}
}

// below returns the paths of files and of the folders that they are in.
func below(files map[string]*file) map[string]bool {
	all := map[string]bool{}
	for p := range files {
		for ; p != "." && !all[p]; p = path.Dir(p) {
			all[p] = true
		}
	}
	return all
}

// look reads a file if it tells of packages; nil if it does not.
func (w *walk) look(t *tar.Reader, h *tar.Header, name string) (*file, error) {
	parse, why := parserOf(name)
	executable := parse == nil && h.Mode&0o111 != 0 && h.Size > 4096
	switch {
	case why != "":
		return &file{unread: why}, nil
	case parse == nil && !executable:
		return nil, nil
	case h.Size > w.limits.File && executable:
		return nil, nil
	case h.Size > w.limits.File:
		return &file{unread: "too large"}, nil
	}
	var r io.Reader = t
	if executable {
		// Most files are no executables, and most executables are not Go's.
		head := make([]byte, 4)
		if _, err := io.ReadFull(t, head); err != nil {
			return nil, err
		}
		if string(head) != "\x7fELF" {
			return nil, nil
		}
		r, parse = io.MultiReader(bytes.NewReader(head), t), parseGo
	}
	spool := &spool{tmp: w.tmp, marks: !executable}
	n, err := io.Copy(spool, r)
	if err != nil {
		return nil, err
	}
	if !spool.marks {
		return nil, nil
	}
	f := &file{}
	if err := guard(parse, io.NewSectionReader(w.tmp, 0, n), f); err != nil {
		if executable {
			return nil, nil // it only looks like one of Go's
		}
		f.unread = err.Error()
	}
	return f, nil
}

// guard runs a parser; its panic is a file that cannot be read.
func guard(parse parser, r *io.SectionReader, f *file) (err error) {
	defer func() {
		if p := recover(); p != nil {
			*f, err = file{}, fmt.Errorf("damaged (%v)", p)
		}
	}()
	return parse(r, f)
}

// parserOf returns how a file is read, by its name, or why it is not.
func parserOf(name string) (p parser, unread string) {
	dir, base := path.Split(name)
	switch {
	case name == "etc/os-release" || name == "usr/lib/os-release":
		return parseRelease, ""
	case name == "var/lib/dpkg/status":
		return parseDpkg, ""
	case dir == "var/lib/dpkg/status.d/" && !strings.HasSuffix(base, ".md5sums"):
		return parseDpkg, ""
	case name == "lib/apk/db/installed" || name == "usr/lib/apk/db/installed":
		return parseApk, ""
	case dir == "var/lib/rpm/" || dir == "usr/lib/sysimage/rpm/":
		switch base {
		case "rpmdb.sqlite":
			return parseRPM, ""
		case "Packages":
			return parseBerkeley, ""
		case "Packages.db":
			return nil, "an RPM database in ndb is not read"
		}
	case base == "package.json" && inModules(dir):
		return parseNode, ""
	case base == "package-lock.json" && !strings.Contains(dir, "node_modules/"):
		return parseLock, ""
	}
	return nil, ""
}

// inModules tells whether a folder is that of a package in node_modules.
func inModules(dir string) bool {
	parts := strings.Split(strings.TrimSuffix(dir, "/"), "/")
	n := len(parts)
	return n >= 2 && parts[n-2] == "node_modules" || n >= 3 && parts[n-3] == "node_modules" && strings.HasPrefix(parts[n-2], "@")
}

// unpack returns the content of a layer, and what ends its reading.
func unpack(r io.Reader) (io.Reader, func(), error) {
	b := bufio.NewReaderSize(r, 1<<16)
	head, err := b.Peek(4)
	if err != nil && err != io.EOF {
		return nil, nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gunzip.NewReader(b), func() {}, nil
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(128<<20))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	}
	return b, func() {}, nil
}

// counted ends with ErrTooLarge once too many bytes were read.
type counted struct {
	r    io.Reader
	left *int64
}

func (c *counted) Read(p []byte) (int, error) {
	if *c.left <= 0 {
		return 0, fmt.Errorf("%w: its layers unpack to too many bytes", ErrTooLarge)
	}
	n, err := c.r.Read(p)
	*c.left -= int64(n)
	return n, err
}

// stopped reads until a context ends.
type stopped struct {
	ctx context.Context
	r   io.Reader
}

func (s *stopped) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}

// spool keeps a file in the temporary one, from its beginning on, and looks for
// Go's mark in it.
type spool struct {
	tmp   *os.File
	at    int64
	tail  []byte
	marks bool // Go's mark was seen, or need not be
}

// goMark stands before the build information of Go's executables.
var goMark = []byte("\xff Go buildinf:")

func (s *spool) Write(p []byte) (int, error) {
	if !s.marks {
		joined := append(s.tail, p...)
		s.marks = bytes.Contains(joined, goMark)
		s.tail = append([]byte(nil), joined[max(0, len(joined)-len(goMark)):]...)
	}
	n, err := s.tmp.WriteAt(p, s.at)
	s.at += int64(n)
	return n, err
}
