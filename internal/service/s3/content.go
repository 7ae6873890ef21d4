package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"skerry/internal/base/awserr"
	"skerry/internal/base/ids"
	"skerry/internal/blob"
	"skerry/internal/store"
)

const (
	maxPut    = 5 << 30 // bytes of one PutObject or UploadPart
	maxObject = 5 << 40 // bytes of an object
	copyUnit  = 256 << 10
	saltSize  = 16

	// grace is how long after its deletion a content can still be opened by those
	// who read the row before.
	grace = time.Minute
)

func newContentID() string { return ids.Alnum(22) }

// intake is a body that has come in whole and was found right. If it is a blob,
// it is durable, and discard deletes it unless a row has come to refer to it.
type intake struct {
	row     contentRow
	claimed []byte // digest of the algorithm that the client used
	used    bool
	s       *Service
}

// discard deletes what no row refers to. It is deferred by who receives.
func (i *intake) discard(ctx context.Context) {
	if i != nil && !i.used && i.row.Blob != "" {
		if err := i.s.Blobs.Delete(context.WithoutCancel(ctx), i.row.Blob); err != nil {
			i.s.Log.Warn("s3: discard blob", "ref", i.row.Blob, "error", err)
		}
	}
}

// receive reads a body to its end, encrypts and stores it, and verifies it. A
// short one stays in memory, to be stored in the row. length is what the client
// announced, if it did.
func (s *Service) receive(ctx context.Context, body io.Reader, length *int64, dataKey []byte, c claim) (*intake, error) {
	if length != nil && *length > maxPut {
		return nil, entityTooLarge(*length, maxPut)
	}
	if body == nil {
		body = bytes.NewReader(nil)
	}
	in := &intake{s: s, row: contentRow{ID: newContentID(), Part: 1, Salt: random(saltSize)}}
	d := c.digester()
	first := make([]byte, firstRead(length))
	n, err := io.ReadFull(body, first)
	switch {
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		d.Write(first[:n])
		in.row.Size = int64(n)
		in.row.Inline = wrap(partKey(dataKey, in.row.Salt), first[:n])
	case err != nil:
		return nil, bodyError(err)
	default:
		err = s.spool(ctx, in, io.MultiReader(bytes.NewReader(first), body), d, dataKey)
		if err != nil {
			return nil, err
		}
	}
	in.row.MD5, in.row.Sum, in.claimed = d.md5.Sum(nil), d.kept.Sum(nil), d.sum.Sum(nil)
	if length != nil && in.row.Size != *length {
		err = awserr.New(400, "IncompleteBody", "You did not provide the number of bytes specified by the Content-Length HTTP header.")
	} else {
		err = c.verify(in.row.MD5, in.claimed, body)
	}
	if err != nil {
		in.discard(ctx)
		return nil, err
	}
	return in, nil
}

// firstRead is one byte more than the body is expected to have, so that its end
// is met, or than is stored inline.
func firstRead(length *int64) int64 {
	if length != nil && *length >= 0 && *length < blob.InlineMax {
		return *length + 1
	}
	return blob.InlineMax + 1
}

// spool writes a long body into a blob.
func (s *Service) spool(ctx context.Context, in *intake, body io.Reader, d digester, dataKey []byte) error {
	w, err := s.Blobs.Create(ctx, blob.CreateOptions{Key: partKey(dataKey, in.row.Salt)})
	if err != nil {
		return fmt.Errorf("s3: create blob: %w", err)
	}
	defer w.Abort()
	buf := s.buffers.Get().(*[copyUnit]byte)
	defer s.buffers.Put(buf)
	for {
		n, err := io.ReadFull(body, buf[:])
		in.row.Size += int64(n)
		if in.row.Size > maxPut {
			return entityTooLarge(in.row.Size, maxPut)
		}
		d.Write(buf[:n])
		if _, werr := w.Write(buf[:n]); werr != nil {
			return fmt.Errorf("s3: write blob: %w", werr)
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			return bodyError(err)
		}
	}
	if in.row.Blob, err = w.Commit(); err != nil {
		return fmt.Errorf("s3: commit blob: %w", err)
	}
	return nil
}

// bodyError is what a client gets whose body could not be read. What is wrong
// with the signature, a chunk or a hash comes as an AWS error already.
func bodyError(err error) error {
	if _, ok := errors.AsType[awserr.API](err); ok {
		return err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return awserr.New(400, "IncompleteBody", "You did not provide the number of bytes specified by the Content-Length HTTP header.")
	}
	return awserr.New(400, "RequestTimeout", "Your socket connection to the server was not read from or written to within the timeout period. Idle connections will be closed.")
}

// share lets one more object refer to a content.
func share(tx *store.Tx, id string) error {
	row, err := shares.Get(tx, store.K(id))
	if errors.Is(err, store.ErrNotFound) {
		row, err = &shareRow{ID: id, Count: 1}, nil
	}
	if err != nil {
		return err
	}
	row.Count++
	return shares.Put(tx, row)
}

// release ends an object's claim to its content. The last one's bytes are
// deleted: at once if they are in a row, else by the garbage loop.
func (s *Service) release(tx *store.Tx, o *objectRow) error {
	if o.Content == "" {
		return nil
	}
	row, err := shares.Get(tx, store.K(o.Content))
	if err == nil {
		if row.Count--; row.Count == 1 {
			return shares.Delete(tx, store.K(o.Content))
		}
		return shares.Put(tx, row)
	}
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if o.Parts == 0 && o.Size <= blob.InlineMax {
		return contents.Delete(tx, store.K(o.Content, 1))
	}
	return s.drop(tx, garbageRow{Content: o.Content})
}

