//go:build !(linux && amd64)

package embedded

import (
	"fmt"
	"runtime"

	"skerry/internal/engine"
)

// Main does nothing here.
func Main(string) {}

// Driver cannot be had here.
type Driver struct{ engine.Engine }

// Open says that this system cannot run containers by itself.
func Open(Config) (*Driver, error) {
	return nil, fmt.Errorf("engine: the embedded driver on %s/%s: %w", runtime.GOOS, runtime.GOARCH, engine.ErrUnsupported)
}
