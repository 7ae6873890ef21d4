//go:build linux

package cgroup

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of a group; zero is no limit.
type Limits struct {
	Memory, Reserve int64   // bytes
	Swap            int64   // bytes, with Memory; zero is none, negative is no limit
	CPU             float64 // processors
	Shares          int64   // 1024 is usual
	Pids            int64
	CPUs, Mems      string // lists of processors and of memory nodes; empty is all
}

// Stats are a group's counters; what the machine does not count is zero.
type Stats struct {
	Memory, Peak   int64
	CPU, Throttled time.Duration
	Pids, OOMKills int64
}

// Period is the time over which a CPU quota is kept.
const Period = 100 * time.Millisecond

// Group is one container's.
type Group struct {
	tree   *Tree
	name   string // below the tree
	parent *Parent
	limits Limits
	// of its earlier users, version 1
	kills int64 // OOMKills
	cpu   int64 // nanoseconds
	// of version 1: where processes join, open for as long as the group is there;
	// the folder of its own devices, empty with the usual ones, and where they join
	join      []int
	devices   string
	ownJoin   int
	cpus      string // its folder in the cpuset controller, empty without
	cpusJoin  int
	reserved  int64 // counted in the folder above, version 2
	frozen    bool  // it may be
	unlimited bool  // a privileged container may have changed everything about it
}

// maxSpare is how many used groups are kept, and maxCharge how much memory, in
// bytes, may still be charged to one: files that its processes were the first to
// read. One with more is not used again, as its next user would seem to use it.
const (
	maxSpare  = 64
	maxCharge = 1 << 20
)

// Create makes a group with limits, or takes a used one: in version 1 a
// group is five folders, which to make and remove costs more than all else of a
// container's start.
func (t *Tree) Create(l Limits) (*Group, error) {
	t.mu.Lock()
	if n := len(t.spare); n > 0 {
		g := t.spare[n-1]
		t.spare = t.spare[:n-1]
		t.mu.Unlock()
		if err := g.Set(l); err != nil {
			return nil, errors.Join(err, g.Remove())
		}
		return g, nil
	}
	t.next++
	g := &Group{tree: t, name: "c" + strconv.Itoa(t.next)}
	t.mu.Unlock()
	if err := g.begin(l); err != nil {
		return nil, err
	}
	return g, nil
}

// begin makes the folders of a group with limits, or nothing.
func (g *Group) begin(l Limits) error {
	if err := g.make(); err != nil {
		return err
	}
	if err := g.Set(l); err != nil {
		return errors.Join(err, g.drop())
	}
	return nil
}

// make makes a group's folders, or none.
func (g *Group) make() error {
	for i, fd := range g.dirs() {
		if err := unix.Mkdirat(fd, g.name, 0o755); err != nil {
			for _, made := range g.dirs()[:i] {
				_ = unix.Unlinkat(made, g.name, unix.AT_REMOVEDIR)
			}
			return fmt.Errorf("cgroup: make %s: %w", g.name, err)
		}
	}
	return nil
}

