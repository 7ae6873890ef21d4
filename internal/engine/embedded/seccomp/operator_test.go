//go:build linux && amd64

package seccomp

import "github.com/opencontainers/runtime-spec/specs-go"

func operator(s string) specs.LinuxSeccompOperator { return specs.LinuxSeccompOperator(s) }
