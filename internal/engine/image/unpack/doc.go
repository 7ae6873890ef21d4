// Package unpack makes a layer's tar archive into a folder in overlayfs's own
// form: a whiteout (.wh.name) becomes a character device 0:0, an opaque folder
// (.wh..wh..opq) gets the attribute trusted.overlay.opaque. Owners, modes, times
// and hard links are the archive's; of the extended attributes security.capability
// and user.* are kept. Device files are left out: containers have a /dev of their
// own, and roots are mounted without devices.
//
// Archives are hostile. Every name is resolved beneath the folder by openat2
// without following any link, and a layer is refused that names what lies outside
// (".."), goes through a link, links to what it does not have, or is larger than the
// disk has room for. The last of several entries of a name counts; a folder keeps
// what is in it when it is named again. The process must be root.
package unpack

import (
	"errors"
	"fmt"
)

var (
	// ErrInvalid: the archive is no layer that can be unpacked.
	ErrInvalid = errors.New("invalid layer")
	// ErrTooLarge: the layer has more bytes or entries than allowed.
	ErrTooLarge = errors.New("layer too large")
)

// Limits end what a layer may have.
type Limits struct {
	Size    int64 // bytes of its files; zero is what is free on the disk
	Entries int64 // zero is DefaultEntries
	Reserve int64 // bytes of the disk that stay free; zero is 64 MiB
}

// DefaultEntries is Limits.Entries when nothing is said: several times the files
// of the largest images that are in use.
const DefaultEntries = 4 << 20

// maxNames bounds the memory for names that must be remembered, in bytes.
const maxNames = 64 << 20

// Result is what was unpacked.
type Result struct {
	Size    int64 // bytes of files
	Entries int64
	// Implied are folders that the archive has files in, but no entry for,
	// "." included: their owner, mode and time are those of the layer below.
	Implied []string
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}
