//go:build linux && amd64

package embedded

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/protocol"
	"skerry/internal/engine/enginetest"
)

// builds is where this program is with something behind it, which makes it another
// one: see otherBuild.
var builds struct {
	mu  sync.Mutex
	dir string
}

const buildMark = "\nthis build: "

// otherBuild is the path of this program as another build, which does as its name
// says: see buildBehaviour.
func otherBuild(t testing.TB, name string) string {
	t.Helper()
	builds.mu.Lock()
	defer builds.mu.Unlock()
	if builds.dir == "" {
		dir, err := os.MkdirTemp("", "skerry-builds-")
		if err != nil {
			t.Fatal(err)
		}
		builds.dir = dir
	}
	path := filepath.Join(builds.dir, name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	text, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(path+"~", append(text, buildMark+fmt.Sprintf("%8s", name)...), 0o755)
	}
	if err == nil {
		err = os.Rename(path+"~", path)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func removeBuilds() {
	if builds.dir != "" {
		_ = os.RemoveAll(builds.dir)
	}
}

// buildBehaviour is what comes before Main in another build.
func buildBehaviour() (version string) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		panic(err)
	}
	defer f.Close()
	tail := make([]byte, len(buildMark)+8)
	if st, err := f.Stat(); err == nil {
		_, _ = f.ReadAt(tail, st.Size()-int64(len(tail)))
	}
	name, ok := strings.CutPrefix(string(tail), buildMark)
	if len(os.Args) < 3 || os.Args[1] != protocol.Command {
		return ""
	}
	var cfg protocol.Config
	_ = json.Unmarshal([]byte(os.Args[2]), &cfg)
	bad := filepath.Join(cfg.Data, "firewall", "bad")
	if len(os.Args) == 6 { // gone back to
		_ = os.RemoveAll(filepath.Dir(bad))
	}
	if !ok {
		return ""
	}
	switch name = strings.TrimSpace(name); {
	case name == "broken": // it cannot be started
		os.Exit(1)
	case name == "later" && os.Args[2] == "handover": // it knows another form alone
		fmt.Println(1 << 20)
		os.Exit(0)
	case name == "clumsy" && len(os.Args) == 5: // it stumbles over something
		if err := errors.Join(os.Mkdir(filepath.Dir(bad), 0o700), os.WriteFile(bad, nil, 0o600)); err != nil {
			panic(err)
		}
	}
	return name
}

// upgradeTo has another main come, which is another build. The supervisor has to be
// the same process afterwards.
func upgradeTo(t *testing.T, d *Driver, name string) {
	t.Helper()
	pid := supervisorPid(t, d)
	info, err := tryUpgrade(d, otherBuild(t, name))
	if err != nil || info.Version != name || stale(info) != "" {
		t.Fatalf("upgrade to %q: version %q, %s, %v", name, info.Version, stale(info), err)
	}
	if now := supervisorPid(t, d); now != pid {
		t.Fatalf("the supervisor is process %d, not %d", now, pid)
	}
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err != nil || filepath.Base(exe) != name {
		t.Fatalf("the supervisor is %s, %v", exe, err)
	}
}

func tryUpgrade(d *Driver, program string) (engine.Capabilities, error) {
	other, err := Open(Config{Data: d.cfg.Data, Program: program, Upgrade: true})
	if err != nil {
		return engine.Capabilities{}, err
	}
	defer other.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	return other.Info(ctx)
}

// upgrading upgrades again and again until it is stopped, which tells how often.
func upgrading(t *testing.T, d *Driver) (stop func() int) {
	t.Helper()
	programs := []string{otherBuild(t, "one"), otherBuild(t, "two")}
	end, count := make(chan struct{}), make(chan int)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-end:
				count <- n
				return
			default:
			}
			if info, err := tryUpgrade(d, programs[n%2]); err != nil || info.Version != filepath.Base(programs[n%2]) {
				t.Errorf("upgrade %d: version %q, %s, %v", n, info.Version, stale(info), err)
				<-end
			}
		}
	}()
	return func() int { close(end); return <-count }
}

// stale is why an upgrade was not made.
func stale(info engine.Capabilities) string {
	for _, m := range info.Missing {
		if strings.Contains(m.What, "upgrade") {
			return m.Why
		}
	}
	return ""
}

