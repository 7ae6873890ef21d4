//go:build linux && amd64

package task

import (
	"bytes"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"

	"skerry/internal/engine/embedded"
	"skerry/internal/engine/embedded/network"
)

// things counts what an engine has of the machine.
type things struct {
	Files    int // descriptors of the supervisor: namespaces, groups, pipes, logs
	Mounts   int // in its and in the machine's namespace of mounts
	Groups   int // control groups
	Children int // processes
	Links    int // network interfaces of the machine
	Rules    int // of the machine's firewall, elements of sets included
	Folders  int // of containers' logs, files and records
}

// supervisor finds the process of the engine in a folder.
func supervisor(t *testing.T, data string) string {
	t.Helper()
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range all {
		b, err := os.ReadFile(p)
		if err == nil && bytes.HasPrefix(b, []byte("skerry\x00engine-supervisor\x00")) && bytes.Contains(b, []byte(`"`+data+`"`)) {
			return filepath.Dir(p)
		}
	}
	t.Fatal("no supervisor runs")
	return ""
}

func count(t *testing.T, data string) (n things) {
	t.Helper()
	proc := supervisor(t, data)
	files, err := os.ReadDir(proc + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	n.Files = len(files)
	for _, p := range []string{proc, "/proc/self"} {
		b, err := os.ReadFile(p + "/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		for l := range strings.Lines(string(b)) {
			if p == proc || strings.Contains(l, data) {
				n.Mounts++
			}
		}
	}
	pid := filepath.Base(proc)
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, s := range stats {
		b, _ := os.ReadFile(s)
		_, rest, _ := strings.Cut(string(b), ") ")
		if f := strings.Fields(rest); len(f) > 1 && f[1] == pid {
			n.Children++
		}
	}
	name := engineName(t, proc)
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(path, name) {
			n.Groups++
		}
		return nil
	})
	links(t, proc, network.LinkName(name), &n)
	n.Rules = rules(t, network.LinkName(name))
	for _, dir := range []string{data + "/logs", data + "/containers", "/run/" + name + "/containers"} {
		all, _ := os.ReadDir(dir)
		for _, a := range all {
			if !strings.HasPrefix(a.Name(), ".spare") { // made ahead
				n.Folders++
			}
		}
	}
	return n
}

// engineName is the name of the engine's things, which its configuration says.
func engineName(t *testing.T, proc string) string {
	t.Helper()
	b, err := os.ReadFile(proc + "/cmdline")
	_, rest, ok := strings.Cut(string(b), `"Name":"`)
	name, _, _ := strings.Cut(rest, `"`)
	if err != nil || !ok || name == "" {
		t.Fatalf("no name in %q: %v", b, err)
	}
	return name
}

// links counts interfaces.
func links(t *testing.T, proc, prefix string, n *things) {
	t.Helper()
	in := func(of string) error {
		all, err := net.Interfaces()
		for _, l := range all {
			if strings.HasPrefix(l.Name, of) {
				n.Links++
			}
		}
		return err
	}
	if err := in(prefix); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	files, _ := filepath.Glob(proc + "/fd/*")
	for _, f := range files {
		name, err := os.Readlink(f)
		if err != nil || !strings.HasPrefix(name, "net:[") || seen[name] {
			continue
		}
		seen[name] = true
		ns, err := os.Open(f)
		if err != nil {
			continue // it has just been closed
		}
		if err := network.In(int(ns.Fd()), func() error { return in("") }); err != nil {
			t.Fatal(err)
		}
		_ = ns.Close()
	}
}

// rules counts the rules and elements of a table.
func rules(t *testing.T, table string) (n int) {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	chains, err := c.ListChains()
	if err != nil {
		t.Fatal(err)
	}
	for _, ch := range chains {
		if ch.Table.Name != table {
			continue
		}
		all, err := c.GetRules(ch.Table, ch)
		if err != nil {
			t.Fatal(err)
		}
		n += len(all)
	}
	sets, err := c.GetSets(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: table})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sets {
		all, err := c.GetSetElements(s)
		if err != nil {
			t.Fatal(err)
		}
		n += len(all)
	}
	return n
}

// batchOfTasks runs tasks of all kinds of network to their end, and has the runner
// killed meanwhile.
func (w *world) batchOfTasks(n, kills int) {
	w.t.Helper()
	var all []*Task
	for k := range max(kills, 1) {
		for i := range n / max(kills, 1) {
			c := sh("main", "true")
			c.Mounts = []MountPoint{{Volume: "v", Path: "/v"}}
			one := task(c)
			one.Pull, one.Volumes = PullOnce, []Volume{{Name: "v"}}
			switch i % 4 {
			case 0:
				one.Network.Mode, one.Containers[0].Ports = Bridge, []Port{{Container: 80}}
			case 1:
				one.Network.Name, one.Network.Address = "vpc", netip.AddrFrom4([4]byte{10, 1, byte(k), byte(1 + i)})
			case 2:
				one.Network.Mode = None
			}
			all = append(all, w.begin(one))
		}
		if kills > 0 {
			w.stop()
			w.start()
		}
	}
	for _, one := range all {
		if s := w.reaches(one, Stopped); code(s.of("main")) != 0 {
			w.t.Errorf("%+v", s.Status)
		}
	}
}

// TestLeftovers: 200 tasks and a dozen kills of the runner leave nothing on the
// machine. What is kept to be used again is as much as was ever in use at once, which
// a round may raise, though no longer in the last of several.
func TestLeftovers(t *testing.T) {
	w := realWorld(t)
	w.batchOfTasks(40, 0) // so that pools are full
	data := w.data
	settled := func() (n things) {
		for last, end := (things{}), time.Now().Add(testPatience); ; last = n {
			if n = count(t, data); n == last || time.Now().After(end) {
				return n
			}
			time.Sleep(300 * time.Millisecond)
		}
	}
	const rounds = 4
	before := settled()
	for round := 1; ; round++ {
		w.batchOfTasks(200, 12)
		w.empty()
		after := settled()
		for end := time.Now().Add(testPatience / rounds); after.over(before) && time.Now().Before(end); after = settled() {
			time.Sleep(100 * time.Millisecond)
		}
		t.Logf("before %+v, after %+v", before, after)
		if !after.over(before) {
			break
		}
		if round == rounds {
			t.Error("each round leaves more")
			break
		}
		before = after
	}
	name := engineName(t, supervisor(t, data))
	w.stop()
	if err := w.Engine.(*embedded.Driver).Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"/sys/fs/cgroup/" + name, "/sys/fs/cgroup/*/" + name, "/sys/fs/cgroup/*/*/" + name, "/run/" + name, data + "/logs/*", data + "/containers/*"} {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			t.Errorf("left over after the engine's end: %v", left)
		}
	}
}

// keptGroups is how many folders of control groups the supervisor keeps for later
// containers, on a machine with eight hierarchies: those of 64 containers.
const keptGroups = 8 * (64 + 2)

// over tells whether there is more of anything. A control group that is kept is open,
// in each hierarchy.
func (n things) over(m things) bool {
	return n.Files > m.Files+max(0, n.Groups-m.Groups) || n.Mounts > m.Mounts || n.Groups > max(m.Groups, keptGroups) || n.Children > m.Children ||
		n.Links > m.Links || n.Rules > m.Rules || n.Folders > m.Folders
}
