// Command bench measures a built skerry as its users meet it: over loopback,
// through the public API, with state on disk. It prints the tables of
// docs/performance.md, each figure beside the bar that the project sets itself.
//
//	go run ./test/bench -binary bin/skerry
//	go run ./test/bench -binary bin/skerry -only s3,lambda -for 10s
//	go run ./test/bench -binary bin/skerry -peers     # and what others do here
//
// Client and server share the machine, so that a figure is of both. Bars are for
// a quiet machine of two cores; this program does not fail when one is missed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"skerry/internal/engine/embedded"
)

// part is something that is measured.
type part struct {
	name    string
	measure func(ctx context.Context, b *bench) error
}

var parts = []part{
	{"start", measureStart},
	{"store", measureStore},
	{"s3", measureS3},
	{"logs", measureLogs},
	{"lambda", measureLambda},
	{"registry", measureRegistry},
	{"engine", measureEngine},
}

// bench is one run.
type bench struct {
	binary string
	span   time.Duration // how long each figure is measured
	peers  bool
	table  table
}

func main() {
	embedded.Main("") // the supervisor of the engine that is measured is this program too
	b := &bench{}
	flag.StringVar(&b.binary, "binary", "bin/skerry", "the skerry to measure")
	flag.DurationVar(&b.span, "for", 3*time.Second, "how long each figure is measured")
	flag.BoolVar(&b.peers, "peers", false, "measure others too: those of s3rver, gofakes3, versitygw, docker-registry, crun, runc and podman that are on the PATH")
	only := flag.String("only", "", "parts to measure, of start,store,s3,logs,lambda,registry,engine")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, b, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, b *bench, only string) error {
	if _, err := os.Stat(b.binary); err != nil {
		return fmt.Errorf("%w (make build makes it)", err)
	}
	facts, err := machine(ctx)
	if err != nil {
		return err
	}
	fmt.Print(facts)
	var failed []error
	for _, p := range parts {
		if only != "" && !slices.Contains(strings.Split(only, ","), p.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s\n", p.name)
		b.table = table{}
		err := p.measure(ctx, b)
		fmt.Printf("\n### %s\n\n%s", p.name, b.table)
		if err != nil {
			fmt.Printf("\n%s could not be measured: %v\n", p.name, err)
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}
