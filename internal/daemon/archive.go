package daemon

import (
	"archive/tar"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"skerry/internal/engine"
)

// pathStatHeader carries what a path is, as JSON in base 64.
const pathStatHeader = "X-Docker-Container-Path-Stat"

// readPath opens a path of a container as an archive and says what it is.
func (d *Daemon) readPath(c *call) (*containerRow, io.ReadCloser, *container.PathStat, error) {
	row, err := d.find(c.Context(), c.vars["id"])
	if err != nil {
		return nil, nil, nil, err
	}
	path := c.query.Get("path")
	if path == "" {
		return nil, nil, nil, badRequest("Bad parameter: path cannot be empty")
	}
	archive, err := d.engine.ReadFiles(c.Context(), engine.ID(row.ID), path)
	if err != nil {
		return nil, nil, nil, pathFault(err, path, row)
	}
	// The head is read for the header and sent again in front of the rest.
	head := &recorder{from: archive}
	h, err := tar.NewReader(head).Next()
	if err != nil {
		_ = archive.Close()
		return nil, nil, nil, pathFault(err, path, row)
	}
	info := h.FileInfo()
	st := &container.PathStat{Name: strings.TrimSuffix(h.Name, "/"), Size: info.Size(), Mode: info.Mode(), Mtime: info.ModTime(), LinkTarget: h.Linkname}
	if info.Mode()&fs.ModeSymlink == 0 {
		st.LinkTarget = ""
	}
	return row, head, st, nil
}

// recorder gives again what was read of an archive, and then the rest.
type recorder struct {
	from   io.ReadCloser
	read   []byte
	replay bool
}

func (r *recorder) Read(b []byte) (int, error) {
	if r.replay && len(r.read) > 0 {
		n := copy(b, r.read)
		r.read = r.read[n:]
		return n, nil
	}
	n, err := r.from.Read(b)
	if !r.replay {
		r.read = append(r.read, b[:n]...)
	}
	return n, err
}

func (r *recorder) Close() error { return r.from.Close() }

// pathFault gives Docker's text to a path that is not there.
func pathFault(err error, path string, row *containerRow) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, engine.ErrNotFound) {
		return notFound("Could not find the file %s in container %s", path, row.ID)
	}
	if text := "container rootfs is marked read-only"; errors.Is(err, engine.ErrState) && strings.Contains(err.Error(), text) {
		return badRequest("%s", text)
	}
	return err
}

func setStat(c *call, st *container.PathStat) error {
	text, err := json.Marshal(st)
	if err != nil {
		return err
	}
	c.w.Header().Set(pathStatHeader, base64.StdEncoding.EncodeToString(text))
	return nil
}

// statArchive answers HEAD /containers/{id}/archive.
func (d *Daemon) statArchive(c *call) error {
	_, archive, st, err := d.readPath(c)
	if err != nil {
		return err
	}
	defer archive.Close()
	if err := setStat(c, st); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

// getArchive answers GET /containers/{id}/archive.
func (d *Daemon) getArchive(c *call) error {
	row, archive, st, err := d.readPath(c)
	if err != nil {
		return err
	}
	defer archive.Close()
	if err := setStat(c, st); err != nil {
		return err
	}
	d.tell(row, events.ActionArchivePath, nil)
	archive.(*recorder).replay = true
	c.w.Header().Set("Content-Type", "application/x-tar")
	if _, err := io.Copy(c.w, archive); err != nil {
		return cut(c, err)
	}
	return nil
}

// putArchive answers PUT /containers/{id}/archive.
func (d *Daemon) putArchive(c *call) error {
	row, err := d.find(c.Context(), c.vars["id"])
	if err != nil {
		return err
	}
	path := c.query.Get("path")
	if path == "" {
		return badRequest("Bad parameter: path cannot be empty")
	}
	if err := d.engine.WriteFiles(c.Context(), engine.ID(row.ID), path, c.Body); err != nil {
		return pathFault(err, path, row)
	}
	d.tell(row, events.ActionExtractToDir, nil)
	c.w.WriteHeader(http.StatusOK)
	return nil
}

// export answers GET /containers/{id}/export: all files of the container.
func (d *Daemon) export(c *call) error {
	row, err := d.find(c.Context(), c.vars["id"])
	if err != nil {
		return err
	}
	archive, err := d.engine.ReadFiles(c.Context(), engine.ID(row.ID), "/")
	if err != nil {
		return err
	}
	defer archive.Close()
	d.tell(row, events.ActionExport, nil)
	c.w.Header().Set("Content-Type", "application/x-tar")
	if _, err := io.Copy(c.w, archive); err != nil {
		return cut(c, err)
	}
	return nil
}
