// Package embedded is the engine without a daemon: containers made of the Linux
// kernel's namespaces, control groups and filters by this program itself. Two
// processes of the one program share the work: main, which has a Driver, and
// the supervisor, which owns the containers and lives on when main is killed.
// docs/engine.md tells how it works.
//
// It is for Linux on amd64; elsewhere Open answers engine.ErrUnsupported.
package embedded

import (
	"time"

	"skerry/internal/engine/image"
)

// Config says where an engine lives.
type Config struct {
	// Data is its folder: the supervisor's socket, the containers' logs. One
	// supervisor owns it.
	Data string
	// Images are what containers' roots can be made of; nil is none.
	Images *image.Store
	// Run is the folder of what ends with the machine's run; empty chooses one
	// in memory (/run).
	Run string
	// Program is what is started as the supervisor: a program whose main calls
	// Main. Empty is this program.
	Program string
	// Upgrade has a running supervisor that is of another build than Program go on
	// as that, with its containers.
	Upgrade bool
	// Cgroups is the version to use, 1 or 2; zero chooses.
	Cgroups int
	// Linger is how long a supervisor without containers and without anybody
	// connected goes on; zero is a minute.
	Linger time.Duration
}
