//go:build !linux

package unpack

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Layer cannot unpack here.
func Layer(context.Context, io.Reader, string, Limits) (Result, error) {
	return Result{}, fmt.Errorf("unpack: %w", errors.ErrUnsupported)
}

// Sync cannot be had here.
func Sync(string) error { return fmt.Errorf("unpack: %w", errors.ErrUnsupported) }

// CopyFolder cannot be had here.
func CopyFolder(string, string, string) (bool, error) {
	return false, fmt.Errorf("unpack: %w", errors.ErrUnsupported)
}
