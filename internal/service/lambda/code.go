package lambda

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	apis3 "skerry/internal/api/s3"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/base/ids"
	"skerry/internal/blob"
	"skerry/internal/op"
	"skerry/internal/store"
)

// The limits of "Lambda quotas", in bytes.
const (
	maxZip      = 50 << 20  // uploaded with the request
	maxUnzipped = 250 << 20 // with all layers
	maxEntries  = 65535
	maxSymlink  = 4096
)

// source is where code comes from: in the request, or in S3.
type source struct {
	Zip                  []byte
	Bucket, Key, Version *string
	Operation            string // for texts
}

// take reads the code that a caller names, unpacks it and keeps it. From S3 it is
// read with the caller's own rights.
func (s *Service) take(ctx context.Context, sc auth.Scope, from source) (code, error) {
	c, err := s.fetch(ctx, sc, from)
	if err != nil {
		return code{}, err
	}
	if _, err := s.codeDir(ctx, c.Ref); err != nil && !ours(err) { // if it is ours, the loop tries again
		return code{}, invalid(notUnzipped)
	}
	return c, nil
}

const notUnzipped = "Could not unzip uploaded file. Please check your file, then try to upload again."

func (s *Service) fetch(ctx context.Context, sc auth.Scope, from source) (code, error) {
	switch {
	case len(from.Zip) > 0 && from.Bucket != nil:
		return code{}, invalid("Please do not provide other FunctionCode parameters when providing a ZipFile.")
	case len(from.Zip) > maxZip:
		return code{}, awserr.New(413, "RequestEntityTooLargeException",
			"Request must be smaller than %d bytes for the %s operation", base64.StdEncoding.EncodedLen(maxZip), from.Operation)
	case len(from.Zip) > 0:
		return s.keep(ctx, bytes.NewReader(from.Zip))
	case from.Bucket == nil || from.Key == nil:
		return code{}, invalid("Please provide a source for function code.")
	}
	in := &apis3.GetObjectInput{Bucket: from.Bucket, Key: from.Key, VersionId: from.Version}
	out, err := op.Call[apis3.GetObjectOutput](ctx, s.Cloud, sc, "s3", "GetObject", in)
	if err != nil {
		return code{}, fromS3(err)
	}
	defer out.Body.Close()
	return s.keep(ctx, io.LimitReader(out.Body, maxUnzipped+1))
}

// fromS3 tells why S3 did not give the code, in Lambda's words.
func fromS3(err error) error {
	a, ok := errors.AsType[awserr.API](err)
	if !ok {
		return fmt.Errorf("lambda: read code: %w", err)
	}
	if a.ErrorCode() == "AccessDenied" {
		return awserr.New(403, "AccessDeniedException",
			"Your access has been denied by S3, please make sure your request credentials have permission to GetObject for the object. "+
				"S3 Error Code: %s. S3 Error Message: %s", a.ErrorCode(), a.ErrorMessage())
	}
	return invalid("Error occurred while GetObject. S3 Error Code: %s. S3 Error Message: %s", a.ErrorCode(), a.ErrorMessage())
}

// keep stores a zip file as a blob after a look at what it says it holds.
func (s *Service) keep(ctx context.Context, from io.Reader) (code, error) {
	w, err := s.Blobs.Create(ctx, blob.CreateOptions{})
	if err != nil {
		return code{}, fmt.Errorf("lambda: keep code: %w", err)
	}
	defer w.Abort()
	sum := sha256.New()
	size, err := io.Copy(io.MultiWriter(w, sum), from)
	if err != nil {
		return code{}, fmt.Errorf("lambda: keep code: %w", err)
	}
	if size > maxUnzipped {
		return code{}, invalid("Unzipped size must be smaller than %d bytes", maxUnzipped)
	}
	key, err := w.Commit()
	if err != nil {
		return code{}, fmt.Errorf("lambda: keep code: %w", err)
	}
	err = s.Store.Update(ctx, func(tx *store.Tx) error { return blobs.Put(tx, &blobRow{key, s.Clock.Now()}) })
	if err != nil {
		return code{}, fmt.Errorf("lambda: keep code: %w", err)
	}
	if err := s.checkZip(ctx, key); err != nil {
		return code{}, err // nothing refers to the blob: it is swept
	}
	return code{Ref: key, SHA256: base64.StdEncoding.EncodeToString(sum.Sum(nil)), Size: size}, nil
}

var errNotZip = errors.New("not a zip file")

