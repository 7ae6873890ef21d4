//go:build linux && amd64

// Package seccomp compiles a seccomp profile (moby's default, or a given one) into a BPF
// program: a binary search over the system call's number, so that any call is
// decided in about eight comparisons, and so that the kernel, which runs the
// program once for every number when it is loaded, has little to do.
//
// Only the machine's own system calls are let through: 32-bit programs and the
// x32 interface get ENOSYS. Numbers newer than the profile knows get ENOSYS
// too, so that libraries fall back to older calls, as under runc; but where a
// profile lets through what it does not name, they are let through as well.
package seccomp

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// named is a system call.
type named struct {
	name   string
	number uint32
}

func number(name string) (uint32, bool) {
	i, ok := slices.BinarySearchFunc(amd64Calls, name, func(c named, n string) int { return strings.Compare(c.name, n) })
	if !ok {
		return 0, false
	}
	return amd64Calls[i].number, true
}

// Actions of a filter.
const (
	allow = unix.SECCOMP_RET_ALLOW
	errno = unix.SECCOMP_RET_ERRNO
)

// Offsets into struct seccomp_data (little endian).
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

// condition is one comparison of an argument.
type condition struct {
	arg   uint
	op    specs.LinuxSeccompOperator
	value uint64
	mask  uint64 // SCMP_CMP_MASKED_EQ
}

// rule applies its action when all conditions hold.
type rule struct {
	action uint32
	when   []condition
}

// Default compiles moby's default profile for a container with the
// capabilities (by name, CAP_...), some of which allow more calls.
func Default(capabilities []string) ([]unix.SockFilter, error) {
	profile, err := seccomp.GetDefaultProfile(&specs.Spec{
		Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: capabilities}},
	})
	if err != nil {
		return nil, fmt.Errorf("seccomp: the default profile: %w", err)
	}
	return compile(profile)
}

// Profile compiles a profile in Docker's JSON. Without rules and a default action it
// is none, and the filter nil.
func Profile(text string, capabilities []string) ([]unix.SockFilter, error) {
	profile, err := seccomp.LoadProfile(text, &specs.Spec{
		Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: capabilities}},
	})
	switch {
	case err != nil:
		return nil, err
	case profile == nil:
		return nil, nil
	case len(profile.Flags) > 0 || profile.ListenerPath != "":
		return nil, errors.New("flags and listeners of a profile are not supported")
	}
	for _, s := range profile.Syscalls {
		for _, a := range s.Args {
			if a.Index > 5 || !slices.Contains(operators, a.Op) {
				return nil, fmt.Errorf("argument %d of a call, compared by %q", a.Index, a.Op)
			}
		}
	}
	return compile(profile)
}

var operators = []specs.LinuxSeccompOperator{specs.OpEqualTo, specs.OpNotEqual, specs.OpMaskedEqual, specs.OpGreaterThan, specs.OpGreaterEqual, specs.OpLessThan, specs.OpLessEqual}

func compile(p *specs.LinuxSeccomp) ([]unix.SockFilter, error) {
	otherwise, err := action(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	rules := map[uint32][]rule{}
	for _, s := range p.Syscalls {
		act, err := action(s.Action, s.ErrnoRet)
		if err != nil {
			return nil, err
		}
		if act == otherwise {
			continue // it says nothing
		}
		for _, name := range s.Names {
			if n, ok := number(name); ok {
				rules[n] = append(rules[n], split(act, s.Args)...)
			}
		}
	}
	numbers := slices.Sorted(maps.Keys(rules))
	if len(numbers) == 0 && !lenient(otherwise) {
		return nil, fmt.Errorf("seccomp: a profile without rules")
	}
	body := search(spans(numbers, rules, otherwise))
	head := []unix.SockFilter{
		load(offArch),
		jump(unix.BPF_JEQ, unix.AUDIT_ARCH_X86_64, 1, 0),
		ret(errno | uint32(unix.ENOSYS)),
		load(offNumber),
	}
	prog := append(head, body...)
	if len(prog) > unix.BPF_MAXINSNS {
		return nil, fmt.Errorf("seccomp: the program has %d instructions", len(prog))
	}
	return prog, nil
}

func action(a specs.LinuxSeccompAction, ret *uint) (uint32, error) {
	switch a {
	case specs.ActAllow:
		return allow, nil
	case specs.ActErrno:
		if ret != nil {
			return errno | uint32(*ret)&unix.SECCOMP_RET_DATA, nil
		}
		return errno | uint32(unix.EPERM), nil
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	case specs.ActTrap:
		return unix.SECCOMP_RET_TRAP, nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	case specs.ActTrace:
		n := uint32(unix.EPERM)
		if ret != nil {
			n = uint32(*ret)
		}
		return unix.SECCOMP_RET_TRACE | n&unix.SECCOMP_RET_DATA, nil
	}
	return 0, fmt.Errorf("seccomp: the action %s is not known", a)
}

// lenient says that an action lets a call through.
func lenient(action uint32) bool { return action == allow || action == unix.SECCOMP_RET_LOG }

// x32 is where the numbers of that interface begin.
const x32 = 0x40000000

// split makes rules of a profile's entry. Conditions on different arguments
// must all hold; several on one argument are alternatives (as libcontainer
// reads profiles).
func split(act uint32, args []specs.LinuxSeccompArg) []rule {
	seen := map[uint]bool{}
	twice := false
	var all []condition
	for _, a := range args {
		twice = twice || seen[a.Index]
		seen[a.Index] = true
		c := condition{arg: a.Index, op: a.Op, value: a.Value}
		if a.Op == specs.OpMaskedEqual {
			c.mask, c.value = a.Value, a.ValueTwo
		}
		all = append(all, c)
	}
	if !twice {
		return []rule{{act, all}}
	}
	var rules []rule
	for _, c := range all {
		rules = append(rules, rule{act, []condition{c}})
	}
	return rules
}

// span is what happens from a number on, up to the next span's.
type span struct {
	from uint32
	code []unix.SockFilter
}

// spans covers all numbers from 0 with neighbours of one outcome joined.
func spans(numbers []uint32, rules map[uint32][]rule, otherwise uint32) []span {
	var all []span
	add := func(from uint32, code []unix.SockFilter) {
		if n := len(all); n > 0 && slices.Equal(all[n-1].code, code) {
			return
		}
		all = append(all, span{from, code})
	}
	next := uint32(0)
	for _, n := range numbers {
		if n > next || n == 0 {
			add(next, []unix.SockFilter{ret(otherwise)})
		}
		if n == 0 {
			all = nil
		}
		add(n, decide(rules[n], otherwise))
		next = n + 1
	}
	if lenient(otherwise) {
		add(next, []unix.SockFilter{ret(otherwise)})
		next = x32
	}
	add(next, []unix.SockFilter{ret(errno | uint32(unix.ENOSYS))})
	return all
}

// search is a binary search tree over the spans; the number is in A.
func search(s []span) []unix.SockFilter {
	if len(s) == 1 {
		return s[0].code
	}
	mid := len(s) / 2
	low, high := search(s[:mid]), search(s[mid:])
	code := []unix.SockFilter{}
	if len(low) < 256 {
		code = append(code, jump(unix.BPF_JGE, s[mid].from, uint8(len(low)), 0))
	} else {
		code = append(code, jump(unix.BPF_JGE, s[mid].from, 0, 1),
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(len(low))})
	}
	return append(append(code, low...), high...)
}

