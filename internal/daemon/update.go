package daemon

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/moby/moby/api/types/container"

	"skerry/internal/engine"
)

// update changes a container's limits and restart policy, in the engine and in
// its row. What is zero stays.
func (d *Daemon) update(ctx context.Context, row *containerRow, in *container.UpdateConfig) error {
	_, h, err := row.config()
	if err != nil {
		return err
	}
	r := &h.Resources
	if in.MemorySwap == 0 && r.MemorySwap > 0 && in.Memory > r.MemorySwap {
		return conflict("Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time")
	}
	for _, x := range []struct{ to, from *int64 }{
		{&r.CPUShares, &in.CPUShares}, {&r.Memory, &in.Memory}, {&r.NanoCPUs, &in.NanoCPUs}, {&r.CPUPeriod, &in.CPUPeriod},
		{&r.CPUQuota, &in.CPUQuota}, {&r.MemoryReservation, &in.MemoryReservation}, {&r.MemorySwap, &in.MemorySwap},
	} {
		if *x.from != 0 {
			*x.to = *x.from
		}
	}
	if in.CpusetCpus != "" {
		r.CpusetCpus = in.CpusetCpus
	}
	if in.CpusetMems != "" {
		r.CpusetMems = in.CpusetMems
	}
	if in.NanoCPUs != 0 {
		r.CPUPeriod, r.CPUQuota = 0, 0
	} else if in.CPUQuota != 0 {
		r.NanoCPUs = 0
	}
	if in.PidsLimit != nil {
		r.PidsLimit = in.PidsLimit
	}
	if p := in.RestartPolicy; p.Name != "" {
		if err := container.ValidateRestartPolicy(p); err != nil {
			return badRequest("%v", err)
		}
		if h.AutoRemove && !p.IsNone() {
			return badRequest("Restart policy cannot be updated because AutoRemove is enabled for the container")
		}
		h.RestartPolicy = p
	}
	if err := checkLimits(r); err != nil {
		return err
	}
	spec, err := row.spec()
	if err != nil {
		return err
	}
	spec.Limits = limitsOf(r)
	if err := d.engine.Update(ctx, engine.ID(row.ID), spec.Limits); err != nil && !errors.Is(err, engine.ErrNotFound) {
		return err // where the engine has lost it, the row alone counts
	}
	if row.Host, err = json.Marshal(h); err != nil {
		return err
	}
	row.Spec, err = json.Marshal(spec)
	return err
}