// Containers print numbers while the supervisor becomes one build and then the
// other: none is missing, none comes twice, and the exit is told.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	d := open(t)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	dir := t.TempDir()
	const containers, upgrades = 4, 4
	var ids []engine.ID
	for range containers {
		spec := enginetest.Spec("i=0; while ! test -e /var/task/end; do i=$((i+1)); echo tick $i; echo tock $i >&2; sleep 0.003; done; echo ticked $i; exit 42")
		spec.Mounts = []engine.Mount{{Kind: engine.MountBind, Source: dir, Target: "/var/task"}}
		ids = append(ids, started(t, d, spec))
	}
	lines := func(id engine.ID) int { out, _ := output(t, d, id); return strings.Count(out, "\n") }
	for n := range upgrades {
		before := lines(ids[0])
		upgradeTo(t, d, []string{"one", "two"}[n%2])
		await(t, "it goes on", func() bool { return lines(ids[0]) > before })
	}
	waits := make(chan error, containers)
	for _, id := range ids {
		go func() {
			exit, err := d.Wait(ctx, id)
			if err == nil && exit.Code != 42 {
				err = fmt.Errorf("%+v", exit)
			}
			waits <- err
		}()
	}
	upgradeTo(t, d, "one") // while they are waited for
	if err := os.WriteFile(dir+"/end", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for range containers {
		if err := <-waits; err != nil {
			t.Error(err)
		}
	}
	for _, id := range ids {
		out, errs := output(t, d, id)
		n := strings.Count(out, "\n") - 1
		var want, wantErr strings.Builder
		for i := 1; i <= n; i++ {
			fmt.Fprintln(&want, "tick", i)
			fmt.Fprintln(&wantErr, "tock", i)
		}
		fmt.Fprintln(&want, "ticked", n)
		if out != want.String() || errs != wantErr.String() {
			t.Errorf("%s: %d lines with gaps, or twice: %.200q %.200q", id, n, out, errs)
		}
	}
}

// upgraded is an engine whose events go on over upgrades, as who follows them does.
type upgraded struct{ *Driver }

func (u upgraded) Events(ctx context.Context, after engine.Cursor, fn func(engine.Event) error) error {
	for {
		err := u.Driver.Events(ctx, after, func(e engine.Event) error {
			after = e.Cursor
			return fn(e)
		})
		if !broken(err) {
			return err
		}
	}
}

// All that an engine has to do it does while its supervisor is upgraded without end.
func TestUpgradeContract(t *testing.T) {
	for _, v := range versions(t) {
		t.Run(fmt.Sprint("cgroups ", v), func(t *testing.T) {
			t.Parallel()
			d := open(t, func(c *Config) { c.Cgroups = v })
			stop := upgrading(t, d)
			enginetest.Run(t, upgraded{d})
			t.Logf("%d upgrades", stop())
		})
	}
}

// Fifty containers start and end while the supervisor is upgraded.
func TestUpgradeBusy(t *testing.T) {
	t.Parallel()
	d := open(t)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	withImages(t, d, map[string][]string{"i": {busybox(t)}})
	stop := upgrading(t, d)
	var wait sync.WaitGroup
	for worker := range 5 {
		wait.Go(func() {
			for i := range 10 {
				text := fmt.Sprintf("container %d of %d", i, worker)
				script := fmt.Sprintf("echo %s; exit %d", text, i)
				spec := enginetest.Spec(script)
				if i%2 == 1 {
					spec = inImage("i", script)
				}
				spec.Account = fmt.Sprint(worker % 2)
				if worker < 3 {
					spec.Network.Mode = engine.NetworkNAT
				}
				id, err := d.Create(ctx, spec)
				if err == nil {
					err = d.Start(ctx, id)
				}
				var exit engine.Exit
				if err == nil {
					exit, err = d.Wait(ctx, id)
				}
				if err != nil || exit.Code != i {
					t.Errorf("%s: %+v, %v", text, exit, err)
					return
				}
				if out, errs := output(t, d, id); out != text+"\n" || errs != "" {
					t.Errorf("%s: output %q %q", text, out, errs)
				}
				if i < 8 {
					if err := d.Remove(ctx, id); err != nil {
						t.Errorf("%s: %v", text, err)
					}
				}
			}
		})
	}
	wait.Wait()
	if n := stop(); n == 0 {
		t.Error("it was not upgraded")
	}
	if all, err := d.List(ctx); err != nil || len(all) != 10 {
		t.Errorf("%d are left, %v", len(all), err)
	}
	onlyThose(t, d)
}

