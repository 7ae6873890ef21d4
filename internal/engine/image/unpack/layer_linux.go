package unpack

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The names by which a layer says what the layers below lose.
const (
	whiteoutPrefix = ".wh."
	metaPrefix     = ".wh..wh." // of aufs; only the opaque mark means anything
	opaqueMark     = ".wh..wh..opq"
	opaqueAttr     = "trusted.overlay.opaque"
)

// maxTail is how much may follow the end of the archive.
const maxTail = 16 << 20

// Layer unpacks a tar archive into an empty folder, and reads it to its end. On an
// error, what has been unpacked is left in the folder. Errors: ErrInvalid,
// ErrTooLarge, and syscall.ENOSPC.
func Layer(ctx context.Context, archive io.Reader, dir string, l Limits) (Result, error) {
	root, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return Result{}, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	x := &extractor{
		ctx: ctx, root: root, limits: l, buf: make([]byte, 256<<10),
		times: map[string]time.Time{}, whiteouts: map[string]bool{}, implied: map[string]bool{".": true},
	}
	defer x.close()
	if x.limits.Entries == 0 {
		x.limits.Entries = DefaultEntries
	}
	if x.limits.Reserve == 0 {
		x.limits.Reserve = 64 << 20
	}
	if err := x.room(0); err != nil {
		return Result{}, err
	}
	if err := x.all(tar.NewReader(&reader{ctx, archive})); err != nil {
		return x.result, err
	}
	if n, err := io.CopyN(io.Discard, &reader{ctx, archive}, maxTail+1); err == nil {
		return x.result, invalid("more than %d bytes after its end", maxTail)
	} else if n >= 0 && err != io.EOF {
		return x.result, err
	}
	for name := range x.implied {
		x.result.Implied = append(x.result.Implied, name)
	}
	slices.Sort(x.result.Implied)
	return x.result, nil
}

// reader ends with its context.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// extractor is the unpacking of one layer.
type extractor struct {
	ctx    context.Context
	root   int
	limits Limits
	result Result
	buf    []byte

	open      []folder             // the way to the folder of the last entry
	times     map[string]time.Time // of folders, set at the end
	whiteouts map[string]bool      // what is hidden of the layers below; true while a whiteout stands for it
	implied   map[string]bool
	names     int   // bytes of names in the maps
	checked   int64 // written bytes for which there was room
}

// folder is an open folder of the layer.
type folder struct {
	name string
	fd   int
}

func (x *extractor) close() {
	x.leave(0)
	_ = unix.Close(x.root)
}

func (x *extractor) leave(n int) {
	for _, f := range x.open[n:] {
		_ = unix.Close(f.fd)
	}
	x.open = x.open[:n]
}

func (x *extractor) all(archive *tar.Reader) error {
	for {
		h, err := archive.Next()
		if err == io.EOF {
			return x.setTimes()
		}
		if err != nil {
			return broken(err)
		}
		if x.result.Entries++; x.result.Entries > x.limits.Entries {
			return fmt.Errorf("%w: more than %d entries", ErrTooLarge, x.limits.Entries)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := x.entry(h, archive); err != nil {
			if errors.Is(err, unix.ENAMETOOLONG) {
				err = invalid("a name that is too long")
			}
			return fmt.Errorf("%.200q: %w", h.Name, err)
		}
	}
}

// broken tells faults of the archive from those of its source.
func broken(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, tar.ErrFieldTooLong) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return err
}

// clean returns a name of the archive as a path beneath the root.
func clean(name string) (string, error) {
	if strings.ContainsRune(name, 0) {
		return "", invalid("a zero byte in a name")
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", invalid("a path out of the layer")
		}
	}
	return path.Clean(strings.TrimLeft(name, "/")), nil
}

