package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"

	"skerry/internal/engine"
)

// The folders and files of every prepared root, unless given.
var (
	rootDirs  = []string{"/dev", "/etc", "/home", "/mnt", "/opt", "/proc", "/root", "/run", "/sys", "/tmp", "/var/lib", "/var/log", "/var/runtime", "/var/task", "/var/tmp"}
	rootFiles = map[string]string{
		"/etc/passwd":        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
		"/etc/group":         "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
		"/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
	}
)

// ownFiles are made by Docker in every container.
var ownFiles = []string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}

// prepare has the image of a prepared root loaded, adds the machine's folders to
// the mounts, and returns the image's name.
func (d *Driver) prepare(ctx context.Context, h engine.HostRoot, mounts *[]mount) (string, error) {
	if h.Folders == nil {
		h.Folders = engine.SystemFolders
	}
	files := []file{}
	for _, dir := range slices.Concat(rootDirs, h.Dirs) {
		files = append(files, file{name: dir, mode: fs.ModeDir | 0o755})
	}
	for name, text := range rootFiles {
		files = append(files, file{name: name, mode: 0o644, content: []byte(text)})
	}
	for _, f := range h.Files {
		mode := f.Mode
		if mode == 0 {
			mode = 0o644
		}
		if !slices.Contains(ownFiles, path.Clean(f.Path)) {
			files = append(files, file{name: f.Path, mode: mode.Perm(), content: f.Content})
		}
	}
	for _, folder := range h.Folders {
		folder = path.Clean(folder)
		st, err := os.Lstat(folder)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return "", fmt.Errorf("docker: %w", err)
		case st.Mode()&fs.ModeSymlink != 0:
			link, err := os.Readlink(folder)
			if err != nil {
				return "", fmt.Errorf("docker: %w", err)
			}
			files = append(files, file{name: folder, mode: fs.ModeSymlink | 0o777, link: link})
		default:
			if st.IsDir() {
				files = append(files, file{name: folder, mode: fs.ModeDir | 0o755})
			} else {
				files = append(files, file{name: folder, mode: 0o644})
			}
			*mounts = append(*mounts, mount{"bind", folder, folder, true})
		}
	}
	return d.rootImage(ctx, files)
}

// rootImage loads the image of some files, if the daemon does not have it.
func (d *Driver) rootImage(ctx context.Context, files []file) (string, error) {
	layer, err := archive(files)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(layer)
	name := "skerry.local/root:" + hex.EncodeToString(sum[:8])
	d.making.Lock()
	defer d.making.Unlock()
	if d.roots[name] {
		return name, nil
	}
	err = d.do(ctx, http.MethodGet, "/images/"+name+"/json", nil, nil, nil)
	if errors.Is(err, engine.ErrNotFound) {
		err = d.loadRoot(ctx, name, hex.EncodeToString(sum[:]), layer)
	}
	d.roots[name] = err == nil
	return name, err
}

func (d *Driver) loadRoot(ctx context.Context, name, diff string, layer []byte) error {
	config, err := json.Marshal(map[string]any{
		"os": "linux", "architecture": runtime.GOARCH, "config": map[string]any{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + diff}},
	})
	if err != nil {
		return fmt.Errorf("docker: %w", err)
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{name}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return fmt.Errorf("docker: %w", err)
	}
	whole, err := archive([]file{{name: "layer.tar", mode: 0o644, content: layer}, {name: "config.json", mode: 0o644, content: config},
		{name: "manifest.json", mode: 0o644, content: manifest}})
	if err != nil {
		return err
	}
	_, err = d.load(ctx, bytes.NewReader(whole), nil)
	return err
}

// file is of an archive.
type file struct {
	name    string
	mode    fs.FileMode
	content []byte
	link    string
}

// archive writes files with the folders above them, sorted; of two with a name
// the later counts.
func archive(files []file) ([]byte, error) {
	byName := map[string]file{}
	for _, f := range files {
		f.name = strings.TrimPrefix(path.Clean("/"+f.name), "/")
		byName[f.name] = f
		for dir := path.Dir(f.name); dir != "."; dir = path.Dir(dir) {
			if _, ok := byName[dir]; !ok {
				byName[dir] = file{name: dir, mode: fs.ModeDir | 0o755}
			}
		}
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		f := byName[name]
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: int64(f.mode.Perm()), Size: int64(len(f.content))}
		switch {
		case f.mode.IsDir():
			h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
		case f.link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.link
		}
		if f.name == "tmp" || f.name == "var/tmp" {
			h.Mode = 0o1777
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("docker: %w", err)
		}
		if _, err := io.Copy(w, bytes.NewReader(f.content)); err != nil {
			return nil, fmt.Errorf("docker: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("docker: %w", err)
	}
	return out.Bytes(), nil
}
