package s3

import (
	"log/slog"
	"sync"

	"skerry/internal/auth"
	"skerry/internal/base/clock"
	"skerry/internal/blob"
	"skerry/internal/events"
	"skerry/internal/meter"
	"skerry/internal/op"
	"skerry/internal/store"
)

// Deps is what the service needs.
type Deps struct {
	Store     *store.DB
	Directory auth.Directory // answers what callers may do
	Blobs     blob.Store
	Clock     clock.Clock
	Log       *slog.Logger
	Cloud     op.Caller // reaches the targets of notifications, and itself for replication and websites
	Meter     *meter.Meter
	Outbox    *events.Outbox // carries notifications and replication
}

// Service is Amazon S3.
type Service struct {
	Deps
	vault   vault
	buffers sync.Pool // of *[copyUnit]byte
	reading reading
}

// New returns the service.
func New(d Deps) *Service {
	s := &Service{Deps: d}
	s.vault.store = d.Store
	s.buffers.New = func() any { return new([copyUnit]byte) }
	return s
}
