package cloud

import (
	"os"
	"testing"

	"skerry/internal/engine/embedded"
)

// The engine's supervisor is this very program, started once more.
func TestMain(m *testing.M) {
	embedded.Main("")
	os.Exit(m.Run())
}
