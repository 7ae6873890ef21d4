package lambda

import (
	"os/exec"
	"slices"
	"testing"
	"time"

	api "skerry/internal/api/lambda"
	"skerry/internal/base/ids"
)

// percentiles reports the median and the 99th percentile of what was measured.
func percentiles(b *testing.B, all []time.Duration) {
	slices.Sort(all)
	at := func(p int) float64 { return float64(all[min(len(all)-1, len(all)*p/100)].Microseconds()) }
	b.ReportMetric(at(50), "p50-µs")
	b.ReportMetric(at(99), "p99-µs")
	b.ReportMetric(at(0), "min-µs")
}

func (w *world) quick(name string) {
	sc := w.scope
	sc.Request.ID = ids.UUID()
	out, err := w.Invoke(w.t.Context(), sc, &api.InvokeInput{FunctionName: &name, Payload: []byte(`{"a":1}`)})
	if err != nil || out.FunctionError != nil {
		w.t.Fatalf("%v %s", err, out.Payload)
	}
}

// wholeCPU gives a function a processor, so that its quota is not what is measured.
func wholeCPU(in *api.CreateFunctionInput) { in.MemorySize = new(int32(memoryOfCPU)) }

func benchWarm(b *testing.B, w *world) {
	w.quick("f")
	var all []time.Duration
	for b.Loop() {
		began := time.Now()
		w.quick("f")
		all = append(all, time.Since(began))
	}
	percentiles(b, all)
}

// BenchmarkWarmGo and its like are the service alone, without HTTP, signatures
// and policies; test/bench has the whole path.
func BenchmarkWarmGo(b *testing.B) {
	w := realWorld(b, Config{})
	w.function("f", "provided.al2023", "bootstrap", map[string]string{"bootstrap": goBootstrap(b)}, wholeCPU)
	benchWarm(b, w)
}

func BenchmarkWarmPython(b *testing.B) {
	w := realWorld(b, Config{})
	w.function("f", "python3.11", "app.handler", map[string]string{"app.py": "def handler(e, c): return e\n"}, wholeCPU)
	benchWarm(b, w)
}

func BenchmarkWarmNode(b *testing.B) {
	w := realWorld(b, Config{})
	w.function("f", "nodejs20.x", "app.handler", map[string]string{"app.js": "exports.handler = async (e) => e;\n"}, wholeCPU)
	benchWarm(b, w)
}

// benchCold measures the first answer of a new sandbox.
func benchCold(b *testing.B, runtime string, files map[string]string, ahead int) {
	w := realWorld(b, Config{Ahead: ahead})
	handler := "app.handler"
	w.function("f", runtime, handler, files, wholeCPU)
	w.quick("f")
	var all []time.Duration
	for b.Loop() {
		w.forget(ref{Account: account, Region: region, Name: "f"})
		w.until("no sandbox is left", func() bool { return len(w.fleetIdle()) == 0 })
		if ahead > 0 {
			w.until("an interpreter waits", func() bool { return w.ready(runtime) > 0 })
		}
		began := time.Now()
		w.quick("f")
		all = append(all, time.Since(began))
	}
	percentiles(b, all)
}

// benchFloor is the interpreter's own start on the machine, for comparison.
func benchFloor(b *testing.B, command ...string) {
	var all []time.Duration
	for b.Loop() {
		cmd := exec.Command(command[0], command[1:]...)
		cmd.Env = []string{"PATH=/usr/bin:/bin"}
		began := time.Now()
		if err := cmd.Run(); err != nil {
			b.Fatal(err)
		}
		all = append(all, time.Since(began))
	}
	percentiles(b, all)
}

func BenchmarkCold(b *testing.B) {
	python := map[string]string{"app.py": "def handler(e, c): return e\n"}
	node := map[string]string{"app.js": "exports.handler = async (e) => e;\n"}
	b.Run("python/floor", func(b *testing.B) { benchFloor(b, "/usr/bin/python3", "-c", "pass") })
	b.Run("python/fresh", func(b *testing.B) { benchCold(b, "python3.11", python, 0) })
	b.Run("python/ahead", func(b *testing.B) { benchCold(b, "python3.11", python, 1) })
	b.Run("node/floor", func(b *testing.B) { benchFloor(b, "/usr/bin/node", "-e", "0") })
	b.Run("node/fresh", func(b *testing.B) { benchCold(b, "nodejs20.x", node, 0) })
	b.Run("node/ahead", func(b *testing.B) { benchCold(b, "nodejs20.x", node, 1) })
	b.Run("go/fresh", func(b *testing.B) {
		benchCold(b, "provided.al2023", map[string]string{"bootstrap": goBootstrap(b)}, 0)
	})
}