// Release gives a group back whose processes have ended: for another user, or
// to be removed.
func (t *Tree) Release(g *Group) error {
	if err := errors.Join(g.dropDevices(), g.dropCPUs()); err != nil {
		return errors.Join(err, g.Remove())
	}
	t.mu.Lock()
	full := len(t.spare) >= maxSpare
	t.mu.Unlock()
	if t.Version == 2 || g.parent != nil || full || g.unlimited || g.reset() != nil {
		return g.Remove()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.spare = append(t.spare, g)
	return nil
}

// reset makes the counters of version 1 begin anew; an error means that the
// group cannot be used again.
func (g *Group) reset() error {
	// who joins one hierarchy joins all, and nothing inside can leave them
	controller, file, none := "pids", "pids.current", "0"
	if !g.tree.Controllers[controller] {
		controller, file, none = g.tree.v1[0].first, "cgroup.procs", ""
	}
	if s, err := g.read(controller, file); err != nil || s != none {
		return fmt.Errorf("cgroup: %s still has processes (%s %s): %w", g.name, file, s, err)
	}
	if g.number("memory", "memory.usage_in_bytes") > maxCharge {
		return fmt.Errorf("cgroup: %s is still charged with memory", g.name)
	}
	g.kills += g.OOMKills()
	g.cpu += int64(g.used())
	var errs []error
	if g.frozen {
		errs = append(errs, g.Freeze(false)) // as its last process ended
	}
	if g.tree.Controllers["memory"] {
		errs = append(errs, g.write("memory", "memory.max_usage_in_bytes", "0"))
	}
	return errors.Join(errs...)
}

func (g *Group) dirs() []int {
	if g.tree.Version == 2 {
		return []int{g.tree.v2}
	}
	fds := make([]int, len(g.tree.v1))
	for i, h := range g.tree.v1 {
		fds[i] = h.fd
	}
	return fds
}

func (g *Group) dir(controller string) (int, bool) {
	if !g.tree.Controllers[controller] {
		return -1, false
	}
	if g.tree.Version == 2 {
		return g.tree.v2, true
	}
	i, ok := g.tree.of[controller]
	if !ok {
		return -1, false
	}
	return g.tree.v1[i].fd, true
}

func (g *Group) write(controller, file, value string) error {
	fd, ok := g.dir(controller)
	if !ok {
		return fmt.Errorf("cgroup: no %s controller: %w", controller, errors.ErrUnsupported)
	}
	if err := write(fd, g.name+"/"+file, value); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	return nil
}

func (g *Group) read(controller, file string) (string, error) {
	fd, ok := g.dir(controller)
	if !ok {
		return "", fmt.Errorf("cgroup: no %s controller: %w", controller, errors.ErrUnsupported)
	}
	s, err := read(fd, g.name+"/"+file)
	if err != nil {
		return "", fmt.Errorf("cgroup: %w", err)
	}
	return s, nil
}

func (g *Group) number(controller, file string) int64 {
	s, _ := g.read(controller, file)
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}

// field reads "name value" out of a file of such lines.
func (g *Group) field(controller, file, name string) int64 {
	s, _ := g.read(controller, file)
	for line := range strings.Lines(s) {
		if k, v, _ := strings.Cut(strings.TrimSpace(line), " "); k == name {
			n, _ := strconv.ParseInt(v, 10, 64)
			return n
		}
	}
	return 0
}

// Set changes the limits. One that the machine cannot keep is an error
// (errors.ErrUnsupported), none is not.
func (g *Group) Set(l Limits) error {
	var errs []error
	if g.parent != nil {
		l = g.parent.within(l)
	}
	was := g.limits
	g.limits = l
	v2 := g.tree.Version == 2
	if l.Memory != was.Memory || l.Swap != was.Swap {
		errs = append(errs, g.setMemory(l.Memory, l.Swap))
	}
	if l.Reserve != was.Reserve {
		errs = append(errs, g.setReserve(l.Reserve))
	}
	if l.CPU != was.CPU {
		errs = append(errs, g.setCPU(l.CPU))
	}
	if l.Shares != was.Shares {
		file, value := "cpu.shares", or(max(l.Shares, 0), "1024")
		if v2 {
			file, value = "cpu.weight", or(weight(l.Shares), "100")
		}
		errs = append(errs, g.write("cpu", file, value))
	}
	if l.Pids != was.Pids {
		errs = append(errs, g.write("pids", "pids.max", or(l.Pids, "max")))
	}
	if l.CPUs != was.CPUs || l.Mems != was.Mems {
		errs = append(errs, g.setCPUs(l.CPUs, l.Mems))
	}
	return errors.Join(errs...)
}

func or(n int64, zero string) string {
	if n <= 0 {
		return zero
	}
	return strconv.FormatInt(n, 10)
}

// weight maps shares (2 to 262144) to version 2's weight (1 to 10000), as runc
// and systemd do.
func weight(shares int64) int64 {
	if shares <= 0 {
		return 0
	}
	shares = min(max(shares, 2), 262144)
	return 1 + (shares-2)*9999/262142
}

func (g *Group) setMemory(limit, most int64) error {
	if g.tree.Version == 2 {
		err := g.write("memory", "memory.max", or(limit, "max"))
		value := strconv.FormatInt(most, 10)
		if most < 0 || limit <= 0 {
			value = "max"
		}
		if e := g.write("memory", "memory.swap.max", value); e != nil && !errors.Is(e, unix.ENOENT) {
			err = errors.Join(err, e)
		}
		return err
	}
	// memsw, memory and swap together, is never below memory
	value, both := or(limit, "-1"), "-1"
	if limit > 0 && most >= 0 && limit+most > 0 {
		both = strconv.FormatInt(limit+most, 10)
	}
	swap := func() error {
		if err := g.write("memory", "memory.memsw.limit_in_bytes", both); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
		return nil
	}
	err := g.write("memory", "memory.limit_in_bytes", value)
	if errors.Is(err, unix.EINVAL) {
		if err := swap(); err != nil {
			return err
		}
		return g.write("memory", "memory.limit_in_bytes", value)
	}
	if err != nil {
		return err
	}
	return swap()
}

func (g *Group) setCPU(cpus float64) error {
	quota := int64(0)
	if cpus > 0 {
		quota = max(int64(cpus*float64(Period.Microseconds())), 1000)
	}
	if g.tree.Version == 2 {
		return g.write("cpu", "cpu.max", or(quota, "max")+" "+strconv.FormatInt(Period.Microseconds(), 10))
	}
	return g.write("cpu", "cpu.cfs_quota_us", or(quota, "-1"))
}

// Folder returns the descriptor into which version 2 clones a process (close
// it), or 0.
func (g *Group) Folder() (int, error) {
	if g.tree.Version != 2 {
		return 0, nil
	}
	fd, err := unix.Openat(g.tree.v2, g.name, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("cgroup: open %s: %w", g.name, err)
	}
	return fd, nil
}

// Join returns the descriptors to which a process of version 1 writes "0" in
// order to be in the group. They stay the group's, for its next user too.
func (g *Group) Join() ([]int, error) {
	if g.tree.Version == 2 {
		return nil, nil
	}
	for i, fd := range g.dirs() {
		if i < len(g.join) {
			continue
		}
		tasks, err := openTasks(fd, g.name)
		if err != nil {
			return nil, err
		}
		g.join = append(g.join, tasks)
	}
	devices, err := g.devicesJoin()
	if err != nil {
		return g.join, err
	}
	cpus, err := g.joinCPUs()
	if err != nil || devices == 0 && cpus == 0 {
		return g.join, err
	}
	all := slices.Clone(g.join)
	for _, fd := range []int{devices, cpus} {
		if fd > 0 {
			all = append(all, fd)
		}
	}
	return all, nil
}

func openTasks(dir int, group string) (int, error) {
	fd, err := unix.Openat(dir, group+"/tasks", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("cgroup: open the tasks of %s: %w", group, err)
	}
	return fd, nil
}

// Freeze stops all processes of the group, or lets them go on, and returns
// once it is so.
func (g *Group) Freeze(frozen bool) error {
	file, value, state := "freezer.state", "THAWED", "freezer.state"
	if frozen {
		value = "FROZEN"
	}
	done := func(s string) bool { return s == value }
	if g.tree.Version == 2 {
		file, state, value = "cgroup.freeze", "cgroup.events", "0"
		if frozen {
			value = "1"
		}
		done = func(s string) bool { return strings.Contains(s, "frozen "+value) }
	}
	g.frozen = true // whatever happens
	if err := g.write("freezer", file, value); err != nil {
		return err
	}
	for wait := time.Microsecond; ; wait = min(2*wait, time.Millisecond) {
		s, err := g.read("freezer", state)
		if err != nil {
			return err
		}
		if done(s) {
			g.frozen = frozen
			return nil
		}
		if wait == time.Millisecond && frozen && g.tree.Version == 1 {
			// a process forked or slept past the first try: ask again
			if err := g.write("freezer", file, value); err != nil {
				return err
			}
		}
		time.Sleep(wait) // the kernel has no other way to tell, in version 1
	}
}

// Kill ends every process of the group, frozen ones too.
func (g *Group) Kill() error {
	if g.tree.Version == 2 {
		err := g.write("freezer", "cgroup.kill", "1")
		if err == nil || !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	controller := "freezer"
	if !g.tree.Controllers[controller] {
		controller = g.tree.v1[0].first
	}
	s, err := g.read(controller, "cgroup.procs")
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	for _, pid := range strings.Fields(s) {
		if n, _ := strconv.Atoi(pid); n > 1 {
			_ = unix.Kill(n, unix.SIGKILL) // one that is gone is what is wanted
		}
	}
	if g.tree.Controllers["freezer"] {
		err = errors.Join(err, g.Freeze(false))
	}
	return err
}

// Remove removes the group, whose processes have ended.
func (g *Group) Remove() error {
	err := g.drop()
	if g.parent != nil {
		err = errors.Join(err, g.parent.Close())
	}
	return err
}

// drop removes the group's folders.
func (g *Group) drop() error {
	for _, fd := range g.join {
		unix.Close(fd)
	}
	g.join = nil
	for _, fd := range g.dirs() {
		if err := removeAt(fd, g.name); err != nil {
			return err
		}
	}
	return errors.Join(g.reserve(0), g.dropDevices(), g.dropCPUs())
}

// removeAt removes a group's folder, with those that a privileged container has
// made in it. Ending processes hold it for a moment: it tries for up to two
// seconds.
func removeAt(dir int, name string) error {
	deadline := time.Now().Add(2 * time.Second)
	for wait := 100 * time.Microsecond; ; wait *= 2 {
		err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
		if err == nil || err == unix.ENOENT {
			return nil
		}
		own, _ := below(dir, name)
		for _, sub := range own {
			_ = unix.Unlinkat(dir, name+"/"+sub, unix.AT_REMOVEDIR) // if it fails, so does the next try
		}
		if err != unix.EBUSY || time.Now().After(deadline) {
			return fmt.Errorf("cgroup: remove %s: %w", name, err)
		}
		time.Sleep(wait)
	}
}

// OOMKills counts the processes that were killed because of the memory limit.
func (g *Group) OOMKills() int64 {
	if g.tree.Version == 2 {
		return g.field("memory", "memory.events", "oom_kill")
	}
	return g.field("memory", "memory.oom_control", "oom_kill") - g.kills
}

// Stats reads the counters.
func (g *Group) Stats() Stats {
	s := Stats{OOMKills: g.OOMKills(), Pids: g.number("pids", "pids.current")}
	if !g.tree.Controllers["pids"] {
		procs, _ := g.read("freezer", "cgroup.procs")
		s.Pids = int64(len(strings.Fields(procs)))
	}
	if g.tree.Version == 2 {
		s.Memory = g.number("memory", "memory.current") - g.field("memory", "memory.stat", "inactive_file")
		s.Peak = g.number("memory", "memory.peak")
		s.CPU = time.Duration(g.field("freezer", "cpu.stat", "usage_usec")) * time.Microsecond
		s.Throttled = time.Duration(g.field("freezer", "cpu.stat", "throttled_usec")) * time.Microsecond
		return s
	}
	s.Memory = g.number("memory", "memory.usage_in_bytes") - g.field("memory", "memory.stat", "total_inactive_file")
	s.Peak = g.number("memory", "memory.max_usage_in_bytes")
	s.CPU = g.used()
	s.Throttled = time.Duration(g.field("cpu", "cpu.stat", "throttled_time"))
	return s
}

// used is the processor time of the group's processes, version 1.
func (g *Group) used() time.Duration {
	return time.Duration(g.number("cpuacct", "cpuacct.usage") - g.cpu)
}

// Final reads what is wanted of a group when its processes have ended.
func (g *Group) Final() (peak int64, cpu time.Duration) {
	if g.tree.Version == 2 {
		return g.number("memory", "memory.peak"), time.Duration(g.field("freezer", "cpu.stat", "usage_usec")) * time.Microsecond
	}
	return g.number("memory", "memory.max_usage_in_bytes"), g.used()
}
