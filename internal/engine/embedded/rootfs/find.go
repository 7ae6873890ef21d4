//go:build linux && amd64

package rootfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Missing says what Find does about what is not there.
type Missing int

// What is made.
const (
	Nothing Missing = iota
	Folder          // folders, all the way
	File            // folders, and an empty file at the end
)

// maxLinks is how many symbolic links are followed, as the kernel has it.
const maxLinks = 40

// Find opens (O_PATH) what a path of a container means, links followed as the
// container sees them. root is the container's root: nothing that a link, a
// ".." or a process that changes them meanwhile can do leads out of it. at is
// the path without links.
func Find(root int, p string, missing Missing) (fd int, at string, err error) {
	fail := func(err error) (int, string, error) {
		if fd >= 0 {
			unix.Close(fd)
		}
		return -1, at, &fs.PathError{Op: "find", Path: p, Err: err}
	}
	if fd, err = openIn(root, "", unix.O_PATH); err != nil {
		return fail(err)
	}
	// from here on fd is what at means: one name after the other is opened in it,
	// so nothing that is moved meanwhile leads up
	step := func(next int, path string) { unix.Close(fd); fd, at = next, path }
	links := 0
	for rest := strings.Split(p, "/"); len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			up := at[:max(strings.LastIndexByte(at, '/'), 0)]
			next, err := openIn(root, up, unix.O_PATH)
			if err != nil {
				return fail(err)
			}
			step(next, up)
			continue
		}
		next, err := unix.Openat(fd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == unix.ENOENT && missing != Nothing {
			next, err = create(fd, name, missing == File && last(rest))
		}
		if err != nil {
			return fail(err)
		}
		target, isLink, err := readLink(next)
		if err != nil || !isLink {
			step(next, at+"/"+name)
			if err != nil {
				return fail(err)
			}
			continue
		}
		unix.Close(next)
		if links++; links > maxLinks {
			return fail(unix.ELOOP)
		}
		if path.IsAbs(target) {
			if next, err = openIn(root, "", unix.O_PATH); err != nil {
				return fail(err)
			}
			step(next, "")
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	if strings.HasSuffix(p, "/") {
		if err := wantFolder(fd); err != nil {
			return fail(err)
		}
	}
	if at == "" {
		at = "/"
	}
	return fd, at, nil
}

func wantFolder(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return unix.ENOTDIR
	}
	return nil
}

// last says that nothing but slashes follows.
func last(rest []string) bool {
	for _, r := range rest {
		if r != "" && r != "." {
			return false
		}
	}
	return true
}

// openIn opens a path that has no links, in a root.
func openIn(root int, p string, flags uint64) (fd int, err error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS}
	for range 32 { // a change meanwhile is EAGAIN
		if fd, err = unix.Openat2(root, "./"+p, &how); err != unix.EAGAIN && err != unix.EINTR {
			break
		}
	}
	return fd, err
}

func create(folder int, name string, file bool) (fd int, err error) {
	if file {
		if fd, err = unix.Openat(folder, name, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644); err == nil {
			unix.Close(fd)
		}
	} else {
		err = unix.Mkdirat(folder, name, 0o755)
	}
	if err != nil && err != unix.EEXIST {
		return -1, err
	}
	return unix.Openat(folder, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// readLink returns where a link leads to, if it is one.
func readLink(fd int) (target string, ok bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", false, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", false, nil
	}
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", b)
	return string(b[:max(n, 0)]), true, err
}

// ReadFile reads a regular file of a container, of at most so many bytes.
func ReadFile(root int, p string, most int64) ([]byte, error) {
	fd, at, err := Find(root, p, Nothing)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := wantFile(fd, most); err != nil {
		return nil, &fs.PathError{Op: "read", Path: p, Err: err}
	}
	got, err := openIn(root, at, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: p, Err: err}
	}
	f := os.NewFile(uintptr(got), p)
	defer f.Close()
	if err := wantFile(got, most); err != nil { // another one meanwhile
		return nil, &fs.PathError{Op: "read", Path: p, Err: err}
	}
	return io.ReadAll(io.LimitReader(f, most))
}

func wantFile(fd int, most int64) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errors.New("not a regular file")
	}
	if st.Size > most {
		return fmt.Errorf("more than %d bytes", most)
	}
	return nil
}
