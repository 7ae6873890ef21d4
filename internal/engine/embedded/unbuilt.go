//go:build linux && amd64

package embedded

import (
	"context"
	"fmt"
	"io"

	"skerry/internal/engine"
)

// What of the interface is not built yet answers ErrUnsupported.

func unsupported(what string) error {
	return fmt.Errorf("engine: %s: %w", what, engine.ErrUnsupported)
}

// ReadFiles is not built yet.
func (d *Driver) ReadFiles(context.Context, engine.ID, string) (io.ReadCloser, error) {
	return nil, unsupported("copying files")
}

// WriteFiles is not built yet.
func (d *Driver) WriteFiles(context.Context, engine.ID, string, io.Reader) error {
	return unsupported("copying files")
}