// drop hands something to the garbage loop.
func (s *Service) drop(tx *store.Tx, g garbageRow) error {
	g.ID = ids.Hex(16)
	g.After = s.Clock.Now().Add(grace)
	return garbage.Insert(tx, &g)
}

// span is a range of bytes of an object.
type span struct{ off, n int64 }

// head reads the row that the reading of an object begins with: its bytes, or the
// sizes of its parts. It is read in the transaction that found the object, as an
// overwriting may delete it right after; nil if the object has no bytes.
func head(tx *store.Tx, o *objectRow) (*contentRow, error) {
	if o.Content == "" {
		return nil, nil
	}
	part := 1
	if o.Parts > 0 {
		part = 0
	}
	row, err := contents.Get(tx, store.K(o.Content, part))
	if err != nil {
		return nil, fmt.Errorf("s3: content %s: %w", o.Content, err)
	}
	return row, nil
}

// read opens a range of an object's bytes. first is the object's head.
func (s *Service) read(ctx context.Context, o *objectRow, first *contentRow, dataKey []byte, at span) (io.ReadCloser, error) {
	if at.n == 0 {
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	r := &reader{ctx: ctx, s: s, id: o.Content, key: dataKey, left: at.n}
	if o.Parts == 0 {
		var err error
		r.part, err = s.openRow(ctx, first, dataKey, at.off)
		return r, err
	}
	s.reading.begin(o.Content)
	r.counted, r.runs = true, first.Runs
	err := r.seek(at.off)
	if err == nil {
		err = r.next() // so that a missing content is told in time
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// reader reads the parts of a content one after the other.
type reader struct {
	ctx  context.Context
	s    *Service
	id   string
	key  []byte
	runs []run // what is still to come
	skip int64 // bytes of the first part to skip
	left int64 // bytes to read in all
	part io.ReadCloser

	counted bool // in s.reading
}

// seek moves to an offset from the start, before anything was read.
func (r *reader) seek(off int64) error {
	for len(r.runs) > 0 {
		head := &r.runs[0]
		if total := head.Size * int64(head.Count); off >= total {
			off -= total
			r.runs = r.runs[1:]
			continue
		}
		n := int32(off / head.Size)
		// A copy, as the caller's row stays as it is.
		r.runs = append([]run{{head.First + n, head.Count - n, head.Size}}, r.runs[1:]...)
		r.skip = off - int64(n)*head.Size
		return nil
	}
	return fmt.Errorf("s3: content %s ends before offset", r.id)
}

// next opens the next part.
func (r *reader) next() error {
	if len(r.runs) == 0 {
		return fmt.Errorf("s3: content %s ends early: %w", r.id, io.ErrUnexpectedEOF)
	}
	head := r.runs[0]
	if head.Count > 1 {
		r.runs[0].First++
		r.runs[0].Count--
	} else {
		r.runs = r.runs[1:]
	}
	part, err := r.s.openPart(r.ctx, r.id, head.First, r.key, r.skip)
	r.part, r.skip = part, 0
	return err
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	for r.left > 0 {
		if r.part == nil {
			if err := r.next(); err != nil {
				return 0, err
			}
		}
		n, err := r.part.Read(p[:min(int64(len(p)), r.left)])
		r.left -= int64(n)
		if err == io.EOF {
			err = r.part.Close()
			r.part = nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.EOF
}

// Close implements io.Closer.
func (r *reader) Close() error {
	if r.counted {
		r.counted = false
		r.s.reading.end(r.id)
	}
	if r.part == nil {
		return nil
	}
	err := r.part.Close()
	r.part, r.left = nil, 0
	return err
}

// openPart opens the bytes of a part from an offset on.
func (s *Service) openPart(ctx context.Context, id string, part int32, dataKey []byte, skip int64) (io.ReadCloser, error) {
	var row *contentRow
	err := s.Store.View(ctx, func(tx *store.Tx) (err error) {
		row, err = contents.Get(tx, store.K(id, part))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("s3: content %s part %d: %w", id, part, err)
	}
	return s.openRow(ctx, row, dataKey, skip)
}

// openRow opens the bytes of a row from an offset on.
func (s *Service) openRow(ctx context.Context, row *contentRow, dataKey []byte, skip int64) (io.ReadCloser, error) {
	key := partKey(dataKey, row.Salt)
	if row.Blob == "" {
		text, err := unwrap(key, row.Inline)
		if err != nil {
			return nil, fmt.Errorf("s3: content %s part %d: %w", row.ID, row.Part, err)
		}
		return io.NopCloser(bytes.NewReader(text[skip:])), nil
	}
	r, err := s.Blobs.Open(ctx, row.Blob, blob.OpenOptions{Key: key})
	if err != nil {
		return nil, fmt.Errorf("s3: content %s part %d: %w", row.ID, row.Part, err)
	}
	if skip > 0 {
		if _, err := r.Seek(skip, io.SeekStart); err != nil {
			r.Close()
			return nil, fmt.Errorf("s3: content %s part %d: %w", row.ID, row.Part, err)
		}
	}
	return r, nil
}
