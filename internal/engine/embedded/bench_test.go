//go:build linux && amd64

package embedded

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"skerry/internal/engine"
	"skerry/internal/engine/enginetest"
)

// trivial is a complete container with nothing to do: a user namespace, a
// network with an address, limits of memory, processor and processes.
func trivial(t testing.TB) engine.Spec {
	t.Helper()
	spec := enginetest.Spec("")
	spec.Root.Host = &engine.HostRoot{Files: []engine.File{{Path: "/nothing", Mode: 0o755, Content: enginetest.Nothing()}}}
	spec.Command = []string{"/nothing"}
	spec.Network.Mode = engine.NetworkNAT
	spec.Limits = engine.Limits{Memory: 128 << 20, CPU: 1, Pids: 64}
	return spec
}

// BenchmarkUpgrade measures an upgrade of a supervisor with 50 idle containers, and
// how long the calls that come meanwhile take.
func BenchmarkUpgrade(b *testing.B) {
	d := open(b)
	for range 50 {
		started(b, d, enginetest.Spec("exec sleep 1000"))
	}
	programs := []string{otherBuild(b, "one"), otherBuild(b, "two")}
	var whole, call []time.Duration
	for n := 0; b.Loop(); n++ {
		end, worst := make(chan struct{}), make(chan time.Duration)
		go func() {
			var most time.Duration
			for {
				begin := time.Now()
				if _, err := d.Info(context.Background()); err != nil {
					b.Error(err)
				}
				most = max(most, time.Since(begin))
				select {
				case <-end:
					worst <- most
					return
				default:
				}
			}
		}()
		begin := time.Now()
		info, err := tryUpgrade(d, programs[n%2])
		if err != nil || stale(info) != "" {
			b.Fatalf("%s, %v", stale(info), err)
		}
		whole = append(whole, time.Since(begin))
		close(end)
		call = append(call, <-worst)
	}
	quantiles(b, "upgrade", whole)
	quantiles(b, "longest-call", call)
}

// quantiles reports times in ms.
func quantiles(b *testing.B, name string, times []time.Duration) {
	slices.Sort(times)
	at := func(q float64) float64 { return float64(times[int(q*float64(len(times)-1))].Microseconds()) / 1000 }
	b.ReportMetric(at(0), name+"-min-ms")
	b.ReportMetric(at(0.5), name+"-p50-ms")
	b.ReportMetric(at(0.99), name+"-p99-ms")
}

// BenchmarkStart measures from the request (Create) to the executed program, and
// to the exit as an event; one container after the other.
func BenchmarkStart(b *testing.B) {
	for _, c := range []struct {
		name  string
		pause time.Duration
	}{{"sparse", 100 * time.Millisecond}, {"back-to-back", 0}} {
		b.Run(c.name, func(b *testing.B) {
			d := open(b)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			exits := make(chan time.Time, 1)
			go func() {
				_ = d.Events(ctx, 0, func(e engine.Event) error {
					if e.Kind == engine.EventExited {
						exits <- time.Now()
					}
					return nil
				})
			}()
			var started, exited []time.Duration
			for range b.N {
				<-time.After(c.pause) // what is measured is a start out of rest
				begin := time.Now()
				id, err := d.Create(ctx, trivial(b))
				if err == nil {
					err = d.Start(ctx, id)
				}
				if err != nil {
					b.Fatal(err)
				}
				started = append(started, time.Since(begin))
				exited = append(exited, (<-exits).Sub(begin))
				if err := d.Remove(ctx, id); err != nil {
					b.Fatal(err)
				}
			}
			quantiles(b, "exec", started)
			quantiles(b, "exit", exited)
		})
	}
}

