// Command skerry is the whole cloud in one binary: `skerry up` starts it, the
// other commands ask it or the machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"skerry/internal/engine/embedded"
)

// version is set by the linker; a build without it tells its module's version.
var version string

// command is one word after skerry.
type command struct {
	name, does string
	run        func(ctx context.Context, args []string, out io.Writer) error
}

// commands lists what skerry can do, in the order of the help.
func commands() []command {
	return []command{
		{"up", "start the cloud and serve until interrupted", up},
		{"env", "print the lines that point AWS clients at the cloud", env},
		{"status", "ask a running cloud how it is", status},
		{"demo", "show a small application at work: skerry demo thumbnail", demo},
		{"image", "load, pull, push, tag, list, save and remove images", images},
		{"doctor", "say what this machine can and can't do, and how to mend it", doctor},
		{"reset", "erase all state of a running cloud (loopback only)", reset},
		{"version", "print the version", printVersion},
	}
}

// errUsage says that the command line was wrong and that this has been said.
var errUsage = errors.New("usage")

func main() {
	embedded.Main(buildVersion()) // does not return in the supervisor of containers
	err := run(context.Background(), os.Args[1:], os.Stdout)
	switch {
	case err == nil:
	case errors.Is(err, errUsage):
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "skerry:", err)
		os.Exit(1)
	}
}

// run finds the command and runs it.
func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		usage(out)
		if len(args) == 0 {
			return errUsage
		}
		return nil
	}
	for _, c := range commands() {
		if c.name == args[0] {
			err := c.run(ctx, args[1:], out)
			if errors.Is(err, flag.ErrHelp) {
				return nil
			}
			return err
		}
	}
	fmt.Fprintf(os.Stderr, "skerry: there is no command %q\n\n", args[0])
	usage(os.Stderr)
	return errUsage
}

func usage(w io.Writer) {
	fmt.Fprint(w, "Skerry is an AWS-compatible compute cloud in one binary.\n\nUsage: skerry COMMAND [flags]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-9s %s\n", c.name, c.does)
	}
	fmt.Fprint(w, "\nskerry COMMAND --help lists the flags of a command.\n")
}

func printVersion(_ context.Context, _ []string, out io.Writer) error {
	_, err := fmt.Fprintln(out, "skerry", buildVersion())
	return err
}

// buildVersion returns the linker's version, else the module's.
func buildVersion() string {
	if version != "" {
		return version
	}
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" {
		return b.Main.Version
	}
	return "(devel)"
}
