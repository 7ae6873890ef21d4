package daemon

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/volume"
	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/store"
)

// driverName is how roots are made: layers by overlayfs.
const driverName = "overlayfs"

// ping answers GET and HEAD /_ping.
func (d *Daemon) ping(c *call) error {
	h := c.w.Header()
	h.Set("Builder-Version", "1")
	h.Set("Swarm", "inactive")
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if c.Method == http.MethodHead {
		h.Set("Content-Length", "0")
		c.w.WriteHeader(http.StatusOK)
		return nil
	}
	_, err := c.w.Write([]byte("OK"))
	return err
}

// getVersion answers GET /version.
func (d *Daemon) getVersion(c *call) error {
	kernel := kernelVersion()
	return c.ok(map[string]any{
		"Platform": map[string]string{"Name": "Skerry"},
		"Components": []map[string]any{{
			"Name": "Engine", "Version": d.version, "Details": map[string]string{
				"ApiVersion": maxVersion, "MinAPIVersion": minVersion, "Arch": runtime.GOARCH, "Os": "linux", "GoVersion": runtime.Version(),
				"KernelVersion": kernel, "Experimental": "false", "GitCommit": "", "BuildTime": "",
			},
		}},
		"Version": d.version, "ApiVersion": maxVersion, "MinAPIVersion": minVersion, "Os": "linux", "Arch": runtime.GOARCH,
		"GoVersion": runtime.Version(), "KernelVersion": kernel, "GitCommit": "", "BuildTime": "",
	})
}

func kernelVersion() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// systemName is the machine's name of itself.
func systemName() string {
	text, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "Linux"
	}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			return strings.Trim(strings.TrimSpace(name), `"`)
		}
	}
	return "Linux"
}

// info answers GET /info.
func (d *Daemon) info(c *call) error {
	rows, err := d.all(c.Context())
	if err != nil {
		return err
	}
	count := map[container.ContainerState]int{}
	for _, r := range rows {
		count[r.State]++
	}
	can, err := d.engine.Info(c.Context())
	if err != nil {
		return err
	}
	warnings := []string{}
	for _, m := range can.Missing {
		warnings = append(warnings, fmt.Sprintf("WARNING: no %s: %s", m.What, m.Why))
	}
	images, err := d.engine.Images().List(c.Context())
	if err != nil && can.Images {
		return err
	}
	host, _ := os.Hostname() // empty is no harm
	security := []string{}
	if can.Seccomp {
		security = append(security, "name=seccomp,profile=builtin")
	}
	if can.UserNamespaces {
		security = append(security, "name=userns")
	}
	return c.ok(map[string]any{
		"ID": fixedID(d.dir)[:36], "Name": host, "ServerVersion": d.version, "Driver": driverName, "DriverStatus": [][2]string{},
		"Containers": len(rows), "ContainersRunning": count[container.StateRunning], "ContainersPaused": count[container.StatePaused],
		"ContainersStopped": len(rows) - count[container.StateRunning] - count[container.StatePaused], "Images": len(images),
		"MemoryLimit": can.MemoryLimit, "SwapLimit": can.MemoryLimit, "CpuCfsPeriod": can.CPULimit, "CpuCfsQuota": can.CPULimit, "CPUShares": can.CPULimit,
		"CPUSet": can.CPUSet, "PidsLimit": can.PidsLimit, "IPv4Forwarding": can.Outside, "OomKillDisable": false, "Debug": false,
		"BridgeNfIptables": false, "BridgeNfIp6tables": false, "KernelMemory": false, "KernelMemoryTCP": false,
		"NFd": 0, "NGoroutines": runtime.NumGoroutine(), "NEventsListener": d.bus.listeners(), "SystemTime": stamp(d.clock.Now()),
		"LoggingDriver": "json-file", "CgroupDriver": "cgroupfs", "CgroupVersion": fmt.Sprint(max(can.Cgroups, 1)),
		"KernelVersion": kernelVersion(), "OperatingSystem": systemName(), "OSVersion": "", "OSType": "linux", "Architecture": machineName(),
		"NCPU": runtime.NumCPU(), "MemTotal": machineMemory(), "DockerRootDir": d.dir, "IndexServerAddress": "https://index.docker.io/v1/",
		"Plugins": map[string]any{
			"Volume": []string{"local"}, "Network": []string{"bridge", "host", "null"}, "Authorization": nil, "Log": []string{"json-file", "local", "none"},
		},
		"RegistryConfig": map[string]any{
			"InsecureRegistryCIDRs": []string{"127.0.0.0/8", "::1/128"}, "IndexConfigs": map[string]any{}, "Mirrors": []string{},
		},
		"Runtimes": map[string]any{"skerry": map[string]string{"path": "skerry"}}, "DefaultRuntime": "skerry",
		"Swarm":              map[string]any{"LocalNodeState": "inactive", "NodeID": "", "NodeAddr": "", "ControlAvailable": false, "Error": "", "RemoteManagers": nil},
		"LiveRestoreEnabled": true, "Isolation": "", "InitBinary": "skerry", "Labels": []string{}, "ExperimentalBuild": false,
		"ContainerdCommit": map[string]string{"ID": ""}, "RuncCommit": map[string]string{"ID": ""}, "InitCommit": map[string]string{"ID": ""},
		"SecurityOptions": security, "HttpProxy": "", "HttpsProxy": "", "NoProxy": "", "GenericResources": nil, "Warnings": warnings,
	})
}