// decide is the code for one number: the first rule whose conditions hold.
func decide(rules []rule, otherwise uint32) []unix.SockFilter {
	var code []unix.SockFilter
	for _, r := range rules {
		if len(r.when) == 0 {
			return []unix.SockFilter{ret(r.action)}
		}
		code = append(code, check(r)...)
	}
	return append(code, ret(otherwise))
}

// check is the code of one rule: it returns the action or falls out of its end.
// It is built backwards, so that each comparison knows how far the end is.
func check(r rule) []unix.SockFilter {
	code := []unix.SockFilter{ret(r.action)}
	for _, c := range slices.Backward(r.when) {
		code = append(compare(c, uint8(len(code))), code...)
	}
	return code
}

// compare goes on behind itself when c holds, else over the rest too.
func compare(c condition, rest uint8) []unix.SockFilter {
	lo, hi := uint32(offArgs+8*c.arg), uint32(offArgs+8*c.arg+4)
	vlo, vhi := uint32(c.value), uint32(c.value>>32)
	switch c.op {
	case specs.OpEqualTo:
		return []unix.SockFilter{load(hi), jump(unix.BPF_JEQ, vhi, 0, rest+2), load(lo), jump(unix.BPF_JEQ, vlo, 0, rest)}
	case specs.OpNotEqual:
		return []unix.SockFilter{load(hi), jump(unix.BPF_JEQ, vhi, 0, 2), load(lo), jump(unix.BPF_JEQ, vlo, rest, 0)}
	case specs.OpMaskedEqual:
		return []unix.SockFilter{
			load(hi), and(uint32(c.mask >> 32)), jump(unix.BPF_JEQ, vhi, 0, rest+3),
			load(lo), and(uint32(c.mask)), jump(unix.BPF_JEQ, vlo, 0, rest),
		}
	case specs.OpGreaterThan:
		return []unix.SockFilter{load(hi), jump(unix.BPF_JGT, vhi, 3, 0), jump(unix.BPF_JEQ, vhi, 0, rest+2),
			load(lo), jump(unix.BPF_JGT, vlo, 0, rest)}
	case specs.OpGreaterEqual:
		return []unix.SockFilter{load(hi), jump(unix.BPF_JGT, vhi, 3, 0), jump(unix.BPF_JEQ, vhi, 0, rest+2),
			load(lo), jump(unix.BPF_JGE, vlo, 0, rest)}
	case specs.OpLessThan:
		return []unix.SockFilter{load(hi), jump(unix.BPF_JGT, vhi, rest+3, 0), jump(unix.BPF_JEQ, vhi, 0, 2),
			load(lo), jump(unix.BPF_JGE, vlo, rest, 0)}
	case specs.OpLessEqual:
		return []unix.SockFilter{load(hi), jump(unix.BPF_JGT, vhi, rest+3, 0), jump(unix.BPF_JEQ, vhi, 0, 2),
			load(lo), jump(unix.BPF_JGT, vlo, rest, 0)}
	}
	return []unix.SockFilter{{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(rest)}} // never holds
}

func load(off uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: off}
}

func and(k uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: k}
}

func ret(k uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k}
}

func jump(op uint16, k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, Jt: yes, Jf: no, K: k}
}
