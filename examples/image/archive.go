// Package image makes an image without Docker: a static program and what an
// image's configuration says of it, in the form that `docker load` reads.
package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	_ "embed" // for the server's source
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
)

// Server is the source of the web server that goes into the image.
//
//go:embed server/main.go
var Server []byte

// Port is where the server listens.
const Port = 8080

// file is a regular file of an archive.
type file struct {
	name    string
	mode    int64
	content []byte
}

func write(w io.Writer, files ...file) error {
	t := tar.NewWriter(w)
	for _, f := range files {
		err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.content))})
		if err != nil {
			return err
		}
		if _, err := t.Write(f.content); err != nil {
			return err
		}
	}
	return t.Close()
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Archive writes an image called name whose one layer is the program.
func Archive(w io.Writer, name string, program []byte) error {
	var layer bytes.Buffer
	if err := write(&layer, file{"server", 0o755, program}); err != nil {
		return err
	}
	config, err := json.Marshal(map[string]any{
		"os": "linux", "architecture": "amd64",
		"config": map[string]any{
			"Entrypoint":   []string{"/server"},
			"User":         "1000",
			"ExposedPorts": map[string]any{fmt.Sprintf("%d/tcp", Port): map[string]any{}},
		},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest(layer.Bytes())}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]map[string]any{{
		"Config": digest(config) + ".json", "RepoTags": []string{name}, "Layers": []string{"layer.tar"},
	}})
	if err != nil {
		return err
	}
	return write(w, file{"layer.tar", 0o644, layer.Bytes()}, file{digest(config) + ".json", 0o644, config},
		file{"manifest.json", 0o644, manifest})
}