// checkZip reads a zip file's directory. Its sizes are claims: unpack holds the
// contents to them.
func (s *Service) checkZip(ctx context.Context, key blob.Ref) error {
	r, err := s.Blobs.Open(ctx, key, blob.OpenOptions{})
	if err != nil {
		return fmt.Errorf("lambda: read code: %w", err)
	}
	defer r.Close()
	z, err := zip.NewReader(r, r.Size())
	if err != nil {
		return invalid(notUnzipped)
	}
	if len(z.File) == 0 {
		return invalid("Uploaded file must be a non-empty zip")
	}
	var total uint64
	for _, f := range z.File {
		if _, err := entryPath(f.Name); err != nil {
			return invalid(notUnzipped)
		}
		if total += f.UncompressedSize64; total > maxUnzipped || f.UncompressedSize64 > maxUnzipped {
			return invalid("Unzipped size must be smaller than %d bytes", maxUnzipped)
		}
	}
	if len(z.File) > maxEntries {
		return invalid(notUnzipped)
	}
	return nil
}

// entryPath cleans the name of a zip file's entry, and refuses one that leads out.
func entryPath(name string) (string, error) {
	name = strings.ReplaceAll(name, `\`, "/") // Windows tools write these
	clean := path.Clean(name)
	if path.IsAbs(name) || clean == ".." || strings.HasPrefix(clean, "../") || strings.ContainsRune(name, 0) {
		return "", errNotZip
	}
	return clean, nil
}

// folderOf names the folder of some zip files' contents.
func folderOf(refs []blob.Ref) string {
	name := sha256.New()
	for _, r := range refs {
		_, _ = io.WriteString(name, string(r))
	}
	return hex.EncodeToString(name.Sum(nil))
}

// codeDir returns the folder with the contents of zip files laid over each other
// in order (a function's code, or its layers), and makes it if it is not there. A
// folder is complete or not there, and can be removed when no sandbox uses it.
func (s *Service) codeDir(ctx context.Context, refs ...blob.Ref) (string, error) {
	dir := filepath.Join(s.Dir, "code", folderOf(refs))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	side := dir + "." + ids.Hex(8)
	if err := os.MkdirAll(side, 0o755); err != nil {
		return "", fmt.Errorf("lambda: unpack: %w", err)
	}
	defer os.RemoveAll(side)
	left := int64(maxUnzipped)
	for _, r := range refs {
		if err := s.unpack(ctx, r, side, &left); err != nil {
			return "", err
		}
	}
	if err := os.Rename(side, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		if _, there := os.Stat(dir); there != nil {
			return "", fmt.Errorf("lambda: unpack: %w", err)
		}
	}
	return dir, nil
}

// unpack writes a zip file's contents below a folder. Nothing is written outside
// of it, through symbolic links neither, and no more than *left bytes.
func (s *Service) unpack(ctx context.Context, key blob.Ref, dir string, left *int64) error {
	r, err := s.Blobs.Open(ctx, key, blob.OpenOptions{})
	if err != nil {
		return fmt.Errorf("lambda: read code: %w", err)
	}
	defer r.Close()
	z, err := zip.NewReader(r, r.Size())
	if err != nil {
		return fmt.Errorf("lambda: unpack %s: %w", key, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("lambda: unpack: %w", err)
	}
	defer root.Close()
	for _, f := range z.File {
		if err := unpackEntry(root, f, left); err != nil {
			return fmt.Errorf("lambda: unpack %s: %s: %w", key, f.Name, err)
		}
	}
	return nil
}

func unpackEntry(root *os.Root, f *zip.File, left *int64) error {
	name, err := entryPath(f.Name)
	if err != nil || name == "." {
		return err
	}
	unix := f.CreatorVersion>>8 == 3 && f.ExternalAttrs>>16 != 0
	mode := f.Mode()
	if mode.IsDir() || strings.HasSuffix(f.Name, "/") {
		return root.MkdirAll(name, 0o755)
	}
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	in, err := f.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	switch {
	case mode&fs.ModeSymlink != 0:
		to, err := io.ReadAll(io.LimitReader(in, maxSymlink))
		if err != nil {
			return err
		}
		return root.Symlink(string(to), name)
	case !mode.IsRegular():
		return nil // devices and pipes are not unpacked
	}
	perm := mode.Perm()
	if !unix {
		perm = 0o644
	}
	return writeFile(root, name, perm, in, left)
}

func writeFile(root *os.Root, name string, perm fs.FileMode, in io.Reader, left *int64) error {
	out, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(out, io.LimitReader(in, *left+1))
	if *left -= n; err == nil && *left < 0 {
		err = fmt.Errorf("more than %d bytes", maxUnzipped)
	}
	if err == nil {
		err = out.Chmod(perm)
	}
	return errors.Join(err, out.Close())
}
