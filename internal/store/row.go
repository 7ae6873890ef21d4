package store

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/fxamacker/cbor/v2"
)

// Codec is implemented by (a pointer to) the rows of hot tables that write
// themselves instead of being written as CBOR.
type Codec interface {
	// AppendRow appends the row's form to b.
	AppendRow(b []byte) ([]byte, error)
	// DecodeRow reads the row; it must not keep b.
	DecodeRow(b []byte) error
}

// Old is a stored row of an earlier version.
type Old struct{ data []byte }

// Decode reads the row into a pointer to the struct of its version.
func (o Old) Decode(row any) error {
	if c, ok := row.(Codec); ok {
		return c.DecodeRow(o.data)
	}
	return decMode.Unmarshal(o.data, row)
}

// Version sets the version of a table's rows, 1 by default, and how a row of an
// earlier version becomes one of this: decode it into a copy of the former
// struct, and return the new one.
func Version[R any](version int, migrate func(from int, old Old) (*R, error)) Option[R] {
	return versionOption[R]{version, migrate}
}

type versionOption[R any] struct {
	version int
	migrate func(int, Old) (*R, error)
}

func (o versionOption[R]) apply(t *Table[R]) { t.version, t.codec.migrate = o.version, o.migrate }

type codec[R any] struct {
	table   *table
	migrate func(int, Old) (*R, error)
}

var (
	encMode = must(cbor.EncOptions{Time: cbor.TimeRFC3339Nano}.EncMode())
	decMode = must(cbor.DecOptions{
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		MaxArrayElements:  math.MaxInt32,
		MaxMapPairs:       math.MaxInt32,
		MaxNestedLevels:   256,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (c *codec[R]) encode(row *R) ([]byte, error) {
	b := binary.AppendUvarint(make([]byte, 0, 128), uint64(c.table.version))
	if own, ok := any(row).(Codec); ok {
		return own.AppendRow(b)
	}
	body, err := encMode.Marshal(row)
	return append(b, body...), err
}

func (c *codec[R]) decode(key Key, value []byte) (*R, error) {
	row, err := c.decodeValue(value)
	if err != nil {
		return nil, fmt.Errorf("store: row %s of %s: %w", key, c.table.name, err)
	}
	return row, nil
}

func (c *codec[R]) decodeValue(value []byte) (*R, error) {
	version, n := binary.Uvarint(value)
	if n <= 0 {
		return nil, fmt.Errorf("no version: %w", ErrDamaged)
	}
	old := Old{value[n:]}
	switch v := uint64(c.table.version); {
	case version > v:
		return nil, fmt.Errorf("version %d is of a newer server (this one knows %d)", version, v)
	case version < v && c.migrate == nil:
		return nil, fmt.Errorf("version %d cannot be brought up to %d", version, v)
	case version < v:
		return c.migrate(int(version), old)
	}
	row := new(R)
	return row, old.Decode(any(row))
}