func (x *extractor) entry(h *tar.Header, archive io.Reader) error {
	name, err := clean(h.Name)
	if err != nil {
		return err
	}
	if name == "." {
		if h.Typeflag != tar.TypeDir {
			return invalid("the root is no folder")
		}
		delete(x.implied, ".")
		return x.describeFolder(x.root, name, h)
	}
	dir, base := path.Split(name)
	dir = path.Clean(dir)
	for part := range strings.SplitSeq(dir, "/") {
		if strings.HasPrefix(part, metaPrefix) {
			return nil
		}
		if strings.HasPrefix(part, whiteoutPrefix) {
			return invalid("a whiteout that is a folder")
		}
	}
	if strings.HasPrefix(base, metaPrefix) && base != opaqueMark {
		return nil
	}
	parent, err := x.folder(dir)
	if err != nil {
		return err
	}
	switch {
	case base == opaqueMark:
		return x.opaque(parent)
	case strings.HasPrefix(base, whiteoutPrefix):
		return x.whiteout(parent, dir, strings.TrimPrefix(base, whiteoutPrefix))
	}
	if err := x.uncover(parent, name, base); err != nil {
		return err
	}
	err = x.make(parent, name, base, h, archive)
	if errors.Is(err, unix.EEXIST) { // the last entry of a name is the one that counts
		if err = x.remove(parent, name, base); err == nil {
			err = x.make(parent, name, base, h, archive)
		}
	}
	return err
}

// make makes what an entry says. Errors: EEXIST, before anything has been made or
// read, when the name is there and they are not both folders.
func (x *extractor) make(parent int, name, base string, h *tar.Header, archive io.Reader) (err error) {
	switch h.Typeflag {
	case tar.TypeDir:
		err = x.makeFolder(parent, name, base, h)
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		err = x.file(parent, base, h, archive)
	case tar.TypeLink:
		err = x.link(parent, base, h)
	case tar.TypeSymlink:
		err = x.symlink(parent, base, h)
	case tar.TypeFifo:
		if err = unix.Mknodat(parent, base, unix.S_IFIFO|0o600, 0); err == nil {
			err = x.describeAt(parent, base, h)
		}
	case tar.TypeChar, tar.TypeBlock:
		return nil
	default:
		return invalid("an entry of the unknown type %q", h.Typeflag)
	}
	return err
}

// uncover takes a whiteout of this layer away where the layer has the name itself.
func (x *extractor) uncover(parent int, name, base string) error {
	if !x.whiteouts[name] {
		return nil
	}
	x.whiteouts[name] = false
	return unix.Unlinkat(parent, base, 0)
}

// covered tells whether there is a whiteout of a name, be it gone by now.
func (x *extractor) covered(name string) bool {
	_, ok := x.whiteouts[name]
	return ok
}

// remove takes away what an earlier entry has made, a folder with all that is in
// it, and forgets what is known of that.
func (x *extractor) remove(parent int, name, base string) error {
	err := unix.Unlinkat(parent, base, 0)
	if err != unix.EISDIR {
		return err
	}
	for i, f := range x.open {
		if f.name == name {
			x.leave(i)
			break
		}
	}
	delete(x.times, name)
	delete(x.implied, name)
	fd, err := enter(parent, base)
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(fd), base)
	defer dir.Close()
	for {
		all, err := dir.Readdirnames(1000)
		if err == io.EOF {
			return unix.Unlinkat(parent, base, unix.AT_REMOVEDIR)
		}
		if err != nil {
			return err
		}
		for _, child := range all {
			inside := name + "/" + child
			if err := x.remove(fd, inside, child); err != nil {
				return err
			}
			delete(x.whiteouts, inside)
		}
		if _, err := dir.Seek(0, io.SeekStart); err != nil { // some file systems lose their place
			return err
		}
	}
}

