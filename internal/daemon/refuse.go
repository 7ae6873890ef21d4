package daemon

import (
	"runtime"

	"github.com/moby/moby/api/types/container"
)

// refuse names the first thing asked for that Skerry does not do, so that
// nothing is accepted and then not kept.
func refuse(c *container.Config, h *container.HostConfig) error {
	r := &h.Resources
	for _, x := range []struct {
		asked bool
		what  string
	}{
		{c.Domainname != "", "--domainname"},
		{h.VolumeDriver != "" && h.VolumeDriver != "local", "--volume-driver " + h.VolumeDriver},
		{h.CgroupnsMode.IsHost(), "--cgroupns host"},
		{!h.IpcMode.IsEmpty() && !h.IpcMode.IsPrivate(), "--ipc " + string(h.IpcMode)},
		{h.Cgroup != "", "a control group of another container"},
		{h.OomScoreAdj != 0, "--oom-score-adj"},
		{h.PidMode != "", "--pid " + string(h.PidMode)},
		{h.UTSMode != "", "--uts " + string(h.UTSMode)},
		{h.UsernsMode != "" && !h.Privileged, "--userns " + string(h.UsernsMode) + " without --privileged"},
		{h.Runtime != "" && h.Runtime != "skerry" && h.Runtime != "runc", "--runtime " + h.Runtime},
		{!h.Isolation.IsDefault(), "--isolation " + string(h.Isolation)},
		{h.MaskedPaths != nil && !h.Privileged, "--security-opt systempaths"},
		{h.ReadonlyPaths != nil && !h.Privileged, "--security-opt systempaths"},
		{len(h.Annotations) > 0, "--annotation"},
		{len(h.StorageOpt) > 0 && (len(h.StorageOpt) > 1 || h.StorageOpt["size"] == ""), "--storage-opt other than size"},
		{r.CgroupParent != "", "--cgroup-parent"},
		{r.BlkioWeight != 0 || len(r.BlkioWeightDevice) > 0, "--blkio-weight"},
		{len(r.BlkioDeviceReadBps)+len(r.BlkioDeviceWriteBps)+len(r.BlkioDeviceReadIOps)+len(r.BlkioDeviceWriteIOps) > 0, "limits of a device's speed"},
		{r.CPURealtimePeriod != 0 || r.CPURealtimeRuntime != 0, "real-time processor limits"},
		{r.CPUPeriod != 0 && r.CPUQuota == 0, "--cpu-period without --cpu-quota"},
		{len(r.DeviceCgroupRules) > 0, "--device-cgroup-rule"},
		{len(r.DeviceRequests) > 0, "--gpus"},
		{r.MemorySwappiness != nil && *r.MemorySwappiness != -1, "--memory-swappiness"},
		{r.OomKillDisable != nil && *r.OomKillDisable, "--oom-kill-disable"},
		{r.CPUCount != 0 || r.CPUPercent != 0 || r.IOMaximumIOps != 0 || r.IOMaximumBandwidth != 0, "limits of Windows"},
		{c.NetworkDisabled, "a disabled network; --network none is what Skerry has"},
	} {
		if x.asked {
			return unsupported("%s", x.what)
		}
	}
	return checkLimits(r)
}

// minMemory is the least memory limit that Docker accepts, in bytes.
const minMemory = 6 << 20

func checkLimits(r *container.Resources) error {
	switch {
	case r.Memory < 0 || r.Memory > 0 && r.Memory < minMemory:
		return badRequest("Minimum memory limit allowed is 6MB")
	case r.MemoryReservation < 0 || r.MemoryReservation > 0 && r.MemoryReservation < minMemory:
		return badRequest("Minimum memory reservation allowed is 6MB")
	case r.Memory > 0 && r.MemoryReservation > r.Memory:
		return badRequest("Minimum memory limit can not be less than memory reservation limit, see usage")
	case r.MemorySwap < -1:
		return badRequest("invalid memory swap limit: %d", r.MemorySwap)
	case r.MemorySwap > 0 && r.Memory == 0:
		return badRequest("You should always set the Memory limit when using Memoryswap limit, see usage")
	case r.MemorySwap > 0 && r.MemorySwap < r.Memory:
		return badRequest("Minimum memoryswap limit should be larger than memory limit, see usage")
	case r.NanoCPUs > 0 && (r.CPUQuota > 0 || r.CPUPeriod > 0):
		return badRequest("Conflicting options: Nano CPUs and CPU Period cannot both be set")
	case r.NanoCPUs < 0 || r.NanoCPUs > int64(runtime.NumCPU())*1e9:
		return badRequest("Range of CPUs is from 0.01 to %d.00, as there are only %d CPUs available", runtime.NumCPU(), runtime.NumCPU())
	case r.CPUPeriod != 0 && (r.CPUPeriod < 1000 || r.CPUPeriod > 1_000_000):
		return badRequest("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	case r.CPUQuota > 0 && r.CPUQuota < 1000:
		return badRequest("CPU cfs quota can not be less than 1ms (i.e. 1000)")
	case r.CPUShares < 0:
		return badRequest("invalid CPU shares (%d): value must be a positive integer", r.CPUShares)
	}
	return nil
}
