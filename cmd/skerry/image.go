package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"skerry/internal/cloud"
	"skerry/internal/engine"
	"skerry/internal/engine/image"
)

// imageCommands are the words behind skerry image.
func imageCommands() []command {
	return []command{
		{"load", "take in an archive (docker save, or an OCI layout): load FILE, or - for standard input", imageLoad},
		{"pull", "fetch an image from its registry: pull NAME", imagePull},
		{"push", "send an image to the registry that its name says: push NAME", imagePush},
		{"tag", "give an image one more name: tag IMAGE NAME", imageTag},
		{"list", "list the images", imageList},
		{"save", "write images as an archive to a file, or - for standard output: save -o FILE IMAGE ...", imageSave},
		{"remove", "take names away, and with the last one the image: remove IMAGE ...", imageRemove},
	}
}

// images works on the images of a running cloud.
func images(ctx context.Context, args []string, out io.Writer) error {
	if len(args) > 0 {
		for _, c := range imageCommands() {
			if c.name == args[0] {
				return c.run(ctx, args[1:], out)
			}
		}
	}
	fmt.Fprint(out, "Usage: skerry image COMMAND [flags] ...\n\n")
	for _, c := range imageCommands() {
		fmt.Fprintf(out, "  %-7s %s\n", c.name, c.does)
	}
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		return nil
	}
	return errUsage
}

// imageCall is one of the commands under way.
type imageCall struct {
	target
	f    *flag.FlagSet
	args []string
}

// parse reads the flags of a command that takes so many arguments; most is -1 for
// any number.
func (c *imageCall) parse(name, about string, args []string, least, most int, more func(f *flag.FlagSet)) error {
	c.f = flagSet("image "+name, about)
	c.target.flags(c.f)
	if more != nil {
		more(c.f)
	}
	if err := parseEnvironment(c.f); err != nil {
		return err
	}
	var rest []string
	for { // flags may stand behind the arguments, as with docker
		switch err := c.f.Parse(args); {
		case errors.Is(err, flag.ErrHelp):
			return err
		case err != nil:
			return errUsage
		}
		if c.f.NArg() == 0 {
			break
		}
		rest, args = append(rest, c.f.Arg(0)), c.f.Args()[1:]
	}
	if c.args = rest; len(rest) < least || most >= 0 && len(rest) > most {
		fmt.Fprintf(c.f.Output(), "skerry image %s takes other arguments\n", name)
		c.f.Usage()
		return errUsage
	}
	return nil
}

