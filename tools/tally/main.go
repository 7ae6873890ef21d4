// Command tally runs go test and counts what came of it.
//
//	tally -into FILE go test -race ./...   runs, prints a line a package and what
//	                                       failed, and adds the counts to FILE
//	tally -sum FILE                        prints "N passed, N failed, N skipped"
//
// It exits with 1 if a test failed, or if not one passed.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// counts is how many tests ended in each way. A test with subtests counts once
// for itself and once for each of them, as go test does.
type counts struct{ Passed, Failed, Skipped int }

func (c *counts) add(d counts) {
	c.Passed += d.Passed
	c.Failed += d.Failed
	c.Skipped += d.Skipped
}

// String is the line that closes a run.
func (c counts) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", c.Passed, c.Failed, c.Skipped)
}

func main() {
	into := flag.String("into", "", "add the counts to this `FILE`")
	sum := flag.String("sum", "", "print the sum of this `FILE` and end")
	flag.Parse()
	var err error
	if *sum != "" {
		err = printSum(*sum)
	} else {
		err = runTests(*into, flag.Args())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
		os.Exit(1)
	}
}

// printSum adds up the lines of a file of counts.
func printSum(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var total counts
	d := json.NewDecoder(f)
	for {
		var c counts
		if err := d.Decode(&c); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		total.add(c)
	}
	fmt.Println(total)
	if total.Failed > 0 || total.Passed == 0 {
		os.Exit(1)
	}
	return nil
}

// runTests runs `go test` with JSON output and adds what came of it to a file.
func runTests(into string, args []string) error {
	if len(args) < 2 || args[1] != "test" {
		return errors.New("usage: tally -into FILE go test PACKAGES")
	}
	cmd := exec.Command(args[0], slices.Insert(slices.Clone(args[1:]), 1, "-json")...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	c := count(out, os.Stdout)
	ended := cmd.Wait()
	if ended != nil && c.Failed == 0 {
		c.Failed = 1 // a package that did not build, or a test binary that died
	}
	if into != "" {
		f, err := os.OpenFile(into, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		if err := json.NewEncoder(f).Encode(c); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return ended
}

// event is one line of `go test -json` ("go doc test2json").
type event struct {
	Action, Package, ImportPath, Test, Output string
	Elapsed                                   float64
}

// count reads the events of a run, tells what failed, and counts.
func count(in io.Reader, out io.Writer) counts {
	var c counts
	perPackage := map[string]*counts{}
	output := map[string][]string{} // of each test that has not passed
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(out, lines.Text())
			continue
		}
		key := e.Package + " " + e.Test
		p := perPackage[e.Package]
		if p == nil {
			p = &counts{}
			perPackage[e.Package] = p
		}
		switch {
		case e.Action == "output":
			output[key] = append(output[key], e.Output)
		case e.Action == "build-output":
			fmt.Fprint(out, e.Output)
		case e.Test == "" && (e.Action == "pass" || e.Action == "fail"):
			if e.Action == "fail" {
				fmt.Fprint(out, strings.Join(output[key], ""))
			}
			fmt.Fprintf(out, "%-4s %-50s %6.1fs  %v\n", e.Action, e.Package, e.Elapsed, *p)
			c.add(*p)
		case e.Action == "pass":
			p.Passed++
			delete(output, key)
		case e.Action == "fail":
			p.Failed++
			fmt.Fprint(out, strings.Join(output[key], ""))
		case e.Action == "skip" && e.Test != "":
			p.Skipped++
			fmt.Fprint(out, strings.Join(output[key], ""))
		}
	}
	return c
}
