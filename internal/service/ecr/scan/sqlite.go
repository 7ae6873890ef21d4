package scan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// sqlite reads tables of a database file, as "Database File Format" (sqlite.org)
// describes it: enough for RPM's. Indexes, the write-ahead log and virtual tables
// are not read.
type sqlite struct {
	r      io.ReaderAt
	page   int64 // size in bytes
	usable int64 // of a page
	pages  int64
	read   int64 // pages read so far: a damaged file may send us in circles
}

// value is a column: an integer, or text or a blob.
type value struct {
	integer int64
	bytes   []byte
}

// maxRow is the largest row that is read, in bytes.
const maxRow = 64 << 20

var errSQLite = errors.New("a damaged SQLite database")

func openSQLite(r *io.SectionReader) (*sqlite, error) {
	head := make([]byte, 100)
	if _, err := r.ReadAt(head, 0); err != nil || string(head[:16]) != "SQLite format 3\x00" {
		return nil, errSQLite
	}
	db := &sqlite{r: r, page: int64(binary.BigEndian.Uint16(head[16:]))}
	if db.page == 1 {
		db.page = 1 << 16
	}
	if db.page < 512 || db.page&(db.page-1) != 0 {
		return nil, errSQLite
	}
	db.usable, db.pages = db.page-int64(head[20]), r.Size()/db.page
	if db.usable < 480 {
		return nil, errSQLite
	}
	return db, nil
}

// table calls fn with each row of a table.
func (db *sqlite) table(name string, fn func(columns []value) error) error {
	root := int64(0)
	err := db.tree(1, 0, func(c []value) error {
		if len(c) >= 4 && string(c[0].bytes) == "table" && string(c[1].bytes) == name {
			root = c[3].integer
		}
		return nil
	})
	if err != nil {
		return err
	}
	if root == 0 {
		return fmt.Errorf("a SQLite database without the table %s", name)
	}
	return db.tree(root, 0, fn)
}

// get reads a page; the first is number 1.
func (db *sqlite) get(n int64) ([]byte, error) {
	if db.read++; n < 1 || n > db.pages || db.read > 4*db.pages+16 {
		return nil, errSQLite
	}
	b := make([]byte, db.page)
	if _, err := db.r.ReadAt(b, (n-1)*db.page); err != nil {
		return nil, errSQLite
	}
	return b, nil
}

// tree walks a table's B-tree.
func (db *sqlite) tree(n int64, depth int, fn func([]value) error) error {
	if depth > 20 {
		return errSQLite
	}
	page, err := db.get(n)
	if err != nil {
		return err
	}
	head := int64(0)
	if n == 1 {
		head = 100
	}
	cells := int64(binary.BigEndian.Uint16(page[head+3:]))
	array := head + 8
	interior := page[head] == 0x05
	if interior {
		array += 4
	} else if page[head] != 0x0d {
		return errSQLite
	}
	if array+2*cells > db.usable {
		return errSQLite
	}
	for i := range cells {
		at := int64(binary.BigEndian.Uint16(page[array+2*i:]))
		if at+4 > db.usable {
			return errSQLite
		}
		if interior {
			err = db.tree(int64(binary.BigEndian.Uint32(page[at:])), depth+1, fn)
		} else {
			err = db.cell(page[at:db.usable], fn)
		}
		if err != nil {
			return err
		}
	}
	if interior {
		return db.tree(int64(binary.BigEndian.Uint32(page[head+8:])), depth+1, fn)
	}
	return nil
}

// cell reads a row of a leaf.
func (db *sqlite) cell(b []byte, fn func([]value) error) error {
	size, b, ok := varint(b)
	if !ok || size > maxRow {
		return errSQLite
	}
	if _, b, ok = varint(b); !ok { // the row's number
		return errSQLite
	}
	payload, err := db.payload(b, size)
	if err != nil {
		return err
	}
	columns, err := record(payload)
	if err != nil {
		return err
	}
	return fn(columns)
}

// payload puts together a row that may go on in overflow pages.
func (db *sqlite) payload(b []byte, size int64) ([]byte, error) {
	local := size
	if most := db.usable - 35; size > most {
		least := (db.usable-12)*32/255 - 23
		if local = least + (size-least)%(db.usable-4); local > most {
			local = least
		}
	}
	if local > int64(len(b)) || local < size && local+4 > int64(len(b)) {
		return nil, errSQLite
	}
	if local == size {
		return b[:size], nil
	}
	out := append([]byte(nil), b[:local]...)
	next := int64(binary.BigEndian.Uint32(b[local:]))
	for int64(len(out)) < size {
		page, err := db.get(next)
		if err != nil {
			return nil, err
		}
		next = int64(binary.BigEndian.Uint32(page))
		out = append(out, page[4:4+min(db.usable-4, size-int64(len(out)))]...)
	}
	return out, nil
}

// record reads the columns of a row.
func record(b []byte) ([]value, error) {
	size, types, ok := varint(b)
	if !ok || size > int64(len(b)) || size < int64(len(b)-len(types)) {
		return nil, errSQLite
	}
	types, body := types[:size-int64(len(b)-len(types))], b[size:]
	var columns []value
	for len(types) > 0 {
		var kind int64
		if kind, types, ok = varint(types); !ok {
			return nil, errSQLite
		}
		n := int64(0)
		switch {
		case kind >= 12:
			n = (kind - 12) / 2
		case kind >= 1 && kind <= 7:
			n = []int64{0, 1, 2, 3, 4, 6, 8, 8}[kind]
		}
		if n > int64(len(body)) {
			return nil, errSQLite
		}
		v := value{}
		switch {
		case kind >= 12:
			v.bytes = body[:n]
		case kind >= 1 && kind <= 6:
			for _, c := range body[:n] {
				v.integer = v.integer<<8 | int64(c)
			}
			v.integer = v.integer << (64 - 8*n) >> (64 - 8*n)
		case kind == 9:
			v.integer = 1
		}
		columns, body = append(columns, v), body[n:]
	}
	return columns, nil
}

// varint reads SQLite's variable-length integer; only those that are not negative
// are of use here.
func varint(b []byte) (v int64, rest []byte, ok bool) {
	for i := range min(9, len(b)) {
		if i == 8 {
			v = v<<8 | int64(b[i])
		} else if v = v<<7 | int64(b[i]&0x7f); b[i]&0x80 != 0 {
			continue
		}
		return v, b[i+1:], v >= 0
	}
	return 0, nil, false
}
