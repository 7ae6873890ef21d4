package main

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// peer is another server of S3, measured if it is installed: on the PATH by its
// name.
type peer struct {
	name        string
	start       func(data, host, port string) []string // its arguments, with its state in a folder
	key, secret string
}

// peers are run with their state in files. What they promise of it when they
// acknowledge a write is theirs to say; Skerry's is on disk.
var peers = []peer{
	{
		name: "s3rver", key: "S3RVER", secret: "S3RVER",
		start: func(data, host, port string) []string {
			return []string{"-d", data, "-a", host, "-p", port, "--silent"}
		},
	},
	{
		name: "gofakes3", key: "test", secret: "test",
		start: func(data, host, port string) []string {
			return []string{"-backend", "fs", "-fs.path", filepath.Join(data, "s3"), "-fs.create", "-quiet", "-host", net.JoinHostPort(host, port)}
		},
	},
	{
		name: "versitygw", key: "test", secret: "testtest",
		start: func(data, host, port string) []string {
			return []string{"--access", "test", "--secret", "testtest", "--quiet", "--port", net.JoinHostPort(host, port), "posix", data}
		},
	},
}

// measurePeers measures the peers as Skerry was measured. One that is not there or
// does not run is named in the table.
func measurePeers(ctx context.Context, b *bench) error {
	for _, p := range peers {
		if err := p.measure(ctx, b); err != nil {
			b.table.add(p.name, "", "not measured: %.120s", err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

func (p peer) measure(ctx context.Context, b *bench) error {
	dir, err := os.MkdirTemp("", "skerry-peer-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	address, err := freeAddress()
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, p.name, p.start(data, host, port)...)
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = cmd.Wait()                          // how it ends is its own business
	}()
	if err := answers(ctx, "http://"+address+"/"); err != nil {
		return err
	}
	return objects(ctx, b, p.name, newAPI("http://"+address, p.key, p.secret, cmd.Process.Pid))
}