// folder opens the folder of an entry, and makes what is missing of it.
func (x *extractor) folder(name string) (int, error) {
	if name == "." {
		return x.root, nil
	}
	n := 0
	for n < len(x.open) && (x.open[n].name == name || strings.HasPrefix(name, x.open[n].name+"/")) {
		n++
	}
	x.leave(n)
	at, fd := "", x.root
	if n > 0 {
		at, fd = x.open[n-1].name, x.open[n-1].fd
	}
	for at != name {
		part, _, _ := strings.Cut(strings.TrimPrefix(name[len(at):], "/"), "/")
		at = path.Join(at, part)
		next, err := enter(fd, part)
		if err == unix.ENOENT || x.whiteouts[at] {
			next, err = x.imply(fd, at, part)
		}
		if err == unix.ELOOP || err == unix.ENOTDIR || err == unix.EXDEV {
			return -1, invalid("%.200q is no folder of the layer", at)
		}
		if err != nil {
			return -1, &os.PathError{Op: "open", Path: at, Err: err}
		}
		if len(x.open) >= maxDepth {
			_ = unix.Close(next)
			return -1, invalid("folders more than %d deep", maxDepth)
		}
		x.open = append(x.open, folder{at, next})
		fd = next
	}
	return fd, nil
}

// maxDepth bounds the folders that are open at once.
const maxDepth = 400

// imply makes a folder that the archive has no entry for.
func (x *extractor) imply(parent int, name, base string) (int, error) {
	if err := x.uncover(parent, name, base); err != nil {
		return -1, err
	}
	if err := x.remember(name); err != nil {
		return -1, err
	}
	if err := unix.Mkdirat(parent, base, 0o755); err != nil {
		return -1, err
	}
	fd, err := enter(parent, base)
	if err != nil {
		return -1, err
	}
	x.implied[name] = true
	if err := unix.Fchmod(fd, 0o755); err != nil || !x.covered(name) {
		return fd, err
	}
	return fd, x.opaque(fd)
}

// enter opens a folder in a folder, and follows nothing.
func enter(parent int, name string) (int, error) {
	return unix.Openat2(parent, name, &unix.OpenHow{
		Flags:   unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_RDONLY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	})
}

// remember counts a name that is kept in memory.
func (x *extractor) remember(name string) error {
	if x.names += len(name) + 64; x.names > maxNames {
		return fmt.Errorf("%w: too many folders", ErrTooLarge)
	}
	return nil
}

func (x *extractor) opaque(fd int) error {
	return attribute(unix.Fsetxattr(fd, opaqueAttr, []byte("y"), 0), opaqueAttr)
}

func attribute(err error, name string) error {
	if err != nil {
		return fmt.Errorf("set %.80s: %w", name, err)
	}
	return nil
}

