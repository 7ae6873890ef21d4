package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// peer is another server of S3 that a public registry offers.
type peer struct {
	name, version string
	// install puts it into a folder.
	install func(dir, version string) *exec.Cmd
	// start runs it on an address, with its state in a folder.
	start       func(dir, data, host, port string) *exec.Cmd
	key, secret string
}

// peers are those that install from npm or Go's proxy, run with their state in
// files. What they promise of it when they acknowledge a write is theirs to say;
// Skerry's is on disk.
var peers = []peer{
	{
		name: "s3rver", version: "3.7.1", key: "S3RVER", secret: "S3RVER",
		install: func(dir, version string) *exec.Cmd {
			return exec.Command("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", dir, "s3rver@"+version)
		},
		start: func(dir, data, host, port string) *exec.Cmd {
			return exec.Command(filepath.Join(dir, "node_modules/.bin/s3rver"), "-d", data, "-a", host, "-p", port, "--silent")
		},
	},
	{
		name: "gofakes3", version: "v1.2.0", key: "test", secret: "test",
		install: func(dir, version string) *exec.Cmd {
			return goInstall(dir, "github.com/johannesboyne/gofakes3/cmd/gofakes3@"+version)
		},
		start: func(dir, data, host, port string) *exec.Cmd {
			return exec.Command(filepath.Join(dir, "gofakes3"), "-backend", "fs", "-fs.path", filepath.Join(data, "s3"), "-fs.create", "-quiet", "-host", net.JoinHostPort(host, port))
		},
	},
	{
		name: "versitygw", version: "v1.8.0", key: "test", secret: "testtest",
		install: func(dir, version string) *exec.Cmd {
			return goInstall(dir, "github.com/versity/versitygw/cmd/versitygw@"+version)
		},
		start: func(dir, data, host, port string) *exec.Cmd {
			return exec.Command(filepath.Join(dir, "versitygw"), "--access", "test", "--secret", "testtest", "--quiet", "--port", net.JoinHostPort(host, port), "posix", data)
		},
	},
}

func goInstall(dir, what string) *exec.Cmd {
	c := exec.Command("go", "install", what)
	c.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=")
	return c
}

// measurePeers measures the peers as Skerry was measured. One that cannot be had
// or does not run is named in the table.
func measurePeers(ctx context.Context, b *bench) error {
	for _, p := range peers {
		if err := p.measure(ctx, b); err != nil {
			b.table.add(p.name+" "+p.version, "", "not measured: %.120s", err)
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
	fmt.Fprintf(os.Stderr, "installing %s %s\n", p.name, p.version)
	if out, err := p.install(dir, p.version).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
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
	cmd := p.start(dir, data, host, port)
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
	return objects(ctx, b, p.name+" "+p.version, newAPI("http://"+address, p.key, p.secret))
}
