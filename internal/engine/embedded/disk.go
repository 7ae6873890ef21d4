//go:build linux && amd64

package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/protocol"
	"skerry/internal/engine/embedded/rootfs"
)

// maxTemplates is how many sizes of disks are kept formatted.
const maxTemplates = 32

// formatter finds the program that makes file systems. Services have short PATHs.
func formatter() (string, error) {
	for _, name := range []string{"mke2fs", "/usr/sbin/mke2fs", "/sbin/mke2fs"} {
		if p, err := exec.LookPath(name); err == nil {
			return p, nil
		}
	}
	return "", errors.New("there is no program mke2fs")
}

// disks has the templates made of all disks that a container is to have: an empty
// file system of the size, which the supervisor copies. Formatting is main's, as it
// takes a program.
func (d *Driver) disks(ctx context.Context, root engine.Root, mounts ...engine.Mount) error {
	var sizes []int64
	if root.Size != 0 {
		sizes = append(sizes, root.Size)
	}
	for _, m := range mounts {
		if m.Kind == engine.MountDisk {
			sizes = append(sizes, m.Size)
		}
	}
	for _, size := range sizes {
		if err := d.template(ctx, size); err != nil {
			return fmt.Errorf("engine: a disk of %d bytes: %w", size, err)
		}
	}
	return nil
}

func (d *Driver) template(ctx context.Context, size int64) (err error) {
	dir := protocol.DiskFolder(d.cfg.Data)
	path := rootfs.Template(dir, size)
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	d.formatting.Lock()
	defer d.formatting.Unlock()
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	program, err := formatter()
	if err != nil {
		return fmt.Errorf("%w: %w", err, engine.ErrUnsupported)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	trim(dir)
	f, err := os.Create(path + ".new")
	if err == nil {
		err = errors.Join(f.Truncate(size+tables(size)), f.Close())
	}
	if err != nil {
		return err
	}
	// No journal, as it does not outlive the machine's run; nothing reserved; tables
	// that are written at their first use.
	cmd := exec.CommandContext(ctx, program, "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-i", "16384", "-I", "256",
		"-O", "none,extent,filetype,sparse_super,large_file,huge_file,dir_nlink,extra_isize,flex_bg,uninit_bg",
		"-E", "nodiscard,lazy_itable_init=1,root_owner=0:0", path+".new")
	cmd.Env = []string{"PATH=/usr/sbin:/sbin:/usr/bin:/bin", "MKE2FS_CONFIG=/dev/null"}
	if out, err := cmd.CombinedOutput(); err != nil {
		_ = os.Remove(path + ".new")
		return fmt.Errorf("%w: mke2fs: %w: %s", engine.ErrInvalid, err, strings.TrimSpace(string(out)))
	}
	return os.Rename(path+".new", path)
}

// tables is how many bytes an ext4 file system of so many bytes for files needs for
// itself: inodes of 256 bytes for every 16 KiB, for each group of 128 MiB its maps,
// and what the kernel reserves, a fiftieth but not more than 4,096 blocks.
func tables(size int64) int64 {
	groups := size/(128<<20) + 1
	return (size/60 + min(size/49, 16<<20) + groups*(16<<10) + (192 << 10)) &^ 4095
}

// trim makes place for one more template: the oldest goes.
func trim(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) < maxTemplates {
		return // it only saves space
	}
	age := func(e fs.DirEntry) int64 {
		if i, err := e.Info(); err == nil {
			return i.ModTime().UnixNano()
		}
		return 0
	}
	oldest := slices.MinFunc(entries, func(a, b fs.DirEntry) int { return int(min(max(age(a)-age(b), -1), 1)) })
	_ = os.Remove(filepath.Join(dir, oldest.Name()))
}

// hasDisks takes back what the supervisor says of disks where main lacks the
// program to format them.
func hasDisks(c *engine.Capabilities) {
	if !c.Disks {
		return
	}
	if _, err := formatter(); err != nil {
		c.Disks = false
		c.Missing = append(c.Missing, engine.Missing{What: "disks of a fixed size", Why: err.Error(), Mend: "apt-get install e2fsprogs"})
	}
}
