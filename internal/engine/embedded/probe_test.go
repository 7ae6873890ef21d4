//go:build linux && amd64

package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/enginetest"
)

// probe is the test's program inside a container: this test binary, with a
// task. It tells what it was let do.
func probe(args []string) int {
	number := 0
	if len(args) > 1 {
		number, _ = strconv.Atoi(args[1])
	}
	switch args[0] {
	case "syscalls":
		probeSyscalls()
	case "memory": // number: MiB
		b := make([]byte, number<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		fmt.Println("used", len(b)>>20)
	case "hold": // number: MiB, until it is killed
		b := make([]byte, number<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		fmt.Println("used", len(b)>>20)
		_ = unix.Pause()
		runtime.KeepAlive(b)
	case "memory-child":
		err := exec.Command(os.Args[0], "probe", "memory", args[1]).Run()
		fmt.Println("child:", err)
		return 3
	case "processes": // number: how many are tried
		for i := range number {
			cmd := exec.Command("/bin/sleep", "1000")
			if err := cmd.Start(); err != nil {
				fmt.Println("after", i, errors.Is(err, unix.EAGAIN))
				return 0
			}
		}
		fmt.Println("after", number, false)
	case "spin": // number: ms of wall time
		runtime.GOMAXPROCS(1)
		used := func() int64 {
			var u unix.Rusage
			_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
			return u.Utime.Nano() + u.Stime.Nano()
		}
		before := used() // by the runtime's start
		for end := time.Now().Add(time.Duration(number) * time.Millisecond); time.Now().Before(end); {
		}
		fmt.Println((used() - before) / 1e6)
	case "fill": // number: MiB at most
		f, err := os.Create("/tmp/fill")
		wrote := 0
		for b := make([]byte, 1<<20); err == nil && wrote < number; wrote++ {
			_, err = f.Write(b)
		}
		fmt.Println("wrote", wrote, errors.Is(err, unix.ENOSPC))
	case "info":
		d, err := Open(Config{Data: "/nonexistent/skerry"})
		if err != nil {
			fmt.Println(err)
			return 1
		}
		c, err := d.Info(context.Background())
		fmt.Printf("%+v %v\n", c, err)
	case "serve": // an address and a name
		return serve(args[1], args[2])
	case "ask":
		fmt.Println(asked(args[1]))
	case "dial": // the addresses that can be reached
		var wait sync.WaitGroup
		for _, to := range args[1:] {
			wait.Go(func() {
				if c, err := net.DialTimeout("tcp", to, 300*time.Millisecond); err == nil {
					fmt.Println("reached", to)
					_ = c.Close()
				}
			})
		}
		wait.Wait()
		fmt.Println("tried", len(args)-1)
	}
	return 0
}

// probeSyscalls tries what nobody in a container may do.
func probeSyscalls() {
	try := func(name string, number uintptr, args ...uintptr) {
		var a [6]uintptr
		copy(a[:], args)
		_, _, errno := unix.RawSyscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
		fmt.Println(name, int(errno))
	}
	path, _ := unix.BytePtrFromString("/tmp")
	p := uintptr(pointer(path))
	try("mount", unix.SYS_MOUNT, p, p, p, unix.MS_BIND, 0)
	try("umount2", unix.SYS_UMOUNT2, p, 0)
	try("pivot_root", unix.SYS_PIVOT_ROOT, p, p)
	try("unshare", unix.SYS_UNSHARE, unix.CLONE_NEWUSER)
	try("setns", unix.SYS_SETNS, 0, 0)
	try("bpf", unix.SYS_BPF, 0, 0, 0)
	try("keyctl", unix.SYS_KEYCTL, 0, 0, 0, 0, 0)
	try("add_key", unix.SYS_ADD_KEY, 0, 0, 0, 0, 0)
	try("init_module", unix.SYS_INIT_MODULE, 0, 0, 0)
	try("kexec_load", unix.SYS_KEXEC_LOAD, 0, 0, 0, 0)
	try("reboot", unix.SYS_REBOOT, 0, 0, 0, 0)
	try("swapon", unix.SYS_SWAPON, p, 0)
	try("settimeofday", unix.SYS_SETTIMEOFDAY, 0, 0)
	try("perf_event_open", unix.SYS_PERF_EVENT_OPEN, 0, 0, 0, 0, 0)
	try("open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, 0, 0, 0)
	try("userfaultfd", unix.SYS_USERFAULTFD, 0)
	try("fsopen", unix.SYS_FSOPEN, p, 0)
	try("open_tree", unix.SYS_OPEN_TREE, ^uintptr(99), p, unix.OPEN_TREE_CLONE)
	try("io_uring_setup", unix.SYS_IO_URING_SETUP, 1, 0)
}

// probeSpec is a specification of a container that runs a probe.
func probeSpec(t testing.TB, args ...string) engine.Spec {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	spec := enginetest.Spec("")
	spec.Mounts = []engine.Mount{{Kind: engine.MountBind, Source: filepath.Dir(exe), Target: "/mnt", ReadOnly: true}}
	spec.Command = append([]string{"/mnt/" + filepath.Base(exe), "probe"}, args...)
	spec.Env = append(spec.Env, "GOMAXPROCS=2")
	return spec
}

// result is a container that has run.
type result struct {
	engine.Exit
	out, errs string
}

// run runs a container to its end and removes it.
func run(t testing.TB, d engine.Engine, spec engine.Spec) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	id, err := d.Create(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Remove(context.Background(), id); err != nil {
			t.Error(err)
		}
	}()
	if err := d.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	var r result
	if r.Exit, err = d.Wait(ctx, id); err != nil {
		t.Fatal(err)
	}
	r.out, r.errs = output(t, d, id)
	return r
}

func output(t testing.TB, d engine.Engine, id engine.ID) (out, errs string) {
	t.Helper()
	var b [3]strings.Builder
	if err := d.Logs(context.Background(), id, engine.LogQuery{}, func(f engine.Frame) error {
		b[f.Stream].Write(f.Data)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return b[1].String(), b[2].String()
}

// started makes a container that runs until the test's end.
func started(t testing.TB, d engine.Engine, spec engine.Spec) engine.ID {
	t.Helper()
	id, err := d.Create(context.Background(), spec)
	if err == nil {
		err = d.Start(context.Background(), id)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Remove(context.Background(), id); err != nil {
			t.Error(err)
		}
	})
	return id
}

// sh runs a script in a container of a kind.
func sh(t testing.TB, d engine.Engine, script string, change ...func(*engine.Spec)) result {
	t.Helper()
	spec := enginetest.Spec(script)
	for _, c := range change {
		c(&spec)
	}
	return run(t, d, spec)
}
