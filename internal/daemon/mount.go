package daemon

import (
	"cmp"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"skerry/internal/base/ids"
	"skerry/internal/engine"
)

// volumeName is what a volume may be called.
var volumeName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// mountsOf lists the mounts that a container is asked to have: binds and
// --mount first, then what they leave of volumes-from, tmpfs and the image's
// volumes. Volumes without a name get one. The order is by target, so that a
// mount below another comes after it.
func mountsOf(c *container.Config, h *container.HostConfig, from []mountRow) ([]mountRow, error) {
	var all []mountRow
	taken := map[string]bool{}
	add := func(m mountRow) error {
		m.Target = path.Clean(m.Target)
		switch {
		case !path.IsAbs(m.Target):
			return badRequest("invalid mount config for type %q: invalid mount path: '%s' mount path must be absolute", m.Type, m.Target)
		case m.Target == "/":
			return badRequest("invalid mount config for type %q: invalid specification: destination can't be '/'", m.Type)
		case taken[m.Target]:
			return badRequest("Duplicate mount point: %s", m.Target)
		}
		taken[m.Target] = true
		all = append(all, m)
		return nil
	}
	for _, b := range h.Binds {
		m, err := parseBind(b)
		if err == nil {
			err = add(m)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, hm := range h.Mounts {
		m, err := parseMount(hm)
		if err == nil {
			err = add(m)
		}
		if err != nil {
			return nil, err
		}
	}
	for target, options := range h.Tmpfs {
		m, err := parseTmpfs(target, options)
		if err == nil {
			err = add(m)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, m := range from {
		if !taken[m.Target] {
			if err := add(m); err != nil {
				return nil, err
			}
		}
	}
	for target := range c.Volumes {
		if !taken[path.Clean(target)] {
			if err := add(mountRow{Type: "volume", Target: target}); err != nil {
				return nil, err
			}
		}
	}
	for i := range all {
		if all[i].Type == "volume" && all[i].Name == "" {
			all[i].Name = ids.Hex(64)
		}
	}
	slices.SortFunc(all, func(a, b mountRow) int { return cmp.Compare(a.Target, b.Target) })
	return all, nil
}

// parseBind reads SOURCE:TARGET[:OPTIONS], where the source is a path or a
// volume's name, or TARGET alone, a new volume.
func parseBind(text string) (mountRow, error) {
	parts := strings.Split(text, ":")
	var m mountRow
	switch len(parts) {
	case 1:
		return mountRow{Type: "volume", Target: parts[0]}, nil
	case 2, 3:
		m = mountRow{Type: "bind", Source: parts[0], Target: parts[1]}
	default:
		return m, badRequest("invalid volume specification: '%s'", text)
	}
	if m.Source == "" || m.Target == "" {
		return m, badRequest("invalid volume specification: '%s'", text)
	}
	if !path.IsAbs(m.Source) {
		if !volumeName.MatchString(m.Source) {
			return m, badRequest("create %s: %q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path", m.Source, m.Source)
		}
		m.Type, m.Name, m.Source = "volume", m.Source, ""
	} else {
		m.Source = path.Clean(m.Source)
	}
	if len(parts) == 2 {
		return m, nil
	}
	m.Mode = parts[2]
	for option := range strings.SplitSeq(parts[2], ",") {
		switch option {
		case "ro":
			m.ReadOnly = true
		case "nocopy":
			m.NoCopy = true
		case "rw", "", "z", "Z", "cached", "delegated", "consistent", "private", "rprivate":
			// SELinux labels and caching of other systems mean nothing here.
		default:
			if slices.Contains([]string{"shared", "rshared", "slave", "rslave"}, option) {
				return m, unsupported("mount propagation %q", option)
			}
			return m, badRequest("invalid mode: %s", parts[2])
		}
	}
	return m, nil
}

// parseMount reads an entry of --mount.
func parseMount(in mount.Mount) (mountRow, error) {
	m := mountRow{Type: string(in.Type), Target: in.Target, ReadOnly: in.ReadOnly}
	if in.Target == "" {
		return m, badRequest("invalid mount config for type %q: field Target must not be empty", in.Type)
	}
	switch in.Type {
	case mount.TypeBind:
		if in.Source == "" {
			return m, badRequest(`invalid mount config for type "bind": field Source must not be empty`)
		}
		if !path.IsAbs(in.Source) {
			return m, badRequest(`invalid mount config for type "bind": invalid mount path: '%s' mount path must be absolute`, in.Source)
		}
		m.Source, m.NoCopy = path.Clean(in.Source), true // NoCopy: the source must be there
		if o := in.BindOptions; o != nil {
			if o.Propagation != "" && o.Propagation != mount.PropagationRPrivate && o.Propagation != mount.PropagationPrivate {
				return m, unsupported("mount propagation %q", o.Propagation)
			}
			if o.NonRecursive || o.ReadOnlyNonRecursive || o.ReadOnlyForceRecursive {
				return m, unsupported("bind-recursive")
			}
			m.NoCopy = !o.CreateMountpoint
		}
	case mount.TypeVolume:
		m.Name = in.Source
		if m.Name != "" && !volumeName.MatchString(m.Name) {
			return m, badRequest(`invalid mount config for type "volume": invalid volume name: %q`, m.Name)
		}
		if o := in.VolumeOptions; o != nil {
			m.NoCopy = o.NoCopy
			if o.Subpath != "" {
				return m, unsupported("volume-subpath")
			}
			if o.DriverConfig != nil && (o.DriverConfig.Name != "" && o.DriverConfig.Name != "local" || len(o.DriverConfig.Options) > 0) {
				return m, unsupported("volume driver %q with options %v", o.DriverConfig.Name, o.DriverConfig.Options)
			}
		}
	case mount.TypeTmpfs:
		if in.Source != "" {
			return m, badRequest(`invalid mount config for type "tmpfs": field Source must not be specified`)
		}
		if o := in.TmpfsOptions; o != nil {
			m.Size, m.Perm = o.SizeBytes, uint32(o.Mode.Perm())
			if len(o.Options) > 0 {
				return m, unsupported("options of a tmpfs mount")
			}
		}
	default:
		return m, badRequest("mount type %q unknown", in.Type)
	}
	return m, nil
}

// parseTmpfs reads an entry of --tmpfs: mount options with commas between.
func parseTmpfs(target, options string) (mountRow, error) {
	m := mountRow{Type: "tmpfs", Target: target, Mode: options}
	for option := range strings.SplitSeq(options, ",") {
		name, value, _ := strings.Cut(option, "=")
		var err error
		switch name {
		case "", "rw", "nosuid", "nodev", "noexec", "async", "relatime", "defaults":
		case "ro":
			m.ReadOnly = true
		case "exec":
			m.Exec = true
		case "size":
			m.Size, err = units.RAMInBytes(value)
		case "mode":
			var mode uint64
			mode, err = strconv.ParseUint(value, 8, 12)
			m.Perm = uint32(mode)
		default:
			return m, unsupported("tmpfs option %q", option)
		}
		if err != nil {
			return m, badRequest("invalid tmpfs option %q", option)
		}
	}
	return m, nil
}

// engineMount is what the engine is told of a mount; folder is where a volume
// is kept.
func (m *mountRow) engineMount(folder func(volume string) string) engine.Mount {
	out := engine.Mount{Kind: engine.MountBind, Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly, Owned: true}
	switch m.Type {
	case "volume":
		out.Source, out.Populate = folder(m.Name), !m.NoCopy
	case "tmpfs":
		out = engine.Mount{Kind: engine.MountTmpfs, Target: m.Target, ReadOnly: m.ReadOnly, NoExec: !m.Exec, Size: m.Size, Mode: modeOf(m.Perm)}
	}
	return out
}