// machineName is the machine's architecture as uname has it.
func machineName() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return runtime.GOARCH
	}
	return unix.ByteSliceToString(u.Machine[:])
}

// listeners counts those who listen to events.
func (b *bus) listeners() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.subs)
}

// diskUsage answers GET /system/df.
func (d *Daemon) diskUsage(c *call) error {
	ctx := c.Context()
	images, err := d.engine.Images().List(ctx)
	if can, ierr := d.engine.Info(ctx); err != nil && (ierr != nil || can.Images) {
		return err
	}
	rows, err := d.all(ctx)
	if err != nil {
		return err
	}
	used := map[string]int64{}
	cs := []*summary{}
	for _, row := range rows {
		used[row.Image]++
		s, err := d.summarise(ctx, row)
		if err != nil {
			return err
		}
		if s.SizeRw, s.SizeRootFs, err = d.sizes(ctx, row); err != nil {
			return err
		}
		cs = append(cs, s)
	}
	is := []image.Summary{}
	layers, shared := sharing(images)
	for _, i := range images {
		is = append(is, image.Summary{ID: i.ID, RepoTags: orEmpty(i.Names), RepoDigests: orEmpty(i.Digests), Created: i.Created.Unix(), Size: i.Size, SharedSize: shared[i.ID],
			Containers: used[i.ID], Labels: i.Config.Labels})
	}
	vs, err := d.volumeUsage(ctx)
	if err != nil {
		return err
	}
	return c.ok(map[string]any{"LayersSize": layers, "Images": is, "Containers": cs, "Volumes": vs, "BuildCache": []any{}, "BuilderSize": 0})
}

// sharing counts the bytes of all images, of a layer that several have once, and for
// each image those of the layers that others have too.
func sharing(images []engine.Image) (all int64, shared map[string]int64) {
	shared = map[string]int64{}
	sizes, users := map[string]int64{}, map[string]int{}
	each := func(i engine.Image, fn func(layer string, size int64)) {
		seen := map[string]bool{}
		for n, l := range i.Layers {
			if n < len(i.LayerSizes) && !seen[l] {
				seen[l] = true
				fn(l, i.LayerSizes[n])
			}
		}
	}
	for _, i := range images {
		if len(i.LayerSizes) == 0 {
			all += i.Size
		}
		each(i, func(layer string, size int64) { sizes[layer] = size; users[layer]++ })
	}
	for _, size := range sizes {
		all += size
	}
	for _, i := range images {
		each(i, func(layer string, size int64) {
			if users[layer] > 1 {
				shared[i.ID] += size
			}
		})
	}
	return all, shared
}

func (d *Daemon) volumeUsage(ctx context.Context) (all []*volume.Volume, err error) {
	err = d.db.View(ctx, func(tx *store.Tx) error {
		all = []*volume.Volume{}
		for v, err := range volumes.Scan(tx, store.Range{}) {
			if err != nil {
				return err
			}
			users, err := d.usersOf(tx, v.Name)
			if err != nil {
				return err
			}
			view := d.viewVolume(v)
			view.UsageData = &volume.UsageData{RefCount: int64(len(users))}
			all = append(all, view)
		}
		return nil
	})
	for _, v := range all {
		v.UsageData.Size = sizeOf(d.folder(v.Name))
	}
	return all, err
}