// whiteout hides a name of the layers below.
func (x *extractor) whiteout(parent int, dir, base string) error {
	if base == "" || base == "." || base == ".." {
		return invalid("a whiteout of nothing")
	}
	name := path.Join(dir, base)
	if err := x.remember(name); err != nil {
		return err
	}
	err := unix.Mknodat(parent, base, unix.S_IFCHR, 0)
	x.whiteouts[name] = x.whiteouts[name] || err == nil
	if err != unix.EEXIST {
		return err
	}
	// The layer has it itself: what is below is hidden by a file anyway, and by a
	// folder that is opaque.
	fd, err := enter(parent, base)
	if err == unix.ENOTDIR || err == unix.ELOOP {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return x.opaque(fd)
}

func (x *extractor) makeFolder(parent int, name, base string, h *tar.Header) error {
	if err := unix.Mkdirat(parent, base, 0o700); err != nil && err != unix.EEXIST {
		return err
	}
	fd, err := enter(parent, base)
	if err == unix.ENOTDIR || err == unix.ELOOP {
		return unix.EEXIST
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	delete(x.implied, name)
	if x.covered(name) {
		if err := x.opaque(fd); err != nil {
			return err
		}
	}
	return x.describeFolder(fd, name, h)
}

func (x *extractor) describeFolder(fd int, name string, h *tar.Header) error {
	if err := x.remember(name); err != nil {
		return err
	}
	x.times[name] = h.ModTime
	return x.describe(fd, h)
}

// setTimes sets those of the folders, when nothing more comes into them.
func (x *extractor) setTimes() error {
	for _, name := range slices.Sorted(maps.Keys(x.times)) { // sorted, as open folders serve the next one
		dir, base := path.Split(name)
		parent, err := x.folder(path.Clean(dir))
		if err == nil {
			err = setTime(parent, base, x.times[name])
		}
		if err != nil {
			return fmt.Errorf("%.200q: %w", name, err)
		}
	}
	return nil
}

func setTime(parent int, base string, t time.Time) error {
	if t.IsZero() {
		t = time.Unix(0, 0)
	}
	ts := unix.NsecToTimespec(0)
	ts.Sec, ts.Nsec = t.Unix(), int64(t.Nanosecond())
	return unix.UtimesNanoAt(parent, base, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// owner returns the owner of an entry.
func owner(h *tar.Header) (uid, gid int, err error) {
	const most = 1<<32 - 2
	if h.Uid < 0 || h.Uid > most || h.Gid < 0 || h.Gid > most {
		return 0, 0, invalid("the owner %d:%d", h.Uid, h.Gid)
	}
	return h.Uid, h.Gid, nil
}

// describe gives an open file or folder its owner, mode and attributes.
func (x *extractor) describe(fd int, h *tar.Header) error {
	uid, gid, err := owner(h)
	if err != nil {
		return err
	}
	if err := unix.Fchown(fd, uid, gid); err != nil {
		return fmt.Errorf("chown: %w", err)
	}
	if err := unix.Fchmod(fd, uint32(h.Mode)&0o7777); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if !ok || name != "security.capability" && (!strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "user.overlay.")) {
			continue
		}
		err := unix.Fsetxattr(fd, name, []byte(value), 0)
		if err != nil && err != unix.ENOTSUP { // a file system without them runs the rest
			return attribute(err, name)
		}
	}
	return nil
}

// describeAt is describe for what cannot be opened: links and pipes.
func (x *extractor) describeAt(parent int, base string, h *tar.Header) error {
	uid, gid, err := owner(h)
	if err != nil {
		return err
	}
	if err := unix.Fchownat(parent, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("chown: %w", err)
	}
	if h.Typeflag != tar.TypeSymlink { // it has just been made, and is no link
		if err := unix.Fchmodat(parent, base, uint32(h.Mode)&0o7777, 0); err != nil {
			return fmt.Errorf("chmod: %w", err)
		}
	}
	return setTime(parent, base, h.ModTime)
}

func (x *extractor) symlink(parent int, base string, h *tar.Header) error {
	if h.Linkname == "" || strings.ContainsRune(h.Linkname, 0) {
		return invalid("a link to nothing")
	}
	if err := unix.Symlinkat(h.Linkname, parent, base); err != nil {
		return err
	}
	return x.describeAt(parent, base, h)
}

// link makes a hard link to a file of this layer.
func (x *extractor) link(parent int, base string, h *tar.Header) error {
	to, err := clean(h.Linkname)
	if err != nil {
		return err
	}
	if to == "." || x.whiteouts[to] {
		return invalid("a hard link to %.200q, which the layer does not have", h.Linkname)
	}
	dir, file := path.Split(to)
	from := x.root
	if dir != "" {
		if from, err = enter(x.root, path.Clean(dir)); err != nil {
			return missing(err, h.Linkname)
		}
		defer unix.Close(from)
	}
	return missing(unix.Linkat(from, file, parent, base, 0), h.Linkname)
}

func missing(err error, name string) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.EXDEV), errors.Is(err, unix.EPERM):
		return invalid("a hard link to %.200q, which the layer does not have", name)
	}
	return err
}

// room answers ENOSPC when n more bytes would eat into the reserve.
func (x *extractor) room(n int64) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(x.root, &st); err != nil {
		return err
	}
	if int64(st.Bavail)*st.Bsize-n < x.limits.Reserve {
		return fmt.Errorf("unpack: %w", syscall.ENOSPC)
	}
	return nil
}
