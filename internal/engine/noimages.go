package engine

import (
	"context"
	"fmt"
	"io"
)

// NoImages is the Images of a driver that has none: every method answers
// ErrUnsupported.
type NoImages struct{}

var errNoImages = fmt.Errorf("engine: images: %w", ErrUnsupported)

// Pull implements Images.
func (NoImages) Pull(context.Context, string, PullOptions) (Image, error) {
	return Image{}, errNoImages
}

// Ensure implements Images.
func (NoImages) Ensure(context.Context, string, PullOptions) (Image, error) {
	return Image{}, errNoImages
}

// Push implements Images.
func (NoImages) Push(context.Context, string, PushOptions) (string, error) { return "", errNoImages }

// Load implements Images.
func (NoImages) Load(context.Context, io.Reader, func(Progress)) ([]Image, error) {
	return nil, errNoImages
}

// Save implements Images.
func (NoImages) Save(context.Context, []string, io.Writer) error { return errNoImages }

// Tag implements Images.
func (NoImages) Tag(context.Context, string, string) error { return errNoImages }

// Remove implements Images.
func (NoImages) Remove(context.Context, string, bool) (Removed, error) {
	return Removed{}, errNoImages
}

// List implements Images.
func (NoImages) List(context.Context) ([]Image, error) { return nil, errNoImages }

// Get implements Images.
func (NoImages) Get(context.Context, string) (Image, error) { return Image{}, errNoImages }

// Prune implements Images.
func (NoImages) Prune(context.Context, bool) (Removed, int64, error) {
	return Removed{}, 0, errNoImages
}
