//go:build linux && amd64

package embedded

import (
	"context"
	"flag"
	"os"
	"slices"
	"testing"
	"time"

	"skerry/internal/engine/enginetest"
)

func TestMain(m *testing.M) {
	Main(buildBehaviour())
	if len(os.Args) > 2 && os.Args[1] == "probe" {
		os.Exit(probe(os.Args[2:]))
	}
	if len(os.Args) > 2 && os.Args[1] == "main" {
		os.Exit(fakeMain(os.Args[2]))
	}
	if len(os.Args) > 2 && os.Args[1] == "typist" {
		os.Exit(fakeTypist(os.Args[2]))
	}
	// Tests mostly wait for processes, which cost no time of this one's. Those that
	// measure, or count what the machine has, are not parallel and come first.
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	code := m.Run()
	removeBuilds()
	os.Exit(code)
}

// open starts an engine and ends it with the test, whole.
func open(t testing.TB, change ...func(*Config)) *Driver {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir, err := os.MkdirTemp("", "skerry-engine-")
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Data: dir, Linger: time.Minute}
	for _, c := range change {
		c(&cfg)
	}
	d, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := d.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if b, _ := os.ReadFile(dir + "/supervisor.log"); len(b) > 0 {
			t.Errorf("the supervisor's log:\n%s", b)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestContract(t *testing.T) {
	t.Parallel()
	enginetest.Run(t, open(t))
}

// The other version of control groups, with what of it this machine has.
func TestContractV2(t *testing.T) {
	t.Parallel()
	if v := versions(t); !slices.Contains(v, 2) || len(v) == 1 {
		t.Skipf("not beside version 1 here, but %d", v)
	}
	enginetest.Run(t, open(t, func(c *Config) { c.Cgroups = 2 }))
}
