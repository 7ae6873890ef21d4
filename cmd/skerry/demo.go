package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"skerry/internal/cloud"
)

// demos are small applications at work on a running cloud.
var demos = []struct {
	name, does string
	run        func(ctx context.Context, s *show) (kept string, err error)
}{
	{"thumbnail", "a picture is put into a bucket, a Python function makes its thumbnail", demoThumbnail},
	{"image", "a web server is made into an image, pushed to a repository, pulled from there and run", demoImage},
}

// demo shows one of them.
func demo(ctx context.Context, args []string, out io.Writer) error {
	i := -1
	if len(args) > 0 {
		for n, d := range demos {
			if d.name == args[0] {
				i = n
			}
		}
	}
	if i < 0 {
		for _, d := range demos {
			fmt.Fprintf(os.Stderr, "skerry demo %-10s %s\n", d.name, d.does)
		}
		if len(args) > 0 && (args[0] == "-h" || args[0] == "--help") {
			return flag.ErrHelp
		}
		return errUsage
	}
	var t target
	f := flagSet("demo "+demos[i].name, demos[i].does)
	t.flags(f)
	keep := f.Bool("keep", false, "leave everything in place at the end")
	if err := parse(f, args[1:]); err != nil {
		return err
	}
	s, err := t.server()
	if err != nil {
		return err
	}
	key, err := t.key(s)
	if err != nil {
		return err
	}
	sh := &show{client: &client{s.Endpoint, s.Region, key}, server: s, out: out}
	fmt.Fprintf(out, "on %s\n", s.Endpoint)
	if err := canRun(ctx, s); err != nil {
		return err
	}
	kept, err := demos[i].run(ctx, sh)
	if *keep {
		fmt.Fprintf(out, "\nkept: %s\n", kept)
		return err
	}
	return errors.Join(err, sh.clean(context.WithoutCancel(ctx)))
}

// canRun sees that the cloud can run functions and containers on its machine,
// rather than have the demo wait for one in vain.
func canRun(ctx context.Context, s cloud.Server) error {
	b, err := ask(ctx, http.MethodGet, s.Endpoint+"/_skerry/status")
	if err != nil {
		return err
	}
	var st cloud.Status
	if err := json.Unmarshal(b, &st); err != nil {
		return fmt.Errorf("%s is no Skerry: %w", s.Endpoint, err)
	}
	if st.Engine.Runs {
		return nil
	}
	text := "no function and no container can run there"
	for _, c := range st.Off {
		text += fmt.Sprintf("\n%s: %s\n  %s", c.What, c.Why, c.Mend)
	}
	return errors.New(text)
}

// show is one run of a demo.
type show struct {
	*client
	server cloud.Server
	out    io.Writer
	made   []func(context.Context) error // removes what was made, the last first
}

// step is what happens in a demo; do returns what there is to tell of it.
type step struct {
	title string
	do    func() (string, error)
}

// steps tells what happens next, with the time that it takes, and does it.
func (s *show) steps(all []step) error {
	for _, next := range all {
		fmt.Fprintf(s.out, "\n== %s\n", next.title)
		began := time.Now()
		report, err := next.do()
		if err != nil {
			return err
		}
		fmt.Fprintf(s.out, "%s\n   (%s)\n", strings.TrimRight(report, "\n"), time.Since(began).Round(100*time.Microsecond))
	}
	return nil
}

func (s *show) undo(f func(context.Context) error) { s.made = append(s.made, f) }

// wait asks until something holds, for a minute.
func (s *show) wait(ctx context.Context, holds func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := holds(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("not within a minute: %w", ctx.Err())
		}
	}
}

// clean removes what was made.
func (s *show) clean(ctx context.Context) error {
	var errs []error
	for _, undo := range slices.Backward(s.made) {
		errs = append(errs, undo(ctx))
	}
	fmt.Fprintf(s.out, "\nall of it is removed again (--keep leaves it)\n")
	return errors.Join(errs...)
}
