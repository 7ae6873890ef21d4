package task

import (
	"fmt"
	"hash/fnv"
	"path"
	"strconv"
	"strings"

	"skerry/internal/engine"
)

// containerID is a container's id in the engine. It follows from the names
// alone, so that a container that was made before a crash is found after it.
func containerID(task engine.ID, name string) engine.ID {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return task + "-" + engine.ID(strconv.FormatUint(uint64(h.Sum32()), 10))
}

// maxTaskID leaves room for what containerID appends.
const maxTaskID = 48

func invalid(format string, args ...any) error {
	return fmt.Errorf("task: %w: %s", engine.ErrInvalid, fmt.Sprintf(format, args...))
}

func unsupported(format string, args ...any) error {
	return fmt.Errorf("task: %s: %w", fmt.Sprintf(format, args...), engine.ErrUnsupported)
}

// Validate checks a task for what cannot be run anywhere. Errors:
// engine.ErrInvalid, and engine.ErrUnsupported for what is not built.
func (t *Task) Validate() error {
	if !t.ID.Valid() || len(t.ID) > maxTaskID {
		return invalid("task id %q", t.ID)
	}
	if err := (&engine.Limits{CPU: t.CPU, Memory: t.Memory}).Validate(); err != nil {
		return fmt.Errorf("task: %w", err)
	}
	if err := t.Network.validate(); err != nil {
		return err
	}
	switch t.Pull {
	case PullDefault, PullAlways, PullOnce, PullCached:
	default:
		return invalid("image pull behavior %q", t.Pull)
	}
	essential := false
	ids := map[engine.ID]bool{}
	for i := range t.Containers {
		c := &t.Containers[i]
		id := containerID(t.ID, c.Name)
		if ids[id] {
			return invalid("container names must be unique: %s", c.Name)
		}
		ids[id] = true
		essential = essential || c.Essential
		if err := c.validate(t); err != nil {
			return err
		}
	}
	if !essential {
		return invalid("at least one container must be essential")
	}
	if err := t.validateVolumes(); err != nil {
		return err
	}
	return t.validateOrder()
}

func (n *Network) validate() error {
	switch n.Mode {
	case AWSVPC:
		if (n.Name == "") != !n.Address.IsValid() {
			return invalid("a network's name and an address on it belong together")
		}
		return nil
	case Bridge, Host, None:
		if n.Name != "" || n.Address.IsValid() || len(n.Groups) > 0 {
			return invalid("network mode %s with a name, address or security groups", n.Mode)
		}
		return nil
	}
	return invalid("network mode %q", n.Mode)
}

func (c *Container) validate(t *Task) error {
	bad := func(format string, args ...any) error {
		return invalid("container %s: %s", c.Name, fmt.Sprintf(format, args...))
	}
	if !validName(c.Name) {
		return invalid("container name %q", c.Name)
	}
	mode := t.Network.Mode
	switch {
	case c.Image == "":
		return bad("no image")
	case c.CPU < 0 || c.Memory < 0 || c.MemoryReservation < 0 || c.ShmSize < 0 || c.Swap < 0:
		return bad("negative limit")
	case c.Swap > 0 && c.Memory == 0:
		return bad("swap without a limit of memory")
	case c.Memory > 0 && c.MemoryReservation > c.Memory:
		return bad("the memory reservation is over the memory")
	case t.Memory > 0 && c.Memory > t.Memory:
		return bad("the memory is over the task's")
	case c.StartTimeout < 0 || c.StopTimeout < 0:
		return bad("negative timeout")
	case c.GPU != 0:
		return unsupported("container %s: GPUs", c.Name)
	case len(c.Links) > 0 && mode != Bridge:
		return bad("links are for network mode bridge only")
	case c.Hostname != "" && (mode == AWSVPC || mode == Host):
		return bad("no host name of one's own in network mode %s", mode)
	case len(c.ExtraHosts) > 0 && mode == AWSVPC:
		return bad("no extra hosts in network mode awsvpc")
	case (len(c.DNS.Servers) > 0 || len(c.DNS.Search) > 0) && mode == AWSVPC:
		return bad("no name servers of one's own in network mode awsvpc")
	case c.Dir != "" && !path.IsAbs(c.Dir):
		return bad("working directory %q", c.Dir)
	}
	for _, v := range c.Environment {
		if v.Name == "" || strings.ContainsAny(v.Name, "=\x00") || strings.ContainsRune(v.Value, 0) {
			return bad("environment variable %q", v.Name)
		}
	}
	for _, s := range c.Secrets {
		if s.Name == "" || s.ValueFrom == "" || strings.ContainsAny(s.Name, "=\x00") {
			return bad("secret %q", s.Name)
		}
	}
	for _, p := range c.Ports {
		if p.Container == 0 || p.Protocol != "" && p.Protocol != "tcp" && p.Protocol != "udp" {
			return bad("port %d/%s", p.Container, p.Protocol)
		}
		if mode != Bridge && p.Host != 0 && p.Host != p.Container {
			return bad("in network mode %s the host port %d must be the container port %d", mode, p.Host, p.Container)
		}
	}
	if p := c.Restart; p != nil && p.Period < 0 {
		return bad("negative restart attempt period")
	}
	if err := c.Health.validate(); err != nil {
		return bad("%v", err)
	}
	if _, err := newLogOptions(c.Log); err != nil {
		return fmt.Errorf("container %s: %w", c.Name, err)
	}
	return nil
}

