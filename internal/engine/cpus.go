package engine

import (
	"fmt"
	"strconv"
	"strings"
)

// maxProcessor is above the numbers of all processors and memory nodes.
const maxProcessor = 8192

// ParseCPUs reads a list of processors or memory nodes such as "0-2,7", as the kernel
// writes it.
func ParseCPUs(list string) (map[int]bool, error) {
	out := map[int]bool{}
	for part := range strings.SplitSeq(strings.TrimSpace(list), ",") {
		if part == "" {
			continue
		}
		from, to, ranged := strings.Cut(part, "-")
		low, err := strconv.ParseUint(from, 10, 16)
		high := low
		if err == nil && ranged {
			high, err = strconv.ParseUint(to, 10, 16)
		}
		if err != nil || high < low || high >= maxProcessor {
			return nil, fmt.Errorf("failed to parse %q in the list %q", part, list)
		}
		for n := low; n <= high; n++ {
			out[int(n)] = true
		}
	}
	return out, nil
}

// Available says whether a list of the limits is part of what there is. Its errors
// are ErrInvalid, with Docker's texts.
func (l *Limits) Available(cpus, mems string) error {
	for _, x := range []struct{ what, wants, has string }{{"CPUs", l.CPUs, cpus}, {"memory nodes", l.Mems, mems}} {
		want, err := ParseCPUs(x.wants)
		if err != nil {
			return fmt.Errorf("engine: %w: %w", ErrInvalid, err)
		}
		has, err := ParseCPUs(x.has)
		if err != nil {
			return fmt.Errorf("engine: %s of this machine: %w", x.what, err)
		}
		for n := range want {
			if !has[n] {
				return fmt.Errorf("engine: %w: Requested %s are not available - requested %s, available: %s", ErrInvalid, x.what, x.wants, x.has)
			}
		}
	}
	return nil
}
