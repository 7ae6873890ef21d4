package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"skerry/internal/cloud"
)

// environment is the prefix of the variables that stand for flags: --log-format
// is SKERRY_LOG_FORMAT.
const environment = "SKERRY_"

// flagSet makes the flags of a command.
func flagSet(name, about string) *flag.FlagSet {
	f := flag.NewFlagSet("skerry "+name, flag.ContinueOnError)
	f.Usage = func() {
		fmt.Fprintf(f.Output(), "skerry %s: %s\n\n", name, about)
		f.PrintDefaults()
		fmt.Fprintf(f.Output(), "\nEach flag is also a variable: --log-format is %sLOG_FORMAT.\n", environment)
	}
	return f
}

// parse reads the environment and then the arguments, which win. A wrong
// argument has been reported when it returns errUsage.
func parse(f *flag.FlagSet, args []string) error {
	if err := parseEnvironment(f); err != nil {
		return err
	}
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil:
		return errUsage
	case f.NArg() > 0:
		fmt.Fprintf(f.Output(), "skerry: what is %q for?\n", f.Arg(0))
		f.Usage()
		return errUsage
	}
	return nil
}

// parseEnvironment sets the flags that are variables.
func parseEnvironment(f *flag.FlagSet) error {
	var bad error
	f.VisitAll(func(fl *flag.Flag) {
		name := environment + strings.ToUpper(strings.ReplaceAll(fl.Name, "-", "_"))
		v := os.Getenv(name)
		if v == "" || bad != nil {
			return
		}
		if err := fl.Value.Set(v); err != nil {
			bad = fmt.Errorf("%s: %w", name, err)
		}
	})
	return bad
}

// rootKeys is the repeatable flag --root-key; one value may also hold several
// keys with commas between, as a variable must.
type rootKeys []cloud.RootKey

// String implements flag.Value. It never shows a secret.
func (k *rootKeys) String() string {
	if k == nil {
		return ""
	}
	ids := make([]string, len(*k))
	for i, key := range *k {
		ids[i] = key.ID
	}
	return strings.Join(ids, ",")
}

// Set implements flag.Value.
func (k *rootKeys) Set(s string) error {
	for one := range strings.SplitSeq(s, ",") {
		key, err := cloud.ParseRootKey(one)
		if err != nil {
			return err
		}
		*k = append(*k, key)
	}
	return nil
}

// runtimes is the repeatable flag --lambda-runtime, with commas as in rootKeys.
type runtimes map[string]string

// String implements flag.Value.
func (r *runtimes) String() string {
	if r == nil {
		return ""
	}
	var all []string
	for name, path := range *r {
		all = append(all, name+"="+path)
	}
	return strings.Join(all, ",")
}

// Set implements flag.Value.
func (r *runtimes) Set(s string) error {
	for one := range strings.SplitSeq(s, ",") {
		name, path, ok := strings.Cut(one, "=")
		if !ok || name == "" || !strings.HasPrefix(path, "/") {
			return errors.New("an interpreter has the form RUNTIME=/ABSOLUTE/PATH")
		}
		if *r == nil {
			*r = map[string]string{}
		}
		(*r)[name] = path
	}
	return nil
}

// mirrors is the repeatable flag --registry-mirror, with commas as in rootKeys.
type mirrors map[string][]string

// String implements flag.Value.
func (m *mirrors) String() string {
	if m == nil {
		return ""
	}
	var all []string
	for host, urls := range *m {
		for _, u := range urls {
			all = append(all, host+"="+u)
		}
	}
	return strings.Join(all, ",")
}

// Set implements flag.Value.
func (m *mirrors) Set(s string) error {
	for one := range strings.SplitSeq(s, ",") {
		host, u, ok := strings.Cut(one, "=")
		if !ok || host == "" || !strings.HasPrefix(u, "http://") && !strings.HasPrefix(u, "https://") {
			return errors.New("a mirror has the form HOST=https://MIRROR")
		}
		if *m == nil {
			*m = map[string][]string{}
		}
		(*m)[host] = append((*m)[host], u)
	}
	return nil
}