func validName(name string) bool {
	if name == "" || len(name) > 255 {
		return false
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// validateVolumes checks volumes and who mounts them.
func (t *Task) validateVolumes() error {
	byName := map[string]*Volume{}
	for i := range t.Volumes {
		v := &t.Volumes[i]
		switch {
		case !validVolumeName(v.Name):
			return invalid("volume name %q", v.Name)
		case byName[v.Name] != nil:
			return invalid("two volumes are called %s", v.Name)
		case v.Host != "" && (!path.IsAbs(v.Host) || strings.ContainsRune(v.Host, 0)):
			return invalid("volume %s: host path %q", v.Name, v.Host)
		case v.Host != "" && v.Docker != nil:
			return invalid("volume %s has a host path and a configuration of its own", v.Name)
		case v.Docker != nil && v.Docker.Driver != "" && v.Docker.Driver != "local":
			return unsupported("volume %s: driver %s", v.Name, v.Docker.Driver)
		case v.Size < 0 || v.Size > 0 && (v.Host != "" || v.Docker != nil):
			return invalid("volume %s: size %d", v.Name, v.Size)
		}
		byName[v.Name] = v
	}
	for i := range t.Containers {
		c := &t.Containers[i]
		for _, m := range c.Mounts {
			if byName[m.Volume] == nil {
				return invalid("container %s: unknown volume %q", c.Name, m.Volume)
			}
			if !path.IsAbs(m.Path) || path.Clean(m.Path) == "/" || strings.ContainsRune(m.Path, 0) {
				return invalid("container %s: mount point %q", c.Name, m.Path)
			}
		}
		for _, f := range c.VolumesFrom {
			if t.find(f.Container) == nil || f.Container == c.Name {
				return invalid("container %s: no container %q to take volumes from", c.Name, f.Container)
			}
		}
	}
	return nil
}

func validVolumeName(name string) bool {
	return validName(strings.ReplaceAll(name, ".", "-")) && name[0] != '.'
}

func (t *Task) find(name string) *Container {
	for i := range t.Containers {
		if t.Containers[i].Name == name {
			return &t.Containers[i]
		}
	}
	return nil
}

// validateOrder refuses dependencies that nobody could ever meet.
func (t *Task) validateOrder() error {
	for i := range t.Containers {
		c := &t.Containers[i]
		for _, d := range c.dependencies() {
			on := t.find(d.Container)
			switch {
			case on == nil:
				return invalid("container %s depends on %q, which is not in the task", c.Name, d.Container)
			case d.Condition == OnHealthy && on.Health == nil:
				return invalid("container %s waits for %s to be healthy, which has no health check", c.Name, d.Container)
			case (d.Condition == OnComplete || d.Condition == OnSuccess) && on.Essential:
				return invalid("container %s waits for the end of %s, which is essential", c.Name, d.Container)
			case d.Condition != OnStart && d.Condition != OnComplete && d.Condition != OnSuccess && d.Condition != OnHealthy && d.Condition != onCreate:
				return invalid("container %s: condition %q", c.Name, d.Condition)
			}
		}
	}
	done := map[string]bool{}
	for range t.Containers {
		for i := range t.Containers {
			c := &t.Containers[i]
			ok := true
			for _, d := range c.dependencies() {
				ok = ok && done[d.Container]
			}
			done[c.Name] = done[c.Name] || ok
		}
	}
	for i := range t.Containers {
		if !done[t.Containers[i].Name] {
			return invalid("container %s depends on itself", t.Containers[i].Name)
		}
	}
	return nil
}
