package enginetest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"

	"skerry/internal/engine"
)

// ImageFile is a file of a layer.
type ImageFile struct {
	Name     string      // "bin/busybox"; a name that ends with '/' is a folder
	Mode     fs.FileMode // zero is 0644, 0755 of a folder
	UID, GID int
	Content  []byte
	Link     string // a symbolic link to it
	HardLink string // a hard link to a name in the same layer
}

// ImageSpec is an image for Archive.
type ImageSpec struct {
	Names  []string
	Config engine.ImageConfig // Entrypoint, Command, Env, Dir, User, Labels, Ports, Volumes, StopSignal and Health count
	Layers [][]ImageFile      // the lowest first
	// Platform of the image; zero is linux/amd64.
	Platform engine.Platform
}

// Archive builds images as `docker save` writes them, with an OCI layout beside.
// The same images give the same bytes.
func Archive(all ...ImageSpec) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	written := map[string]bool{}
	add := func(name string, content []byte) {
		if written[name] {
			return
		}
		written[name] = true
		must(w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), ModTime: epoch}))
		_, err := w.Write(content)
		must(err)
	}
	blob := func(mediaType string, content []byte) map[string]any {
		sum := sha256.Sum256(content)
		name := hex.EncodeToString(sum[:])
		add("blobs/sha256/"+name, content)
		return map[string]any{"mediaType": mediaType, "digest": "sha256:" + name, "size": len(content)}
	}
	file := func(d map[string]any) string { return "blobs/sha256/" + d["digest"].(string)[7:] }
	var saved, index []any
	for _, one := range all {
		var diffs, files []string
		var layers []any
		for _, l := range one.Layers {
			d := blob("application/vnd.oci.image.layer.v1.tar", Layer(l...))
			layers, diffs, files = append(layers, d), append(diffs, d["digest"].(string)), append(files, file(d))
		}
		config := blob("application/vnd.oci.image.config.v1+json", encode(configuration(one, diffs)))
		m := blob("application/vnd.oci.image.manifest.v1+json", encode(map[string]any{
			"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers,
		}))
		saved = append(saved, map[string]any{"Config": file(config), "RepoTags": one.Names, "Layers": files})
		for _, n := range one.Names {
			entry := map[string]any{"annotations": map[string]string{"io.containerd.image.name": n}}
			for k, v := range m {
				entry[k] = v
			}
			index = append(index, entry)
		}
	}
	add("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	add("index.json", encode(map[string]any{"schemaVersion": 2, "manifests": index}))
	add("manifest.json", encode(saved))
	must(w.Close())
	return out.Bytes()
}

var epoch = time.Unix(1_700_000_000, 0)

func configuration(i ImageSpec, diffs []string) map[string]any {
	p := i.Platform
	if p == (engine.Platform{}) {
		p = engine.Platform{OS: "linux", Architecture: "amd64"}
	}
	config := map[string]any{
		"Entrypoint": i.Config.Entrypoint, "Cmd": i.Config.Command, "Env": i.Config.Env, "WorkingDir": i.Config.Dir, "User": i.Config.User,
		"Labels": i.Config.Labels, "ExposedPorts": set(i.Config.Ports), "Volumes": set(i.Config.Volumes), "StopSignal": i.Config.StopSignal,
	}
	if h := i.Config.Health; h != nil {
		config["Healthcheck"] = map[string]any{
			"Test": h.Test, "Interval": h.Interval, "Timeout": h.Timeout, "StartPeriod": h.Start, "StartInterval": h.StartEvery, "Retries": h.Retries,
		}
	}
	return map[string]any{
		"created": epoch.UTC(), "architecture": p.Architecture, "os": p.OS, "variant": p.Variant, "config": config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
	}
}

func set(names []string) map[string]any {
	m := map[string]any{}
	for _, n := range names {
		m[n] = struct{}{}
	}
	return m
}

// Layer builds the tar archive of a layer. Folders on the way that are not given
// are made, with mode 0755.
func Layer(files ...ImageFile) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	made := map[string]bool{}
	folder := func(name string, mode fs.FileMode, uid, gid int) {
		made[name] = true
		must(w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: tarMode(mode), Uid: uid, Gid: gid, ModTime: epoch}))
	}
	for _, f := range files {
		name := path.Clean(f.Name)
		var missing []string
		for dir := path.Dir(name); dir != "." && dir != "/" && !made[dir]; dir = path.Dir(dir) {
			missing = append(missing, dir)
		}
		for _, dir := range slices.Backward(missing) {
			folder(dir, 0o755, 0, 0)
		}
		h := &tar.Header{Name: name, Mode: tarMode(f.Mode), Uid: f.UID, Gid: f.GID, ModTime: epoch, Size: int64(len(f.Content))}
		switch {
		case f.Name[len(f.Name)-1] == '/':
			mode := f.Mode
			if mode == 0 {
				mode = 0o755
			}
			folder(name, mode, f.UID, f.GID)
			continue
		case f.Link != "":
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.Link, 0o777
		case f.HardLink != "":
			h.Typeflag, h.Linkname = tar.TypeLink, f.HardLink
		}
		must(w.WriteHeader(h))
		_, err := w.Write(f.Content)
		must(err)
	}
	must(w.Close())
	return out.Bytes()
}

func tarMode(m fs.FileMode) int64 {
	mode := int64(m.Perm())
	if mode == 0 && m&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) == 0 {
		mode = 0o644
	}
	for bit, is := range map[int64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if m&is != 0 {
			mode |= bit
		}
	}
	return mode
}

// busyboxFile is where Debian's package busybox-static has it.
const busyboxFile = "/bin/busybox"

// Busybox is the image of a small Linux with the names given, made of the machine's
// static busybox; its error says that the machine has none.
func Busybox(names ...string) (ImageSpec, error) {
	program, err := os.ReadFile(busyboxFile)
	if err != nil {
		return ImageSpec{}, fmt.Errorf("no static busybox (apt-get install busybox-static): %w", err)
	}
	files := []ImageFile{
		{Name: "tmp/", Mode: 0o777 | fs.ModeSticky}, {Name: "root/", Mode: 0o700}, {Name: "proc/"}, {Name: "sys/"}, {Name: "dev/"},
		{Name: "etc/passwd", Content: []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\napp:x:1000:1000:app:/home:/bin/sh\n")},
		{Name: "etc/group", Content: []byte("root:x:0:\nnobody:x:65534:\napp:x:1000:\nextra:x:2000:app\n")},
		{Name: "bin/busybox", Mode: 0o755, Content: program},
	}
	for _, name := range []string{
		"sh", "ash", "cat", "echo", "ls", "env", "id", "sleep", "true", "false", "mkdir", "rm", "touch", "stat", "mount", "hostname", "ip", "ping",
		"wget", "nc", "httpd", "ps", "kill", "grep", "sed", "awk", "head", "tail", "wc", "test", "dd", "df", "od", "seq", "chmod", "chown", "ln",
		"readlink", "sort", "tr", "cut", "printf", "expr", "date", "uname", "whoami", "yes", "tee", "find", "stty", "tty", "nproc", "ulimit", "free",
	} {
		files = append(files, ImageFile{Name: "bin/" + name, HardLink: "bin/busybox"})
	}
	return ImageSpec{
		Names: names, Layers: [][]ImageFile{files},
		Config: engine.ImageConfig{Command: []string{"sh"}, Env: []string{"PATH=/bin"}},
	}, nil
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	must(err)
	return b
}

// must is for what cannot fail in memory.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
