package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"skerry/internal/base/clock"
	"skerry/internal/engine"
)

// statsPeriod is the time between two readings.
const statsPeriod = time.Second

// stats answers GET /containers/{id}/stats.
func (d *Daemon) stats(c *call) error {
	row, err := d.find(c.Context(), c.vars["id"])
	if err != nil {
		return err
	}
	stream := c.query.Get("stream") == "" || c.flag("stream")
	spec, err := row.spec()
	if err != nil {
		return err
	}
	last, err := d.reading(c.Context(), row, &spec)
	if err != nil {
		return err
	}
	if !stream && !c.flag("one-shot") && row.running() { // two readings, for the processor's share
		if err := clock.Sleep(c.Context(), d.clock, statsPeriod); err != nil {
			return err
		}
		return d.nextReading(c, row, &spec, last, json.NewEncoder(c.stream("application/json")))
	}
	out := json.NewEncoder(c.stream("application/json"))
	if err := out.Encode(last); err != nil || !stream {
		return err
	}
	for {
		if err := clock.Sleep(c.Context(), d.clock, statsPeriod); err != nil {
			return nil
		}
		if row, err = d.find(c.Context(), row.ID); err != nil {
			return nil // removed
		}
		if err := d.nextReading(c, row, &spec, last, out); err != nil {
			return nil
		}
	}
}

// nextReading writes a reading that knows the one before, which it becomes.
func (d *Daemon) nextReading(c *call, row *containerRow, spec *engine.Spec, last *container.StatsResponse, out *json.Encoder) error {
	next, err := d.reading(c.Context(), row, spec)
	if err != nil {
		return err
	}
	next.PreRead, next.PreCPUStats = last.Read, last.CPUStats
	*last = *next
	return out.Encode(next)
}

// reading reads the counters of a container; one that does not run has none.
func (d *Daemon) reading(ctx context.Context, row *containerRow, spec *engine.Spec) (*container.StatsResponse, error) {
	s := &container.StatsResponse{ID: row.ID, Name: "/" + row.Name, OSType: "linux"}
	if !row.running() {
		return s, nil
	}
	e, err := d.engine.Stats(ctx, engine.ID(row.ID))
	if err != nil {
		return s, nil // it has just ended
	}
	s.Read = e.Time
	s.CPUStats.CPUUsage.TotalUsage = uint64(e.CPU)
	s.CPUStats.ThrottlingData.ThrottledTime = uint64(e.Throttled)
	s.CPUStats.OnlineCPUs = uint32(runtime.NumCPU())
	if s.CPUStats.SystemUsage, err = machineTime(); err != nil {
		return nil, err
	}
	s.MemoryStats.Usage, s.MemoryStats.MaxUsage = uint64(e.Memory), uint64(e.MemoryPeak)
	s.MemoryStats.Failcnt = uint64(e.OOMKills)
	if s.MemoryStats.Limit = uint64(spec.Limits.Memory); s.MemoryStats.Limit == 0 {
		s.MemoryStats.Limit = uint64(machineMemory())
	}
	s.PidsStats.Current = uint64(e.Pids)
	if spec.Limits.Pids > 0 {
		s.PidsStats.Limit = uint64(spec.Limits.Pids)
	}
	if row.Net.Mode == modeBridge {
		s.Networks = map[string]container.NetworkStats{"eth0": {RxBytes: uint64(e.Received), TxBytes: uint64(e.Sent)}}
	}
	return s, nil
}

// userHertz is the unit of /proc/stat, which is the same on all of Linux.
const userHertz = 100

// machineTime is the processor time of the whole machine, idle or not, in
// nanoseconds.
func machineTime() (uint64, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("daemon: %w", err)
	}
	first, _, _ := bytes.Cut(text, []byte("\n"))
	fields := strings.Fields(string(first))
	var sum uint64
	for _, f := range fields[1:min(len(fields), 8)] {
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("daemon: /proc/stat: %w", err)
		}
		sum += n
	}
	return sum * uint64(time.Second) / userHertz, nil
}

// machineMemory is the machine's memory in bytes; 0 when it is not known.
func machineMemory() int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "MemTotal:" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n << 10
		}
	}
	return 0
}

// psArgument is what docker top may pass to ps: no more than options.
var psArgument = regexp.MustCompile(`^[a-zA-Z0-9_,=%:+-]*$`)

// top answers GET /containers/{id}/top by the machine's own ps, as Docker does.
func (d *Daemon) top(c *call) error {
	row, err := d.find(c.Context(), c.vars["id"])
	if err != nil {
		return err
	}
	if !row.running() {
		return conflict("container %s is not running", row.ID)
	}
	st, err := d.engine.Inspect(c.Context(), engine.ID(row.ID))
	if err != nil {
		return err
	}
	args := strings.Fields(c.query.Get("ps_args"))
	if len(args) == 0 {
		args = []string{"-ef"}
	}
	for _, a := range args {
		if !psArgument.MatchString(a) {
			return badRequest("invalid argument of ps: %q", a)
		}
	}
	pids := pidsOf(st.Pid)
	chosen := append(slices.Clone(args), "-q"+strings.Join(slices.Sorted(maps.Keys(pids)), ","))
	out, err := exec.CommandContext(c.Context(), "ps", chosen...).Output()
	if err != nil { // -q and what chooses otherwise exclude each other
		out, err = exec.CommandContext(c.Context(), "ps", args...).Output()
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && len(exit.Stderr) > 0 {
		line, _, _ := strings.Cut(strings.TrimSpace(string(exit.Stderr)), "\n")
		return badRequest("%s", line)
	}
	if err != nil {
		return badRequest("ps: %v", err)
	}
	answer, err := onlyPids(string(out), pids)
	if err != nil {
		return err
	}
	d.tell(row, events.ActionTop, nil)
	return c.ok(answer)
}

// pidsOf lists the processes in the process namespace of one, as the machine
// numbers them.
func pidsOf(first int) map[string]bool {
	all := map[string]bool{}
	space, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", first))
	if err != nil {
		return all
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return all
	}
	for _, e := range entries {
		if s, err := os.Readlink("/proc/" + e.Name() + "/ns/pid"); err == nil && s == space {
			all[e.Name()] = true
		}
	}
	return all
}

// onlyPids takes the lines of processes out of what ps prints.
func onlyPids(text string, pids map[string]bool) (*container.TopResponse, error) {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	out := &container.TopResponse{Titles: strings.Fields(lines[0]), Processes: [][]string{}}
	at := slices.Index(out.Titles, "PID")
	if at < 0 {
		return nil, badRequest("Couldn't find PID field in ps output")
	}
	for _, l := range lines[1:] {
		f := strings.Fields(l)
		if len(f) <= at || !pids[f[at]] {
			continue
		}
		if n := len(out.Titles); len(f) > n { // the last column may have blanks
			f = append(f[:n-1], strings.Join(f[n-1:], " "))
		}
		out.Processes = append(out.Processes, f)
	}
	return out, nil
}
