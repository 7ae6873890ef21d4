//go:build linux && amd64

package rootfs

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// As runs fn with a user and group id of the machine for what it makes in file
// systems, and with every privilege that this process has. Files of a
// container are made so: its file systems know its own ids and no others, not
// even the machine's root.
func As(id uint32, fn func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var all [2]unix.CapUserData
	if err := unix.Capget(&header, &all[0]); err != nil {
		return fmt.Errorf("rootfs: capabilities: %w", err)
	}
	become := func(id uint32) { // these calls answer the old id, never an error
		_, _, _ = unix.RawSyscall(unix.SYS_SETFSGID, uintptr(id), 0, 0)
		_, _, _ = unix.RawSyscall(unix.SYS_SETFSUID, uintptr(id), 0, 0)
	}
	become(id)
	defer become(0)
	// another id than root's has lost the privileges over files
	if err := unix.Capset(&header, &all[0]); err != nil {
		return fmt.Errorf("rootfs: capabilities: %w", err)
	}
	return fn()
}
