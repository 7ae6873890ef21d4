package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"skerry/internal/cloud"
)

// target is how a command finds the cloud that it asks.
type target struct{ endpoint, data string }

func (t *target) flags(f *flag.FlagSet) {
	f.StringVar(&t.endpoint, "endpoint", "", "`URL` of the cloud (default: the one that runs on the data folder)")
	f.StringVar(&t.data, "data", cloud.DefaultData(), "`FOLDER` of the cloud's state")
}

// server returns the cloud's note about itself.
func (t *target) server() (cloud.Server, error) {
	s, err := cloud.FindServer(t.data)
	if errors.Is(err, fs.ErrNotExist) {
		s, err = cloud.Server{
			Endpoint: "http://" + cloud.DefaultListen, Account: cloud.DefaultAccount, Region: cloud.DefaultRegion, Loopback: true,
		}, nil
	}
	if t.endpoint != "" {
		s.Endpoint = strings.TrimRight(t.endpoint, "/")
	}
	return s, err
}

// ask sends one request to a running cloud and returns the body of a good
// answer.
func ask(ctx context.Context, method, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, err
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, fmt.Errorf("no cloud answers at %s (start one with: skerry up): %w", url, err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(io.LimitReader(a.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if a.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %s", url, a.Status, strings.TrimSpace(string(b)))
	}
	return b, nil
}

// status prints what a running cloud says of itself.
func status(ctx context.Context, args []string, out io.Writer) error {
	var t target
	f := flagSet("status", "ask a running cloud how it is")
	t.flags(f)
	raw := f.Bool("json", false, "print the answer as it came")
	if err := parse(f, args); err != nil {
		return err
	}
	s, err := t.server()
	if err != nil {
		return err
	}
	b, err := ask(ctx, http.MethodGet, s.Endpoint+"/_skerry/status")
	if err != nil {
		return err
	}
	if *raw {
		_, err := out.Write(append(b, '\n'))
		return err
	}
	var st cloud.Status
	if err := json.Unmarshal(b, &st); err != nil {
		return fmt.Errorf("%s is no Skerry: %w", s.Endpoint, err)
	}
	return printStatus(out, st)
}

func printStatus(out io.Writer, st cloud.Status) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "Skerry %s\t%s\n", st.Version, st.Endpoint)
	fmt.Fprintf(w, "account\t%s\nregion\t%s\nup for\t%s\nstate\t%s\n", st.Account, st.Region, time.Duration(st.UptimeSeconds)*time.Second, st.Data)
	if e := st.Engine; e.Runs {
		fmt.Fprintf(w, "containers\t%d\nengine\t%s\n", e.Containers, strings.TrimSpace(e.Driver+" "+e.Version))
	}
	fmt.Fprintf(w, "\nservice\toperations built\n")
	for _, s := range st.Services {
		fmt.Fprintf(w, "%s\t%d of %d\n", s.ID, len(s.Built), s.Operations)
	}
	fmt.Fprintf(w, "\nloop\truns\tlast\treport\n")
	for _, l := range st.Loops {
		report := l.Report
		if l.Error != "" {
			report = "error: " + l.Error
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", l.Name, l.Runs, l.Last, report)
	}
	for _, c := range st.Off {
		fmt.Fprintf(w, "\noff: %s\n     %s\n", c.What, c.Mend)
	}
	return w.Flush()
}

// reset erases all state of a running cloud.
func reset(ctx context.Context, args []string, out io.Writer) error {
	var t target
	f := flagSet("reset", "erase all state of a running cloud (loopback only)")
	t.flags(f)
	if err := parse(f, args); err != nil {
		return err
	}
	s, err := t.server()
	if err != nil {
		return err
	}
	if _, err := ask(ctx, http.MethodPost, s.Endpoint+"/_skerry/reset"); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, "all state of", s.Endpoint, "is erased")
	return err
}
