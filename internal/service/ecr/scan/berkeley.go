package scan

import (
	"encoding/binary"
	"errors"
	"io"
)

// berkeley reads the values of a hash database of Berkeley DB, as its db_page.h
// describes the file: enough for RPM's. Keys, duplicates and B-trees are not read.
type berkeley struct {
	r     io.ReaderAt
	order binary.ByteOrder
	page  int64 // size in bytes
	pages int64
	read  int64 // pages read so far: a damaged file may send us in circles
}

// What a page is, and what an item on it is.
const (
	berkeleyMagic    = 0x061561
	berkeleyHeader   = 26 // bytes before a page's items
	berkeleyUnsorted = 2
	berkeleyHash     = 13
	berkeleyOverflow = 7
	berkeleyInline   = 1
	berkeleyOffPage  = 3
)

var errBerkeley = errors.New("a damaged Berkeley DB")

// parseBerkeley reads RPM's database of packages in Berkeley DB: its values are
// the packages' headers, but for the number of the last one.
func parseBerkeley(r *io.SectionReader, f *file) error {
	db, err := openBerkeley(r)
	if err != nil {
		return err
	}
	return db.values(func(v []byte) {
		if p, ok := rpmHeader(v); ok {
			f.packages = append(f.packages, p)
		}
	})
}

func openBerkeley(r *io.SectionReader) (*berkeley, error) {
	head := make([]byte, 32)
	if _, err := r.ReadAt(head, 0); err != nil {
		return nil, errBerkeley
	}
	db := &berkeley{r: r}
	for _, o := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		if o.Uint32(head[12:]) == berkeleyMagic {
			db.order = o
		}
	}
	if db.order == nil {
		return nil, errBerkeley
	}
	db.page = int64(db.order.Uint32(head[20:]))
	if db.page < 512 || db.page > 1<<16 || db.page&(db.page-1) != 0 {
		return nil, errBerkeley
	}
	db.pages = r.Size() / db.page
	return db, nil
}

// get reads a page; the first is number 0.
func (db *berkeley) get(n int64) ([]byte, error) {
	if db.read++; n < 0 || n >= db.pages || db.read > 4*db.pages+16 {
		return nil, errBerkeley
	}
	b := make([]byte, db.page)
	if _, err := db.r.ReadAt(b, n*db.page); err != nil {
		return nil, errBerkeley
	}
	return b, nil
}

// values calls fn with every value.
func (db *berkeley) values(fn func([]byte)) error {
	for n := range db.pages {
		page, err := db.get(n)
		if err != nil {
			return err
		}
		if kind := page[25]; kind != berkeleyUnsorted && kind != berkeleyHash {
			continue
		}
		items := int64(db.order.Uint16(page[20:]))
		if berkeleyHeader+2*items > db.page {
			return errBerkeley
		}
		// Items lie from the page's end on: each ends where the one before begins. A
		// key and its value follow each other.
		end := db.page
		for i := range items {
			at := int64(db.order.Uint16(page[berkeleyHeader+2*i:]))
			if at >= end || at < berkeleyHeader+2*items {
				return errBerkeley
			}
			if i%2 == 1 {
				v, err := db.value(page[at:end])
				if err != nil {
					return err
				}
				fn(v)
			}
			end = at
		}
	}
	return nil
}

// value returns what an item holds, on its page or on others.
func (db *berkeley) value(item []byte) ([]byte, error) {
	switch {
	case item[0] == berkeleyInline:
		return item[1:], nil
	case item[0] != berkeleyOffPage:
		return nil, nil // duplicates, which RPM's packages have not
	case len(item) < 12:
		return nil, errBerkeley
	}
	next, size := int64(db.order.Uint32(item[4:])), int64(db.order.Uint32(item[8:]))
	if size > maxRow {
		return nil, errBerkeley
	}
	var out []byte
	for int64(len(out)) < size {
		page, err := db.get(next)
		if err != nil {
			return nil, err
		}
		n := int64(db.order.Uint16(page[22:]))
		if page[25] != berkeleyOverflow || n == 0 || berkeleyHeader+n > db.page {
			return nil, errBerkeley
		}
		out = append(out, page[berkeleyHeader:berkeleyHeader+n]...)
		next = int64(db.order.Uint32(page[16:]))
	}
	return out[:size], nil
}