// BenchmarkStartImage is BenchmarkStart's request to executed program for roots of
// images of five layers, beside the prepared root.
func BenchmarkStartImage(b *testing.B) {
	for _, c := range []struct{ name, root string }{{"prepared", ""}, {"read-only", "r"}, {"writable", "w"}} {
		b.Run(c.name, func(b *testing.B) {
			d := open(b)
			withImages(b, d, map[string][]string{"i": fiveLayers(b)})
			ctx := context.Background()
			var started []time.Duration
			for range b.N {
				<-time.After(30 * time.Millisecond)
				spec := trivial(b)
				if c.root != "" {
					spec.Root = engine.Root{Image: "i", Writable: c.root == "w"}
				}
				begin := time.Now()
				id, err := d.Create(ctx, spec)
				if err == nil {
					err = d.Start(ctx, id)
				}
				if err != nil {
					b.Fatal(err)
				}
				started = append(started, time.Since(begin))
				if _, err = d.Wait(ctx, id); err == nil {
					err = d.Remove(ctx, id)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			quantiles(b, "exec", started)
		})
	}
}

// fiveLayers are an image's, the lowest with what trivial runs.
func fiveLayers(b *testing.B) []string {
	layers := []string{layer(b, tree{"nothing": string(enginetest.Nothing())})}
	for range 4 {
		layers = append(layers, layer(b, tree{"etc/x": "x"}))
	}
	return layers
}

// BenchmarkThroughput is whole containers, created to removed, a second: of the
// machine's own folders, of an image of five layers that they can write to, of a
// program with a C library in place of one that does nothing, and beside a thousand
// others that are idle.
func BenchmarkThroughput(b *testing.B) {
	for _, kind := range []string{"prepared", "writable", "busybox", "crowded"} {
		for _, workers := range []int{1, 2, 4} {
			b.Run(fmt.Sprintf("%s/workers-%d", kind, workers), func(b *testing.B) { throughput(b, kind, workers) })
		}
	}
}

func throughput(b *testing.B, kind string, workers int) {
	d := open(b)
	ctx := context.Background()
	spec := trivial(b)
	switch kind {
	case "writable":
		withImages(b, d, map[string][]string{"i": fiveLayers(b)})
		spec.Root = engine.Root{Image: "i", Writable: true}
	case "crowded":
		idle := trivial(b)
		idle.Command = []string{"/bin/busybox", "sleep", "100000"}
		for range 1000 {
			started(b, d, idle)
		}
	case "busybox":
		busybox(b)
		spec.Command = []string{"/bin/busybox", "true"}
	}
	one := func() error {
		id, err := d.Create(ctx, spec)
		if err != nil {
			return err
		}
		if err := d.Start(ctx, id); err != nil {
			return err
		}
		if _, err := d.Wait(ctx, id); err != nil {
			return err
		}
		return d.Remove(ctx, id)
	}
	for range 2 * workers {
		if err := one(); err != nil {
			b.Fatal(err)
		}
	}
	work := make(chan int, b.N)
	for i := range b.N {
		work <- i
	}
	close(work)
	b.ResetTimer()
	before, inside := processorTime(b, d)
	var wait sync.WaitGroup
	for range workers {
		wait.Go(func() {
			for range work {
				if err := one(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "containers/s")
	after, insideAfter := processorTime(b, d)
	b.ReportMetric(float64((after-before).Microseconds())/float64(b.N), "supervisor-us/container")
	b.ReportMetric(float64((insideAfter-inside).Microseconds())/float64(b.N), "inside-us/container")
}

// BenchmarkPhases is where a container's time goes, request by request.
func BenchmarkPhases(b *testing.B) {
	d := open(b)
	ctx := context.Background()
	var p [4][]time.Duration
	for range b.N {
		t := time.Now()
		lap := func(i int) {
			n := time.Now()
			p[i] = append(p[i], n.Sub(t))
			t = n
		}
		id, err := d.Create(ctx, trivial(b))
		lap(0)
		if err == nil {
			err = d.Start(ctx, id)
		}
		lap(1)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = d.Wait(ctx, id)
		lap(2)
		_ = d.Remove(ctx, id)
		lap(3)
	}
	for i, n := range []string{"create", "start", "wait", "remove"} {
		quantiles(b, n, p[i])
	}
}

func BenchmarkFreezeThaw(b *testing.B) {
	d := open(b)
	ctx := context.Background()
	id := started(b, d, enginetest.Spec("sleep 1000"))
	var freeze, thaw []time.Duration
	for range b.N {
		begin := time.Now()
		if err := d.Freeze(ctx, id, true); err != nil {
			b.Fatal(err)
		}
		freeze = append(freeze, time.Since(begin))
		begin = time.Now()
		if err := d.Freeze(ctx, id, false); err != nil {
			b.Fatal(err)
		}
		thaw = append(thaw, time.Since(begin))
	}
	quantiles(b, "freeze", freeze)
	quantiles(b, "thaw", thaw)
}

func BenchmarkAttach(b *testing.B) {
	d := open(b)
	ctx := context.Background()
	id := started(b, d, enginetest.Spec("sleep 1000"))
	m := engine.Mount{Kind: engine.MountBind, Source: b.TempDir(), Target: "/var/task", ReadOnly: true}
	for range b.N {
		if err := d.Attach(ctx, id, m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkExec(b *testing.B) {
	d := open(b)
	spec := trivial(b)
	nothing := spec.Command
	spec.Command = enginetest.Spec("sleep 1000").Command
	id := started(b, d, spec)
	for range b.N {
		if _, err := d.Exec(context.Background(), id, engine.ExecSpec{Command: nothing}, engine.Streams{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIdle is what an idle container costs in all: how much less memory is
// available on the machine with each of up to a thousand busybox that sleep, with an
// address and limits. It is the middle of the slopes between all pairs of
// measurements, so that what else comes and goes on the machine has little to say;
// at a quiet moment it says nothing. Of it, what the kernel charges to the containers'
// control groups, and what is the supervisor's own.
func BenchmarkIdle(b *testing.B) {
	const step = 20
	n := min(b.N, 1000)
	d := open(b)
	spec := trivial(b)
	spec.Command = []string{"/bin/busybox", "sleep", "100000"}
	for range step { // what is there once for all
		started(b, d, spec)
	}
	own := resident(b, d)
	var machine, charged []int64
	for i := range n {
		if i%step == 0 {
			machine, charged = append(machine, available(b)), append(charged, groupCharge(b, d))
		}
		started(b, d, spec)
	}
	b.ReportMetric(-slope(machine)/step, "machine-KB/container")
	b.ReportMetric(slope(charged)/step, "charged-KB/container")
	b.ReportMetric(float64(resident(b, d)-own)/float64(n), "supervisor-KB/container")
	b.ReportMetric(float64(resident(b, d)), "supervisor-KB")
}

// slope is the middle of the slopes between all pairs.
func slope(at []int64) float64 {
	var all []float64
	for i := range at {
		for j := range i {
			all = append(all, float64(at[i]-at[j])/float64(i-j))
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// groupCharge is the memory in KB that is charged to an engine's control group and
// those below it.
func groupCharge(b *testing.B, d *Driver) int64 {
	for _, path := range []string{"/sys/fs/cgroup/memory/" + d.cfg.Name + "/memory.usage_in_bytes", "/sys/fs/cgroup/" + d.cfg.Name + "/memory.current"} {
		if text, err := os.ReadFile(path); err == nil {
			n, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
			return n >> 10
		}
	}
	return 0
}

// processorTime is what the supervisor has used, and its containers that have
// ended: figures that a busy machine does not change much.
func processorTime(b *testing.B, d *Driver) (own, inside time.Duration) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", supervisorPid(b, d)))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	f := strings.Fields(rest)
	ticks := func(i int) time.Duration { // of 10 ms; utime is the 14th field, f[11]
		n, _ := strconv.ParseInt(f[i], 10, 64)
		return time.Duration(n) * 10 * time.Millisecond
	}
	return ticks(11) + ticks(12), ticks(13) + ticks(14)
}

// available is the machine's free memory in KB.
func available(b *testing.B) int64 { return kilobytes(b, "/proc/meminfo", "MemAvailable:") }

// resident is the memory of a driver's supervisor in KB.
func resident(b *testing.B, d *Driver) int64 {
	return kilobytes(b, fmt.Sprintf("/proc/%d/status", supervisorPid(b, d)), "RssAnon:")
}

func kilobytes(b *testing.B, file, name string) int64 {
	text, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n
		}
	}
	b.Fatalf("%s has no %s", file, name)
	return 0
}

// BenchmarkNetworks is the start of a container, created to executed, on a network
// of each kind in turn.
func BenchmarkNetworks(b *testing.B) {
	d := open(b)
	ctx := context.Background()
	first := trivial(b) // so that the network is there
	first.Network = withNamed("blue", "10.0.0.1")
	if _, err := d.Create(ctx, first); err != nil {
		b.Fatal(err)
	}
	if err := d.SetFirewall(ctx, "blue", []engine.SecurityGroup{{ID: "sg"}}); err != nil {
		b.Fatal(err)
	}
	times := map[string][]time.Duration{}
	for i := range b.N {
		for name, change := range map[string]func(*engine.Network){
			"nat": func(*engine.Network) {},
			"named": func(n *engine.Network) {
				*n = withNamed("blue", fmt.Sprintf("10.0.1.%d", i%250+1))
			},
			"grouped": func(n *engine.Network) {
				*n = withNamed("blue", fmt.Sprintf("10.0.1.%d", i%250+1))
				n.Groups = []string{"sg"}
			},
			"ports": func(n *engine.Network) { n.Ports = []engine.Port{{Container: 80}} },
		} {
			<-time.After(20 * time.Millisecond) // what is measured is a start out of rest
			spec := trivial(b)
			change(&spec.Network)
			begin := time.Now()
			id, err := d.Create(ctx, spec)
			if err == nil {
				err = d.Start(ctx, id)
			}
			if err != nil {
				b.Fatal(err)
			}
			times[name] = append(times[name], time.Since(begin))
			if _, err := d.Wait(ctx, id); err != nil {
				b.Fatal(err)
			}
			if err := d.Remove(ctx, id); err != nil {
				b.Fatal(err)
			}
		}
	}
	for name, all := range times {
		quantiles(b, name, all)
	}
}
