package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"skerry/internal/cloud"
)

// up starts the cloud and serves until the first signal; a second one exits at
// once.
func up(ctx context.Context, args []string, out io.Writer) error {
	c := cloud.Config{Version: buildVersion()}
	f := flagSet("up", "start the cloud and serve until interrupted")
	f.StringVar(&c.Listen, "listen", cloud.DefaultListen, "`HOST:PORT` to serve on; beyond loopback only root keys get in")
	f.StringVar(&c.Data, "data", cloud.DefaultData(), "`FOLDER` of all state")
	f.StringVar(&c.Account, "account", cloud.DefaultAccount, "twelve-digit account `ID`")
	f.StringVar(&c.Region, "region", cloud.DefaultRegion, "`REGION` of requests that name none")
	f.Var((*rootKeys)(&c.RootKeys), "root-key", "`ID:SECRET` of the root user; repeatable")
	f.Var((*runtimes)(&c.Runtimes), "lambda-runtime", "`NAME=PATH` of the interpreter for a Lambda runtime, such as python3.12=/opt/py/bin/python3; repeatable")
	f.StringVar(&c.Vulnerabilities, "vulnerabilities", "", "`FOLDER` with vulnerabilities in OSV's format, for the scans of images")
	f.StringVar(&c.NodeModules, "lambda-node-modules", "", "`FOLDER` with the AWS SDK for JavaScript, for Node.js functions")
	f.Var((*mirrors)(&c.Mirrors), "registry-mirror", "`HOST=URL` of a registry's mirror, such as docker.io=https://mirror.example; repeatable")
	f.StringVar(&c.Engine, "engine", cloud.EngineEmbedded, "what runs functions and containers: embedded, docker, or docker=`SOCKET`")
	f.StringVar(&c.DockerSocket, "docker-socket", "", "`PATH` of the socket for docker clients (default: docker.sock in the data folder; none: no socket); who can open it is as good as root")
	format := f.String("log-format", "text", "text or json")
	level := f.String("log-level", "info", "debug, info, warn or error")
	f.StringVar(&c.Durability, "durability", cloud.DefaultDurability, "fsync, or relaxed for test suites (a crash of the machine may lose state)")
	quiet := f.Bool("quiet", false, "no banner")
	if err := parse(f, args); err != nil {
		return err
	}
	log, err := logger(*format, *level)
	if err != nil {
		return err
	}
	c.Log = log
	if err := c.Check(); err != nil {
		return err
	}
	ctx, cancel := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer cancel()
	go func() {
		<-ctx.Done()
		cancel() // from here on a second signal has its default effect: it exits
	}()
	return cloud.Run(ctx, c, func(r cloud.Ready) {
		if !*quiet {
			banner(out, r)
		}
	})
}

// logger makes the structured log of the server; it writes to standard error.
func logger(format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q is none of debug, info, warn, error", level)
	}
	o := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, o)), nil
	}
	return nil, fmt.Errorf("--log-format %q is neither text nor json", format)
}

// banner tells a person where the cloud is and how to use it.
func banner(out io.Writer, r cloud.Ready) {
	fmt.Fprintf(out, "\n  Skerry %s is up (%d ms)\n\n", r.Version, r.Took.Milliseconds())
	fmt.Fprintf(out, "  endpoint   %s\n  console    %s/_skerry/\n  state      %s\n", r.Endpoint, r.Endpoint, r.Data)
	if r.NewRootKey.ID != "" {
		fmt.Fprintf(out, "\n  root key   %s\n  secret     %s\n  shown this once; kept in %s (mode 0600)\n", r.NewRootKey.ID, r.NewRootKey.Secret, r.RootKeyFile)
	}
	if r.Docker != "" {
		fmt.Fprintf(out, "  docker     unix://%s\n", r.Docker)
	}
	for _, off := range r.Off {
		fmt.Fprintf(out, "\n  off: %s\n       %s\n", off.What, off.Mend)
	}
	fmt.Fprintf(out, "\n  paste this into a shell, then use aws as ever:\n\n    %s\n\n", r.ShellLine)
}