// Programs that are attached to go on: a container's terminal, its input, and
// programs that were executed in it.
func TestUpgradeAttached(t *testing.T) {
	t.Parallel()
	d := open(t)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	const script = "while read line; do echo heard $line; done; exit 6"
	spec := enginetest.Spec(script)
	spec.TTY = true
	terminal := started(t, d, spec)
	spec.TTY, spec.Stdin = false, true
	piped := started(t, d, spec)
	var inputs []io.WriteCloser
	for _, id := range []engine.ID{terminal, piped} {
		in := inputOf(t, d, id)
		write(t, in, "before\n")
		follow(t, d, id, "heard before")
		inputs = append(inputs, in)
	}
	type running struct {
		in   *io.PipeWriter
		out  *bufio.Reader
		exit chan engine.Exit
	}
	execute := func(ctx context.Context, spec engine.ExecSpec) (r running) {
		in, inW := io.Pipe()
		out, outW := io.Pipe()
		r = running{inW, bufio.NewReader(out), make(chan engine.Exit, 1)}
		go func() {
			exit, err := d.Exec(ctx, piped, spec, engine.Streams{Stdin: in, Stdout: outW, Stderr: outW})
			if err != nil && ctx.Err() == nil {
				t.Errorf("exec: %v", err)
			}
			r.exit <- exit
			_ = outW.Close()
		}()
		return r
	}
	says := func(r running, text string) {
		t.Helper()
		for {
			line, err := r.out.ReadString('\n')
			if err != nil {
				t.Fatalf("no %q, but %q, %v", text, line, err)
			}
			if strings.TrimSpace(line) == text {
				return
			}
		}
	}
	shell := []string{"/bin/sh", "-c", script}
	plain, tty := execute(ctx, engine.ExecSpec{Command: shell}), execute(ctx, engine.ExecSpec{Command: shell, TTY: true})
	off, hangUp := context.WithCancel(ctx)
	cut := execute(off, engine.ExecSpec{Command: []string{"/bin/sh", "-c", "echo on; exec sleep 1234567"}})
	says(cut, "on")
	for _, r := range []running{plain, tty} {
		write(t, r.in, "before\n")
		says(r, "heard before")
	}
	for _, name := range []string{"one", "two"} {
		upgradeTo(t, d, name)
		for i, id := range []engine.ID{terminal, piped} {
			write(t, inputs[i], name+"\n")
			follow(t, d, id, "heard "+name)
		}
		for _, r := range []running{plain, tty} {
			write(t, r.in, name+"\n")
			says(r, "heard "+name)
		}
	}
	if err := d.Resize(ctx, terminal, engine.Size{Rows: 33, Columns: 99}); err != nil {
		t.Error(err)
	}
	write(t, tty.in, "\x04") // the end, for a terminal
	_ = plain.in.Close()
	for _, r := range []running{plain, tty} {
		if exit := <-r.exit; exit.Code != 6 {
			t.Errorf("exec: %+v", exit)
		}
	}
	hangUp()
	<-cut.exit
	await(t, "who hung up has no program any more", func() bool {
		r, err := execOutput(ctx, d, piped, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
		return err == nil && !strings.Contains(r, "1234567")
	})
	again := inputOf(t, d, terminal)
	write(t, again, "again\n\x04")
	follow(t, d, terminal, "heard again")
	if err := errors.Join(again.Close(), inputs[1].Close()); err != nil {
		t.Error(err)
	}
	for _, id := range []engine.ID{terminal, piped} {
		if exit, err := d.Wait(ctx, id); err != nil || exit.Code != 6 {
			t.Errorf("%+v, %v", exit, err)
		}
	}
}

func execOutput(ctx context.Context, d engine.Engine, id engine.ID, script string) (string, error) {
	var b bytes.Buffer
	_, err := d.Exec(ctx, id, engine.ExecSpec{Command: []string{"/bin/sh", "-c", script}}, engine.Streams{Stdout: &b})
	return b.String(), err
}

// A frozen container stays frozen, and goes on when it is thawed.
func TestUpgradeFrozen(t *testing.T) {
	t.Parallel()
	d := open(t)
	ctx := context.Background()
	id := started(t, d, enginetest.Spec("i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.002; done"))
	follow(t, d, id, "tick 3\n")
	if err := d.Freeze(ctx, id, true); err != nil {
		t.Fatal(err)
	}
	before, _ := output(t, d, id)
	upgradeTo(t, d, "one")
	if st, err := d.Inspect(ctx, id); err != nil || st.State != engine.Frozen {
		t.Errorf("%+v, %v", st, err)
	}
	if out, _ := output(t, d, id); out != before {
		t.Errorf("%q while it was frozen", strings.TrimPrefix(out, before))
	}
	upgradeTo(t, d, "two")
	if err := d.Freeze(ctx, id, false); err != nil {
		t.Fatal(err)
	}
	await(t, "it goes on", func() bool { out, _ := output(t, d, id); return len(out) > len(before) })
	if err := d.Freeze(ctx, id, true); err != nil {
		t.Fatal(err)
	}
	upgradeTo(t, d, "one")
	if err := d.Remove(ctx, id); err != nil { // frozen
		t.Error(err)
	}
}

// Networks, published ports and security groups are what they were, and go on to be
// changed.
func TestUpgradeNetworks(t *testing.T) {
	t.Parallel()
	d := open(t)
	hasNetworks(t, d)
	ctx := context.Background()
	rule := func(prefix string) []engine.SecurityGroup {
		return []engine.SecurityGroup{{ID: "sg", Ingress: []engine.FirewallRule{{Protocol: "tcp", From: 80, To: 80, Prefixes: []netip.Prefix{netip.MustParsePrefix(prefix)}}}}}
	}
	if err := d.SetFirewall(ctx, "blue", rule("10.0.0.6/32")); err != nil {
		t.Fatal(err)
	}
	n := withNamed("blue", "10.0.0.5")
	n.Groups = []string{"sg"}
	n.Ports = []engine.Port{{Container: 80}}
	named := server(t, d, "named", n)
	nat := server(t, d, "nat", engine.Network{Mode: engine.NetworkNAT, Ports: []engine.Port{{Container: 80}}})
	port := func(id engine.ID) string {
		st, err := d.Inspect(ctx, id)
		if err != nil || len(st.Ports) != 1 {
			t.Fatalf("%+v, %v", st, err)
		}
		return fmt.Sprintf("127.0.0.1:%d", st.Ports[0].Host)
	}
	hears := func(n engine.Network, address, want string) {
		t.Helper()
		if want == "" { // a moment's silence is no sign that it would go on
			if got := ask(t, d, n, address); got != "" {
				t.Errorf("from %s: %q", n.Address, got)
			}
			return
		}
		await(t, want+" is heard", func() bool { return ask(t, d, n, address) == want })
	}
	ports := map[engine.ID]string{named: port(named), nat: port(nat)}
	for _, name := range []string{"one", "two"} {
		upgradeTo(t, d, name)
		for id, at := range ports {
			if port(id) != at {
				t.Errorf("the port of %s is %s, not %s", id, port(id), at)
			}
			await(t, "the port leads to "+string(id), func() bool { return strings.HasPrefix(asked(at), string(id)+" ") })
		}
		for from, want := range map[string]string{"10.0.0.6": "named 10.0.0.6", "10.0.0.7": ""} {
			hears(withNamed("blue", from), "10.0.0.5:80", want)
		}
	}
	if err := d.SetFirewall(ctx, "blue", rule("10.0.0.7/32")); err != nil {
		t.Fatal(err)
	}
	for from, want := range map[string]string{"10.0.0.6": "", "10.0.0.7": "named 10.0.0.7"} {
		hears(withNamed("blue", from), "10.0.0.5:80", want)
	}
	n.Address = netip.MustParseAddr("10.0.0.8") // one more of the same groups
	n.Ports[0].Host = 0
	more := server(t, d, "more", n)
	hears(withNamed("blue", "10.0.0.7"), "10.0.0.8:80", "more 10.0.0.7")
	upgradeTo(t, d, "one")
	links := []engine.Link{
		{Name: "blue", Address: netip.MustParseAddr("10.0.0.20"), Subnet: netip.MustParsePrefix("10.0.0.0/24")},
		{Name: "red", Address: netip.MustParseAddr("10.1.0.5"), Subnet: netip.MustParsePrefix("10.1.0.0/24")},
	}
	both := engine.Network{Ports: []engine.Port{{Container: 80}}}
	both.SetLinks(links)
	moved := server(t, d, "moved", both)
	upgradeTo(t, d, "two")
	hears(withNamed("red", "10.1.0.6"), "10.1.0.5:80", "moved 10.1.0.6")
	if err := d.Connect(ctx, moved, links[1:]); err != nil {
		t.Fatal(err)
	}
	upgradeTo(t, d, "one")
	hears(withNamed("red", "10.1.0.6"), "10.1.0.5:80", "moved 10.1.0.6")
	await(t, "the port leads to where it is", func() bool { return strings.HasPrefix(asked(port(moved)), "moved ") })
	if err := d.Connect(ctx, moved, links[:1]); err != nil {
		t.Fatal(err)
	}
	hears(withNamed("red", "10.1.0.6"), "10.1.0.5:80", "") // which it has left
	for _, id := range []engine.ID{named, nat, more, moved} {
		if err := d.Remove(ctx, id); err != nil {
			t.Error(err)
		}
	}
	for id, at := range ports {
		if got := asked(at); got != "" {
			t.Errorf("the port of %s, which is gone, says %q", id, got)
		}
	}
	server(t, d, "later", withNamed("blue", "10.0.0.5")) // a network made anew
}

// A program that cannot be gone over to leaves everything as it is, and the log says
// so; one that cannot take over goes back.
func TestUpgradeRefused(t *testing.T) {
	t.Parallel()
	d := open(t)
	ctx := context.Background()
	id := started(t, d, enginetest.Spec("i=0; while read x <&0; do :; done; while :; do i=$((i+1)); echo tick $i; sleep 0.003; done"))
	follow(t, d, id, "tick 3\n")
	pid := supervisorPid(t, d)
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(t.TempDir(), "open")
	if err := errors.Join(os.Link(otherBuild(t, "anyones"), open), os.Chmod(open, 0o757)); err != nil {
		t.Fatal(err)
	}
	inside := filepath.Join(t.TempDir(), "inside")
	if err := os.WriteFile(inside, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(inside, 1<<30+65536, 0); err != nil {
		t.Fatal(err)
	}
	programs := []struct{ program, why string }{
		{text, "exec format error"},
		{"/bin/true", "does not know form"},
		{otherBuild(t, "broken"), "does not know form"},
		{otherBuild(t, "later"), "does not know form"},
		{otherBuild(t, "clumsy"), "security groups of bad"},
		{open, "everybody can write"},
		{inside, "is a container's"},
		{t.TempDir(), "is no file"},
		{text + "-missing", "no such file"},
	}
	for _, p := range programs {
		before, _ := output(t, d, id)
		info, err := tryUpgrade(d, p.program)
		if err != nil || !info.Runs || info.Version != "" || !strings.Contains(stale(info), p.why) {
			t.Errorf("%s: version %q, %q, %v", p.program, info.Version, stale(info), err)
		}
		if now := supervisorPid(t, d); now != pid {
			t.Fatalf("%s: the supervisor is process %d, not %d", p.program, now, pid)
		}
		await(t, "it goes on", func() bool { out, _ := output(t, d, id); return len(out) > len(before) })
	}
	// what the log says is what this test is about
	b, err := os.ReadFile(d.cfg.Data + "/supervisor.log")
	if said := strings.Count(string(b), "not upgraded"); err != nil || said != len(programs)-2 || !strings.Contains(string(b), "cannot take over") {
		t.Errorf("the log, %v:\n%s", err, b)
	}
	if err := os.Truncate(d.cfg.Data+"/supervisor.log", 0); err != nil {
		t.Error(err)
	}
	upgradeTo(t, d, "one") // it is none the worse for it
	if err := d.Signal(ctx, id, unix.SIGKILL); err != nil {
		t.Error(err)
	}
	if exit, err := d.Wait(ctx, id); err != nil || exit.Code != 137 {
		t.Errorf("%+v, %v", exit, err)
	}
	out, _ := output(t, d, id)
	for i, line := range strings.Split(strings.TrimSuffix(out, "\n"), "\n") {
		if line != fmt.Sprint("tick ", i+1) {
			t.Fatalf("line %d is %q", i+1, line)
		}
	}
}

// Who asks for an upgrade may be killed over it; and of several who ask at once each
// gets its own, one after the other.
func TestUpgradeAskers(t *testing.T) {
	t.Parallel()
	d := open(t)
	id := started(t, d, enginetest.Spec("exec sleep 1000"))
	pid := supervisorPid(t, d)
	version := func() string {
		info, err := d.Info(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return info.Version
	}
	program, err := os.Open(otherBuild(t, "one"))
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	c, err := d.dial()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Send(&protocol.Request{Op: protocol.OpUpgrade}, int(program.Fd())); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil { // as the kernel does for one that is killed
		t.Fatal(err)
	}
	await(t, "it is upgraded all the same", func() bool { return version() == "one" })
	var wait sync.WaitGroup
	for n := range 6 {
		wait.Go(func() {
			if info, err := tryUpgrade(d, otherBuild(t, []string{"one", "two"}[n%2])); err != nil || stale(info) != "" {
				t.Errorf("%s, %v", stale(info), err)
			}
		})
	}
	wait.Wait()
	if v := version(); v != "one" && v != "two" {
		t.Errorf("version %q", v)
	}
	if now := supervisorPid(t, d); now != pid {
		t.Errorf("the supervisor is process %d, not %d", now, pid)
	}
	if st, err := d.Inspect(context.Background(), id); err != nil || st.State != engine.Running {
		t.Errorf("%+v, %v", st, err)
	}
}

// Containers of all kinds that are to start, run, or have exited are all that after
// upgrades, and can be used and started again.
func TestUpgradeStates(t *testing.T) {
	for _, v := range versions(t) {
		t.Run(fmt.Sprint("cgroups ", v), func(t *testing.T) {
			t.Parallel()
			upgradeStates(t, open(t, func(c *Config) { c.Cgroups = v }))
		})
	}
}

func upgradeStates(t *testing.T, d *Driver) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	withImages(t, d, map[string][]string{"i": {busybox(t)}})
	info, err := d.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	volume := t.TempDir()
	kinds := map[engine.ID]func(*engine.Spec){
		"plain":   func(*engine.Spec) {},
		"image":   func(s *engine.Spec) { *s = inImage("i", s.Command[2]) },
		"closed":  func(s *engine.Spec) { *s = inImage("i", s.Command[2]); s.Root.Writable = false },
		"tty":     func(s *engine.Spec) { *s = inImage("i", s.Command[2]); s.TTY = true },
		"init":    func(s *engine.Spec) { s.Init, s.Stdin = true, true },
		"device":  func(s *engine.Spec) { s.Devices = []engine.Device{{Source: "/dev/null", Target: "/dev/mine"}} },
		"trusted": func(s *engine.Spec) { *s = inImage("i", s.Command[2]); s.Security.Privileged = true },
		"cpus":    func(s *engine.Spec) { s.Limits.CPUs = info.CPUs },
		"grouped": func(s *engine.Spec) {
			s.Group.Name = "group"
			if info.MemoryLimit {
				s.Group.Limits.Memory = 256 << 20
			}
			s.Mounts = append(s.Mounts, engine.Mount{Kind: engine.MountTmpfs, Target: "/tmp", Size: 1 << 20})
		},
		"named": func(s *engine.Spec) { s.Network = withNamed("blue", "10.0.0.5") },
	}
	const script = "test -e /mnt/stop || { test -e /mnt/$ID && exit 3; echo > /mnt/$ID; echo run; while ! test -e /mnt/stop; do sleep 0.01; done; }; exit 4"
	create := func(id, kind engine.ID, change func(*engine.Spec)) {
		spec := enginetest.Spec(script)
		change(&spec)
		spec.ID, spec.Env = id, append(spec.Env, "ID="+string(id), "PATH=/bin:/usr/bin")
		if kind == "named" {
			spec.Network.Sandbox = "shared" // three with one address
		}
		spec.Mounts = append(spec.Mounts, engine.Mount{Kind: engine.MountBind, Source: volume, Target: "/mnt"})
		if _, err := d.Create(ctx, spec); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
	}
	if err := os.Chmod(volume, 0o777); err != nil {
		t.Fatal(err)
	}
	for kind, change := range kinds {
		create(kind+"-created", kind, change)
		create(kind+"-running", kind, change)
		create(kind+"-exited", kind, change)
		if err := os.WriteFile(filepath.Join(volume, string(kind)+"-exited"), nil, 0o666); err != nil {
			t.Fatal(err)
		}
		if exit := startAgain(t, d, kind+"-exited"); exit.Code != 3 {
			t.Fatalf("%s: %+v", kind, exit)
		}
		if err := d.Start(ctx, kind+"-running"); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
	}
	before, err := d.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"one", "two"} {
		upgradeTo(t, d, name)
	}
	after, err := d.List(ctx)
	if err != nil || len(after) != len(before) {
		t.Fatalf("%d containers, not %d, %v", len(after), len(before), err)
	}
	for i, st := range after {
		if b := before[i]; st.ID != b.ID || st.State != b.State || st.Pid != b.Pid || st.Address != b.Address || !st.Started.Equal(b.Started) {
			t.Errorf("%+v, not %+v", st, b)
		}
	}
	attached := layer(t, tree{"file": "attached\n"})
	for kind := range kinds {
		follow(t, d, kind+"-running", "run")
		if err := d.Start(ctx, kind+"-created"); err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		follow(t, d, kind+"-created", "run")
		for _, id := range []engine.ID{kind + "-created", kind + "-running"} {
			if kind != "closed" { // there is no place in it
				if err := d.Attach(ctx, id, engine.Mount{Kind: engine.MountBind, Source: attached, Target: "/opt"}); err != nil && kind == "plain" {
					t.Errorf("attach to %s: %v", id, err)
				}
			}
			if out, err := execOutput(ctx, d, id, "echo $ID"); err != nil || strings.TrimSpace(out) != string(id) {
				t.Errorf("exec in %s: %q, %v", id, out, err)
			}
			if err := d.Update(ctx, id, engine.Limits{Pids: 77}); err != nil && info.PidsLimit {
				t.Errorf("update %s: %v", id, err)
			}
			if st, err := d.Stats(ctx, id); err != nil || st.Pids < 1 {
				t.Errorf("stats of %s: %+v, %v", id, st, err)
			}
		}
	}
	upgradeTo(t, d, "one")
	if err := os.WriteFile(filepath.Join(volume, "stop"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for kind := range kinds {
		for _, id := range []engine.ID{kind + "-created", kind + "-running"} {
			if exit, err := d.Wait(ctx, id); err != nil || exit.Code != 4 {
				t.Errorf("%s: %+v, %v", id, exit, err)
			}
		}
		if exit := startAgain(t, d, kind+"-exited"); exit.Code != 4 {
			t.Errorf("%s again: %+v", kind, exit)
		}
	}
}

// A container that has got a child that was made ahead starts without it after an
// upgrade, which those children do not survive.
func TestUpgradeBare(t *testing.T) {
	t.Parallel()
	d := open(t)
	ctx := context.Background()
	bares := func() int {
		found, _ := filepath.Glob(filepath.Join(d.cfg.Run, "containers", ".bare*"))
		return len(found)
	}
	spec := enginetest.Spec("echo out; cat /mnt/file; hostname; exit 7")
	spec.Hostname = "name"
	spec.Mounts = []engine.Mount{{Kind: engine.MountBind, Source: layer(t, tree{"file": "mounted\n"}), Target: "/mnt"}}
	if r := run(t, d, spec); r.Code != 7 {
		t.Fatalf("%+v", r.Exit)
	}
	await(t, "some are made ahead", func() bool { return bares() == 2 })
	id, err := d.Create(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	upgradeTo(t, d, "one")
	await(t, "none is left", func() bool { return bares() == 0 })
	exit := startAgain(t, d, id)
	out, errs := output(t, d, id)
	if exit.Code != 7 || out != "out\nmounted\nname\n" || errs != "" {
		t.Errorf("%+v %q %q", exit, out, errs)
	}
	if r := run(t, d, spec); r.Code != 7 {
		t.Errorf("the next one: %+v", r.Exit)
	}
	await(t, "some are made ahead again", func() bool { return bares() == 2 })
}

// No event is missing, and none comes twice, for one who asks again from the last.
func TestUpgradeEvents(t *testing.T) {
	t.Parallel()
	d := open(t)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	const containers = 12
	seen := map[engine.ID][]engine.EventKind{}
	var last engine.Cursor
	enough := errors.New("enough")
	followed := make(chan error, 1)
	go func() {
		n := 0
		followed <- upgraded{d}.Events(ctx, 0, func(e engine.Event) error {
			if e.Cursor <= last {
				t.Errorf("event %d after %d", e.Cursor, last)
			}
			last = e.Cursor
			seen[e.ID] = append(seen[e.ID], e.Kind)
			if n++; n == 2*containers {
				return enough
			}
			return nil
		})
	}()
	stop := upgrading(t, d)
	for range containers {
		started(t, d, enginetest.Spec("exit 0"))
	}
	if err := <-followed; !errors.Is(err, enough) {
		t.Error(err)
	}
	stop()
	for id, kinds := range seen {
		if len(kinds) != 2 || kinds[0] != engine.EventStarted || kinds[1] != engine.EventExited {
			t.Errorf("%s: %q", id, kinds)
		}
	}
}

// Upgrades leave nothing behind: neither while containers run, nor at the end.
func TestUpgradeNothingLeft(t *testing.T) {
	var name string
	t.Run("use", func(t *testing.T) {
		d := open(t)
		name = d.cfg.Name
		withImages(t, d, map[string][]string{"i": {busybox(t)}})
		networks := []engine.Network{{}, {Mode: engine.NetworkNAT, Ports: []engine.Port{{Container: 80}}}, withNamed("blue", "10.0.0.5")}
		use := func(script string) {
			for _, n := range networks {
				spec := inImage("i", script)
				spec.Network = n
				started(t, d, spec)
			}
			networks[2] = withNamed("blue", fmt.Sprintf("10.0.0.%d", networks[2].Address.As4()[3]+1))
		}
		use("exec sleep 1000")
		use("exit 3")
		upgradeTo(t, d, "one")
		before := holdings(t, d)
		var more string
		defer func() {
			if t.Failed() {
				t.Log(more)
			}
		}()
		for n := range 6 {
			upgradeTo(t, d, []string{"two", "one"}[n%2])
		}
		await(t, "there is no more than before", func() bool {
			for what, n := range holdings(t, d) {
				if n > before[what] {
					more = fmt.Sprintf("%s: %d, before %d", what, n, before[what])
					return false
				}
			}
			return true
		})
		use("exit 3")
	})
	await(t, "nothing is left", func() bool {
		for _, n := range census(t, name) {
			if n > 0 {
				return false
			}
		}
		return true
	})
}

// holdings counts what an engine has on this machine, and its supervisor open.
func holdings(t *testing.T, d *Driver) map[string]int {
	t.Helper()
	n := census(t, d.cfg.Name)
	at := fmt.Sprintf("/proc/%d/", supervisorPid(t, d))
	files, err := os.ReadDir(at + "fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		to, err := os.Readlink(at + "fd/" + f.Name())
		if kind, _, _ := strings.Cut(to, ":"); err == nil && kind != "socket" { // connections come and go
			n["descriptors of "+kind]++
		}
	}
	tasks, _ := filepath.Glob(at + "task/*/children")
	for _, task := range tasks {
		b, _ := os.ReadFile(task) // or the thread has ended
		n["children"] += len(strings.Fields(string(b)))
	}
	for _, pattern := range []string{"/sys/fs/cgroup/*/" + d.cfg.Name + "/*", "/sys/fs/cgroup/" + d.cfg.Name + "/*"} {
		found, _ := filepath.Glob(pattern)
		n[pattern] = len(found)
	}
	return n
}
