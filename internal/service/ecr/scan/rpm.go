package scan

import (
	"bytes"
	"encoding/binary"
	"io"
	"strconv"
)

// parseRPM reads RPM's database of packages: a table Packages(hnum, blob) in
// SQLite's file format, where a blob is a package's header.
func parseRPM(r *io.SectionReader, f *file) error {
	db, err := openSQLite(r)
	if err != nil {
		return err
	}
	return db.table("Packages", func(columns []value) error {
		if len(columns) < 2 {
			return nil
		}
		if p, ok := rpmHeader(columns[1].bytes); ok {
			f.packages = append(f.packages, p)
		}
		return nil
	})
}

// The tags of a header that are read ("RPM package header").
const (
	rpmName    = 1000
	rpmVersion = 1001
	rpmRelease = 1002
	rpmEpoch   = 1003
	rpmArch    = 1022
	rpmSource  = 1044
)

// rpmHeader reads a header: the number of entries and the length of the store,
// the entries (tag, type, offset, count), the store.
func rpmHeader(b []byte) (p Package, ok bool) {
	if len(b) < 8 {
		return p, false
	}
	n, size := int64(binary.BigEndian.Uint32(b)), int64(binary.BigEndian.Uint32(b[4:]))
	if n > 1<<16 || 8+16*n+size > int64(len(b)) {
		return p, false
	}
	data := b[8+16*n:][:size]
	texts, epoch := map[uint32]string{}, ""
	for i := range n {
		e := b[8+16*i:]
		tag, kind, at := binary.BigEndian.Uint32(e), binary.BigEndian.Uint32(e[4:]), int64(binary.BigEndian.Uint32(e[8:]))
		if at >= size {
			continue
		}
		switch {
		case tag == rpmEpoch && kind == 4 && at+4 <= size:
			epoch = strconv.Itoa(int(binary.BigEndian.Uint32(data[at:]))) + ":"
		case kind == 6: // a text that ends with a zero
			text, _, ended := bytes.Cut(data[at:], []byte{0})
			if ended && len(text) < 1024 {
				texts[tag] = string(text)
			}
		}
	}
	p = Package{Manager: RPM, Name: texts[rpmName], Version: epoch + texts[rpmVersion] + "-" + texts[rpmRelease], Arch: texts[rpmArch]}
	p.Source, p.SourceVersion = p.Name, p.Version
	if p.Name == "gpg-pubkey" || p.Name == "" || texts[rpmVersion] == "" {
		return p, false
	}
	if name, ok := sourceName(texts[rpmSource]); ok {
		p.Source = name
	}
	return p, true
}

// sourceName cuts the name off a source package's file: name-version-release.src.rpm.
func sourceName(file string) (string, bool) {
	for range 2 {
		i := bytes.LastIndexByte([]byte(file), '-')
		if i <= 0 {
			return "", false
		}
		file = file[:i]
	}
	return file, true
}
