package engine

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// RlimitNames are the names that an Rlimit can have.
var RlimitNames = []string{"cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock", "as", "locks",
	"sigpending", "msgqueue", "nice", "rtprio", "rttime"} // in the kernel's order

// ownSysctls are the kernel's settings that each container has for itself, with
// net.* and fs.mqueue.*: the ones that Docker accepts.
var ownSysctls = []string{"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax",
	"kernel.shmmni", "kernel.shm_rmid_forced", "kernel.domainname"}

// validateProcess checks what concerns the process; the texts are Docker's.
func (s *Spec) validateProcess() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("engine: %w: %s", ErrInvalid, fmt.Sprintf(format, args...))
	}
	if s.ShmSize < 0 {
		return bad("SHM size can not be less than 0")
	}
	if s.LogFiles < 0 || s.LogSize < 0 {
		return bad("a log of %d files of %d bytes", s.LogFiles, s.LogSize)
	}
	for _, r := range s.Rlimits {
		if !slices.Contains(RlimitNames, strings.ToLower(r.Name)) {
			return bad("invalid ulimit type: %s", r.Name)
		}
		if r.Soft > r.Hard {
			return bad("ulimit soft limit must be less than or equal to hard limit: %d > %d", r.Soft, r.Hard)
		}
	}
	for name, value := range s.Sysctls {
		switch network := strings.HasPrefix(name, "net."); {
		case name == "kernel.hostname":
			return bad("sysctl %q is not allowed as it conflicts with the OCI %q field", name, "hostname")
		case !network && !strings.HasPrefix(name, "fs.mqueue.") && !slices.Contains(ownSysctls, name):
			return bad("sysctl %q is not in a separate kernel namespace", name)
		case network && s.Network.Mode == NetworkHost:
			return bad("sysctl %q not allowed in host network namespace", name)
		case strings.ContainsAny(name, "/\x00") || slices.Contains(strings.Split(name, "."), "") || strings.ContainsRune(value, 0):
			return bad("sysctl %q = %q", name, value)
		}
	}
	for _, d := range s.Devices {
		if err := d.validate(); err != nil {
			return err
		}
	}
	return nil
}

// Place is where the device is in the container.
func (d Device) Place() string {
	if d.Target == "" {
		return path.Clean(d.Source)
	}
	return path.Clean(d.Target)
}

func (d Device) validate() error {
	switch {
	case !path.IsAbs(d.Source) || strings.ContainsRune(d.Source+d.Target, 0):
		return fmt.Errorf("engine: %w: device %q", ErrInvalid, d.Source)
	case !strings.HasPrefix(d.Place(), "/dev/"):
		return fmt.Errorf("engine: %w: device %q in the container is not below /dev", ErrInvalid, d.Place())
	case strings.Trim(d.Permissions, "rwm") != "":
		return fmt.Errorf("engine: %w: invalid device mode: %s", ErrInvalid, d.Permissions)
	}
	return nil
}
