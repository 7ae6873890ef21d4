package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is a running skerry.
type server struct {
	endpoint string
	cmd      *exec.Cmd
	log      bytes.Buffer
	took     time.Duration // from its start to its first answer
}

// freeAddress returns an address that nobody listens on.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// startServer starts the binary on a folder and waits for its first answer.
func startServer(ctx context.Context, binary, data string) (*server, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	s := &server{endpoint: "http://" + address}
	s.cmd = exec.Command(binary, "up", "--listen", address, "--data", data)
	s.cmd.Stderr = &s.log
	began := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	if err := answers(ctx, s.endpoint+"/_skerry/health"); err != nil {
		return nil, fmt.Errorf("%w\n%s%w", err, s.log.String(), s.stop())
	}
	s.took = time.Since(began)
	return s, nil
}

// answers waits until a URL answers. It asks in a tight loop, as the time is
// what is measured.
func answers(ctx context.Context, url string) error {
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) && ctx.Err() == nil {
		r, err := http.Get(url)
		if err == nil {
			return r.Body.Close()
		}
		time.Sleep(200 * time.Microsecond)
	}
	return fmt.Errorf("%s does not answer", url)
}

// stop ends the server and waits for it.
func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return s.cmd.Wait()
}

// withServer runs f with a server on an empty folder.
func withServer(ctx context.Context, b *bench, f func(s *server) error) (err error) {
	data, err := os.MkdirTemp("", "skerry-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(data)
	s, err := startServer(ctx, b.binary, data)
	if err != nil {
		return err
	}
	if err := f(s); err != nil {
		_ = s.stop() // the first error says more
		log := s.log.String()
		return fmt.Errorf("%w\nthe server's log ends:\n%s", err, log[max(0, len(log)-4000):])
	}
	return s.stop()
}

// resident returns the memory of a process in MiB: all that it maps and that is in
// memory (VmRSS), or its share of it (Pss), in which what several processes of one
// binary map counts once.
func resident(pid int, file, name string) float64 {
	kb, err := strconv.Atoi(strings.TrimSuffix(field(fmt.Sprintf("/proc/%d/%s", pid, file), name), " kB"))
	if err != nil {
		return 0
	}
	return float64(kb) / 1024
}

// supervisor finds the process that owns the sandboxes of a data folder, which
// outlives the server for a while.
func supervisor(data string) (pid int, ok bool) {
	found, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is right
	for _, f := range found {
		line, err := os.ReadFile(f)
		if err != nil || !bytes.Contains(line, []byte("engine-supervisor")) || !bytes.Contains(line, []byte(data+"/")) {
			continue
		}
		if pid, err = strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil {
			return pid, true
		}
	}
	return 0, false
}

// measureStart measures the start and what an idle server holds.
func measureStart(ctx context.Context, b *bench) error {
	data, err := os.MkdirTemp("", "skerry-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(data)
	first, err := startServer(ctx, b.binary, data)
	if err != nil {
		return err
	}
	if err := first.stop(); err != nil {
		return err
	}
	var took times
	var main, share, all float64
	for i := range 11 {
		s, err := startServer(ctx, b.binary, data)
		if err != nil {
			return err
		}
		took = append(took, s.took)
		if i == 0 {
			time.Sleep(3 * time.Second) // so that it is idle
			main = resident(s.cmd.Process.Pid, "status", "VmRSS")
			share = resident(s.cmd.Process.Pid, "smaps_rollup", "Pss")
			all = share
			if pid, ok := supervisor(data); ok {
				all += resident(pid, "smaps_rollup", "Pss")
			}
		}
		if err := s.stop(); err != nil {
			return err
		}
	}
	b.table.add("start to first answer, first start on a folder", "", "%s", ms(first.took))
	b.table.add("start to first answer, p50 of 11", "50 ms", "%s", ms(took.at(0.5)))
	b.table.add("resident when idle", "40 MB", "%.1f MiB", main)
	b.table.add("its share of memory that is in use (Pss); with the supervisor's", "", "%.1f MiB; %.1f MiB", share, all)
	return nil
}
