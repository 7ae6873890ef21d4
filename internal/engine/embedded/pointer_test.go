//go:build linux && amd64

package embedded

import "unsafe"

func pointer(p *byte) unsafe.Pointer { return unsafe.Pointer(p) }
