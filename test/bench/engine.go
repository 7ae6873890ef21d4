package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"skerry/internal/blob"
	"skerry/internal/engine"
	"skerry/internal/engine/embedded"
	"skerry/internal/engine/enginetest"
	"skerry/internal/engine/image"
	"skerry/internal/store"
)

// busyboxPath is the static program that the measured containers run.
const busyboxPath = "/bin/busybox"

// measureEngine measures containers made of an image, whole lives of them (made,
// run, waited for, removed), and the same by other runtimes in the same run.
func measureEngine(ctx context.Context, b *bench) error {
	if os.Geteuid() != 0 {
		b.table.add("containers", "", "not measured: they need root")
		return nil
	}
	program, err := os.ReadFile(busyboxPath)
	if err != nil {
		return fmt.Errorf("%w (Debian: busybox-static)", err)
	}
	dir, err := os.MkdirTemp("", "skerry-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := ownEngine(ctx, b, dir, program); err != nil || !b.peers {
		return err
	}
	for _, p := range runners {
		if err := p.measure(ctx, b, filepath.Join(dir, p.name), program); err != nil {
			b.table.add(p.name, "", "not measured: %.160s", err)
		}
	}
	return nil
}

// ownEngine measures the embedded engine.
func ownEngine(ctx context.Context, b *bench, dir string, program []byte) (err error) {
	db, err := store.Open(filepath.Join(dir, "store"), store.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	blobs, err := blob.Open(filepath.Join(dir, "blob"), blob.Options{})
	if err != nil {
		return err
	}
	images, err := image.Open(image.Config{Dir: filepath.Join(dir, "layers"), Store: db, Blobs: blobs})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, images.Close()) }()
	e, err := embedded.Open(embedded.Config{Data: filepath.Join(dir, "engine"), Images: images})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Shutdown(context.WithoutCancel(ctx)), e.Close()) }()
	archive := enginetest.Archive(enginetest.ImageSpec{
		Names: []string{"busybox:latest"}, Config: engine.ImageConfig{Command: []string{"/bin/busybox", "true"}},
		Layers: [][]enginetest.ImageFile{{{Name: "bin/busybox", Mode: 0o755, Content: program}, {Name: "etc/", Mode: 0o755},
			{Name: "bin/nothing", Mode: 0o755, Content: enginetest.Nothing()}}},
	})
	if _, err := images.Load(ctx, strings.NewReader(string(archive)), nil); err != nil {
		return err
	}
	// the bars are the engine's, so they are for a program that takes no time of its own
	nothing := engine.Spec{Account: "000000000000", Root: engine.Root{Image: "busybox:latest", Writable: true}, Command: []string{"/bin/nothing"}}
	var start, exit times
	for range 60 {
		time.Sleep(100 * time.Millisecond) // sparse: one at a time on an idle machine
		began := time.Now()
		started, err := life(ctx, e, nothing)
		if err != nil {
			return err
		}
		start, exit = append(start, started.started.Sub(began)), append(exit, started.exited.Sub(began))
	}
	b.table.add("container of an image, sparse: made and started", "p50 2.5 ms, p99 6 ms", "p50 %s, p99 %s", ms(start.at(0.5)), ms(start.at(0.99)))
	b.table.add("container of an image, sparse: made, run, exit told", "p50 3 ms", "p50 %s, p99 %s", ms(exit.at(0.5)), ms(exit.at(0.99)))
	if err := wholeLives(ctx, b, e, nothing, "whole lives", "500 a second"); err != nil {
		return err
	}
	busybox := nothing
	busybox.Command = []string{"/bin/busybox", "true"} // what the peers run
	return wholeLives(ctx, b, e, busybox, "whole lives of busybox true", "")
}

// wholeLives measures containers by the second; the bar is for four at once.
func wholeLives(ctx context.Context, b *bench, e engine.Engine, spec engine.Spec, what, bar string) error {
	for _, workers := range []int{1, 2, 4} {
		took, rate, err := load(ctx, workers, b.span, func(int, int) error { _, err := life(ctx, e, spec); return err })
		if err != nil {
			return err
		}
		at := ""
		if workers == 4 {
			at = bar
		}
		b.table.add(fmt.Sprintf("containers, %s, %d at once", what, workers), at, "%.0f a second; p50 %s, p99 %s", rate, ms(took.at(0.5)), ms(took.at(0.99)))
	}
	return nil
}

// lived is when things happened to a container.
type lived struct{ started, exited time.Time }

// life makes a container, runs it to its end and removes it.
func life(ctx context.Context, e engine.Engine, spec engine.Spec) (l lived, err error) {
	id, err := e.Create(ctx, spec)
	if err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, e.Remove(context.WithoutCancel(ctx), id)) }()
	if err := e.Start(ctx, id); err != nil {
		return l, err
	}
	l.started = time.Now()
	exit, err := e.Wait(ctx, id)
	l.exited = time.Now()
	if err == nil && exit.Code != 0 {
		err = fmt.Errorf("exit %+v", exit)
	}
	return l, err
}

// runner is another program that runs containers, measured if it is on the
// PATH: what one `run` of it takes, of a plain folder as root, without a network.
type runner struct {
	name string
	args func(bundle, id string) []string
}

func ociRun(bundle, id string) []string { return []string{"run", "--bundle", bundle, id} }

var runners = []runner{
	{"crun", ociRun},
	{"runc", ociRun},
	{"podman", func(bundle, id string) []string {
		return []string{"run", "--rm", "--name", id, "--network", "none", "--log-driver", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--rootfs", filepath.Join(bundle, "rootfs"), "/bin/busybox", "true"}
	}},
}

func (p runner) measure(ctx context.Context, b *bench, bundle string, program []byte) error {
	if _, err := exec.LookPath(p.name); err != nil {
		return err
	}
	if err := p.bundle(ctx, bundle, program); err != nil {
		return err
	}
	var mu sync.Mutex
	n := 0
	run := func(int, int) error {
		mu.Lock()
		n++
		id := fmt.Sprintf("skerry-bench-%d-%d", os.Getpid(), n)
		mu.Unlock()
		if out, err := exec.CommandContext(ctx, p.name, p.args(bundle, id)...).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	if err := run(0, 0); err != nil { // which fills its caches
		return err
	}
	for _, workers := range []int{1, 2} {
		took, rate, err := load(ctx, workers, b.span, run)
		if err != nil {
			return err
		}
		b.table.add(fmt.Sprintf("%s run, %d at once", p.name, workers), "", "%.0f a second; p50 %s, p99 %s", rate, ms(took.at(0.5)), ms(took.at(0.99)))
	}
	return nil
}

// bundle makes a folder with a root and the runtime's own default configuration.
func (p runner) bundle(ctx context.Context, dir string, program []byte) error {
	for _, d := range []string{"bin", "dev", "etc", "proc", "sys"} {
		if err := os.MkdirAll(filepath.Join(dir, "rootfs", d), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "rootfs", busyboxPath), program, 0o755); err != nil {
		return err
	}
	if p.name == "podman" {
		return nil
	}
	spec := exec.CommandContext(ctx, p.name, "spec")
	spec.Dir = dir
	if out, err := spec.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	path := filepath.Join(dir, "config.json")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var config map[string]any
	if err := json.Unmarshal(text, &config); err != nil {
		return err
	}
	process, ok := config["process"].(map[string]any)
	if !ok {
		return fmt.Errorf("%s has no process", path)
	}
	process["terminal"], process["args"] = false, []string{"/bin/busybox", "true"}
	if text, err = json.Marshal(config); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}
