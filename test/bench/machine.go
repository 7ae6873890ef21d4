package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// machine describes where the figures come from.
func machine(ctx context.Context) (string, error) {
	var u syscall.Utsname
	if err := syscall.Uname(&u); err != nil {
		return "", err
	}
	rate, err := fsyncs(ctx, time.Second)
	if err != nil {
		return "", err
	}
	python, err := exec.CommandContext(ctx, "/usr/bin/python3", "--version").Output()
	if err != nil {
		python = []byte("no Python")
	}
	return fmt.Sprintf("%s, %d cores, %s of memory, Linux %s, %s, %s; a synced write of 100 bytes: %.0f a second, %s each. %s.\n",
		field("/proc/cpuinfo", "model name"), runtime.NumCPU(), memory(), text(u.Release[:]), runtime.Version(),
		strings.TrimSpace(string(python)), rate, ms(time.Duration(float64(time.Second)/rate)),
		time.Now().UTC().Format("2006-01-02")), nil
}

func text(b []int8) string {
	var s strings.Builder
	for _, c := range b {
		if c == 0 {
			break
		}
		s.WriteByte(byte(c))
	}
	return s.String()
}

// field returns the value of the first line "name : value" of a file of /proc.
func field(file, name string) string {
	f, err := os.Open(file)
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if k, v, ok := strings.Cut(sc.Text(), ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}

func memory() string {
	var kb int
	if _, err := fmt.Sscanf(field("/proc/meminfo", "MemTotal"), "%d kB", &kb); err != nil {
		return "unknown size"
	}
	return fmt.Sprintf("%.0f GiB", float64(kb)/(1<<20))
}

// fsyncs returns how many synced writes a second one writer gets out of the disk
// that temporary folders are on.
func fsyncs(ctx context.Context, span time.Duration) (float64, error) {
	f, err := os.CreateTemp("", "skerry-bench-")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	line := make([]byte, 100)
	n, began := 0, time.Now()
	for time.Since(began) < span && ctx.Err() == nil {
		if _, err := f.Write(line); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		n++
	}
	return float64(n) / time.Since(began).Seconds(), ctx.Err()
}
