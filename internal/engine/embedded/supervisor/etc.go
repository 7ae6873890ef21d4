//go:build linux && amd64

package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/rootfs"
)

// etc returns the files of /etc that the engine makes for a container of an
// image, as mounts. As with Docker, each start writes hosts and hostname anew,
// and resolv.conf unless somebody has changed it.
func (s *supervisor) etc(c *container) (pieces []rootfs.Piece, err error) {
	dir := filepath.Join(s.runs(), string(c.id))
	attrs := uint64(unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV)
	if !c.spec.Root.Writable {
		attrs |= unix.MOUNT_ATTR_RDONLY
	}
	resolv, err := c.resolvConf()
	if err != nil {
		return nil, err
	}
	hosts, err := c.hosts()
	if err != nil {
		return nil, err
	}
	c.made = string(hosts)
	for _, f := range []struct {
		name string
		text []byte
		keep bool
	}{{"hosts", hosts, false}, {"hostname", []byte(c.ready.hostname + "\n"), false}, {"resolv.conf", resolv, true}} {
		path := filepath.Join(dir, f.name)
		if err := writeEtc(path, f.text, f.keep, int(c.base())); err != nil {
			return pieces, fmt.Errorf("supervisor: %w", err)
		}
		fd, err := rootfs.Bind(path, attrs, 0)
		if err != nil {
			return pieces, err
		}
		pieces = append(pieces, rootfs.Piece{FD: fd, Target: "/etc/" + f.name, File: true})
	}
	return pieces, nil
}

// writeEtc writes one, for an owner. With keep, one that is not as it was made is
// left; what was made is kept beside it.
func writeEtc(path string, text []byte, keep bool, owner int) error {
	if keep {
		made, err := os.ReadFile(path + ".made")
		if err == nil {
			now, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if !bytes.Equal(now, made) {
				return os.Chown(path, owner, owner)
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.WriteFile(path+".made", text, 0o600); err != nil {
			return err
		}
	}
	// in place: it may be mounted
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err = f.Write(text); err == nil {
		err = f.Chown(owner, owner)
	}
	if err == nil {
		err = f.Chmod(0o644)
	}
	return err
}

// hosts is a container's /etc/hosts. In the machine's network it is the
// machine's, unless lines are given.
func (c *container) hosts() ([]byte, error) {
	n := c.spec.Network
	if c.host && len(n.Hosts) == 0 {
		text, err := os.ReadFile("/etc/hosts")
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return text, err
		}
	}
	var b bytes.Buffer
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n" +
		"ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	for _, h := range n.Hosts {
		if !h.Address.IsValid() || h.Name == "" || strings.ContainsAny(h.Name, " \t\r\n#\x00") {
			return nil, fmt.Errorf("engine: %w: host %q at %s", engine.ErrInvalid, h.Name, h.Address)
		}
		fmt.Fprintf(&b, "%s\t%s\n", h.Address, h.Name)
	}
	for _, a := range c.slot.Addresses() {
		fmt.Fprintf(&b, "%s\t%s\n", a, c.hostname())
	}
	return b.Bytes(), nil
}

// resolvConf is a container's /etc/resolv.conf.
func (c *container) resolvConf() ([]byte, error) {
	d := c.spec.Network.DNS
	if c.host && len(d.Servers)+len(d.Search)+len(d.Options) == 0 {
		text, err := os.ReadFile("/etc/resolv.conf")
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return text, err
	}
	for _, word := range append(append([]string{}, d.Search...), d.Options...) {
		if word == "" || strings.ContainsAny(word, " \t\r\n#;\x00") {
			return nil, fmt.Errorf("engine: %w: resolver setting %q", engine.ErrInvalid, word)
		}
	}
	var b bytes.Buffer
	if len(d.Servers) == 0 {
		b.WriteString("nameserver 169.254.169.253\n")
	}
	for _, a := range d.Servers {
		if !a.IsValid() {
			return nil, fmt.Errorf("engine: %w: a resolver without an address", engine.ErrInvalid)
		}
		fmt.Fprintf(&b, "nameserver %s\n", a)
	}
	if len(d.Search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(d.Search, " "))
	}
	options := d.Options
	if len(options) == 0 && len(d.Servers) == 0 {
		options = []string{"timeout:2", "attempts:2"}
	}
	if len(options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(options, " "))
	}
	return b.Bytes(), nil
}