// do sends a request, and returns a good answer.
func (c *imageCall) do(ctx context.Context, method, path string, q url.Values, body io.Reader, auth engine.Auth) (*http.Response, error) {
	s, err := c.server()
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, method, s.Endpoint+"/_skerry/images"+path+"?"+q.Encode(), body)
	if err != nil {
		return nil, err
	}
	if auth != (engine.Auth{}) {
		text, err := json.Marshal(auth)
		if err != nil {
			return nil, err
		}
		r.Header.Set(cloud.ImageAuth, base64.StdEncoding.EncodeToString(text))
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, fmt.Errorf("no cloud answers at %s (start one with: skerry up): %w", s.Endpoint, err)
	}
	if a.StatusCode == http.StatusOK {
		return a, nil
	}
	defer a.Body.Close()
	text, err := io.ReadAll(io.LimitReader(a.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	var told cloud.ImageLine
	if json.Unmarshal(text, &told) == nil && told.Error != "" {
		return nil, errors.New(told.Error)
	}
	return nil, fmt.Errorf("%s: %s", a.Status, strings.TrimSpace(string(text)))
}

// lines reads an answer line by line, shows its progress and returns its end.
func (c *imageCall) lines(a *http.Response, out io.Writer) (last cloud.ImageLine, err error) {
	defer a.Body.Close()
	shown := map[string]string{}
	for d := json.NewDecoder(a.Body); ; {
		var l cloud.ImageLine
		if err := d.Decode(&l); errors.Is(err, io.EOF) {
			return last, io.ErrUnexpectedEOF
		} else if err != nil {
			return last, err
		}
		switch {
		case l.Error != "":
			return l, errors.New(l.Error)
		case l.Progress == nil:
			return l, nil
		case l.Progress.Layer == "":
			fmt.Fprintln(out, l.Progress.Status)
		case shown[l.Progress.Layer] != l.Progress.Status:
			shown[l.Progress.Layer] = l.Progress.Status
			text := l.Progress.Layer + ": " + l.Progress.Status
			if l.Progress.Total > 0 {
				text += " " + size(l.Progress.Total)
			}
			fmt.Fprintln(out, text)
		}
	}
}

// size shows bytes as docker does, in powers of ten.
func size(n int64) string {
	f, unit := float64(n), "B"
	for _, next := range []string{"kB", "MB", "GB", "TB"} {
		if f < 1000 {
			break
		}
		f, unit = f/1000, next
	}
	return fmt.Sprintf("%.3g%s", f, unit)
}

func imageLoad(ctx context.Context, args []string, out io.Writer) error {
	var c imageCall
	if err := c.parse("load", "take in an archive", args, 1, 1, nil); err != nil {
		return err
	}
	in := os.Stdin
	if c.args[0] != "-" {
		f, err := os.Open(c.args[0])
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	a, err := c.do(ctx, http.MethodPost, "/load", nil, in, engine.Auth{})
	if err != nil {
		return err
	}
	last, err := c.lines(a, out)
	for _, i := range last.Images {
		if len(i.Names) == 0 {
			fmt.Fprintln(out, "Loaded image ID:", i.ID)
		}
		for _, n := range i.Names {
			fmt.Fprintln(out, "Loaded image:", n)
		}
	}
	return err
}

// login is how to sign in at the registry of an image: by the flags, else by what
// `docker login` has kept for it in ~/.docker/config.json.
type login struct {
	user  string
	stdin bool
}

func (l *login) flags(f *flag.FlagSet) {
	f.StringVar(&l.user, "username", "", "`NAME` at the registry (default: what docker login has kept)")
	f.BoolVar(&l.stdin, "password-stdin", false, "read the password from standard input")
}

func (l *login) auth(name string) (a engine.Auth, err error) {
	n, err := image.ParseName(name)
	if err != nil {
		return a, err
	}
	if l.user != "" || l.stdin {
		if !l.stdin {
			return a, errors.New("the password comes by --password-stdin")
		}
		b, err := io.ReadAll(io.LimitReader(os.Stdin, 1<<20))
		return engine.Auth{Username: l.user, Password: strings.TrimRight(string(b), "\r\n")}, err
	}
	return kept(n.Host), nil
}

// kept returns the credentials of a registry that docker has in its file. What
// helper programs keep is theirs.
func kept(host string) (a engine.Auth) {
	dir := os.Getenv("DOCKER_CONFIG")
	if home, err := os.UserHomeDir(); dir == "" && err == nil {
		dir = filepath.Join(home, ".docker")
	}
	var file struct {
		Auths map[string]struct {
			Auth          string `json:"auth"`
			IdentityToken string `json:"identitytoken"`
		} `json:"auths"`
	}
	b, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil || json.Unmarshal(b, &file) != nil {
		return a
	}
	if host == "docker.io" {
		host = "https://index.docker.io/v1/"
	}
	one := file.Auths[host]
	if text, err := base64.StdEncoding.DecodeString(one.Auth); err == nil {
		a.Username, a.Password, _ = strings.Cut(string(text), ":")
	}
	a.IdentityToken = one.IdentityToken
	return a
}

func imagePull(ctx context.Context, args []string, out io.Writer) error {
	var c imageCall
	var l login
	var platform string
	err := c.parse("pull", "fetch an image from its registry", args, 1, 1, func(f *flag.FlagSet) {
		l.flags(f)
		f.StringVar(&platform, "platform", "", "`OS/ARCH[/VARIANT]` in place of the machine's")
	})
	if err != nil {
		return err
	}
	auth, err := l.auth(c.args[0])
	if err != nil {
		return err
	}
	a, err := c.do(ctx, http.MethodPost, "/pull", url.Values{"name": c.args, "platform": {platform}}, nil, auth)
	if err != nil {
		return err
	}
	_, err = c.lines(a, out)
	return err
}

func imagePush(ctx context.Context, args []string, out io.Writer) error {
	var c imageCall
	var l login
	if err := c.parse("push", "send an image to the registry that its name says", args, 1, 1, l.flags); err != nil {
		return err
	}
	auth, err := l.auth(c.args[0])
	if err != nil {
		return err
	}
	a, err := c.do(ctx, http.MethodPost, "/push", url.Values{"name": c.args}, nil, auth)
	if err != nil {
		return err
	}
	_, err = c.lines(a, out)
	return err
}

func imageTag(ctx context.Context, args []string, _ io.Writer) error {
	var c imageCall
	if err := c.parse("tag", "give an image one more name", args, 2, 2, nil); err != nil {
		return err
	}
	a, err := c.do(ctx, http.MethodPost, "/tag", url.Values{"name": c.args[:1], "as": c.args[1:]}, nil, engine.Auth{})
	if err != nil {
		return err
	}
	return a.Body.Close()
}

func imageList(ctx context.Context, args []string, out io.Writer) error {
	var c imageCall
	var raw bool
	err := c.parse("list", "list the images", args, 0, 0, func(f *flag.FlagSet) { f.BoolVar(&raw, "json", false, "print the answer as it came") })
	if err != nil {
		return err
	}
	a, err := c.do(ctx, http.MethodGet, "", nil, nil, engine.Auth{})
	if err != nil {
		return err
	}
	defer a.Body.Close()
	if raw {
		_, err := io.Copy(out, a.Body)
		return err
	}
	var l cloud.ImageLine
	if err := json.NewDecoder(a.Body).Decode(&l); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tID\tCREATED\tSIZE")
	for _, i := range l.Images {
		names := i.Names
		if len(names) == 0 {
			names = []string{"<none>"}
		}
		for _, n := range names {
			fmt.Fprintf(w, "%s\t%.12s\t%s\t%s\n", n, strings.TrimPrefix(i.ID, "sha256:"), i.Created.Local().Format(time.DateTime), size(i.Size))
		}
	}
	return w.Flush()
}

func imageSave(ctx context.Context, args []string, out io.Writer) error {
	var c imageCall
	var file string
	err := c.parse("save", "write images as an archive", args, 1, -1, func(f *flag.FlagSet) { f.StringVar(&file, "o", "", "`FILE` to write, or - for standard output") })
	if err != nil {
		return err
	}
	if file == "" {
		return errors.New("name a file with -o, or - for standard output")
	}
	a, err := c.do(ctx, http.MethodGet, "/save", url.Values{"name": c.args}, nil, engine.Auth{})
	if err != nil {
		return err
	}
	defer a.Body.Close()
	if file == "-" {
		_, err := io.Copy(out, a.Body)
		return err
	}
	part := file + ".part"
	f, err := os.Create(part)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, a.Body)
	if err = errors.Join(err, f.Close()); err == nil {
		return os.Rename(part, file)
	}
	return errors.Join(err, os.Remove(part))
}

func imageRemove(ctx context.Context, args []string, out io.Writer) error {
	var c imageCall
	var force bool
	err := c.parse("remove", "take names away, and with the last one the image", args, 1, -1, func(f *flag.FlagSet) {
		f.BoolVar(&force, "force", false, "also an image with several names or containers")
	})
	if err != nil {
		return err
	}
	for _, name := range c.args {
		q := url.Values{"name": {name}}
		if force {
			q.Set("force", "true")
		}
		a, err := c.do(ctx, http.MethodDelete, "", q, nil, engine.Auth{})
		if err != nil {
			return err
		}
		var l cloud.ImageLine
		err = json.NewDecoder(a.Body).Decode(&l)
		if err := errors.Join(err, a.Body.Close()); err != nil {
			return err
		}
		for _, n := range l.Removed.Names {
			fmt.Fprintln(out, "Untagged:", n)
		}
		for _, id := range l.Removed.Images {
			fmt.Fprintln(out, "Deleted:", id)
		}
	}
	return nil
}
