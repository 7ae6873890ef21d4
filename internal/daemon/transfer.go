package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/registry"

	"skerry/internal/engine"
)

// progressLine is one line of a stream of progress.
type progressLine struct {
	Stream   string          `json:"stream,omitempty"`
	Status   string          `json:"status,omitempty"`
	Detail   *progressDetail `json:"progressDetail,omitempty"`
	Progress string          `json:"progress,omitempty"`
	ID       string          `json:"id,omitempty"`
	Error    string          `json:"error,omitempty"`
	Fault    *progressFault  `json:"errorDetail,omitempty"`
	Aux      any             `json:"aux,omitempty"`
}

type progressDetail struct {
	Current int64 `json:"current,omitempty"`
	Total   int64 `json:"total,omitempty"`
}

type progressFault struct {
	Code    int    `json:"code,omitempty"`
	Message string `json:"message"`
}

// progress writes lines as they come, from several goroutines. The head is sent
// with the first line, so that what fails before it has a status.
type progress struct {
	c  *call
	mu sync.Mutex
	w  io.Writer
}

func (p *progress) line(l progressLine) {
	text, err := json.Marshal(l)
	if err != nil {
		return // strings and numbers alone
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w == nil {
		p.w = p.c.stream("application/json")
	}
	_, _ = p.w.Write(append(text, '\r', '\n')) // the client may be gone; its context ends the work
}

func (p *progress) status(format string, args ...any) {
	p.line(progressLine{Status: fmt.Sprintf(format, args...)})
}

// report is given to the engine.
func (p *progress) report(e engine.Progress) {
	l := progressLine{Status: e.Status, ID: e.Layer, Detail: &progressDetail{Current: e.Current, Total: e.Total}}
	if e.Total > 0 {
		l.Progress = bar(e.Current, e.Total)
	}
	p.line(l)
}

// bar draws how far something is.
func bar(current, total int64) string {
	const width = 50
	n := int(min(current, total) * width / total)
	head := ">"
	if n == width {
		n, head = width-1, ">"
	}
	return fmt.Sprintf("[%s%s%s]  %s/%s", strings.Repeat("=", n), head, strings.Repeat(" ", width-1-n), units.HumanSize(float64(current)), units.HumanSize(float64(total)))
}

// end writes what went wrong, as a status where nothing was written yet.
func (p *progress) end(err error) error {
	p.mu.Lock()
	begun := p.w != nil
	p.mu.Unlock()
	if err == nil || !begun {
		return err
	}
	code, text := status(err)
	p.line(progressLine{Error: text, Fault: &progressFault{Code: code, Message: text}})
	return nil
}

// credentials reads the header X-Registry-Auth.
func (c *call) credentials() (engine.Auth, error) {
	a, err := authconfig.Decode(c.Header.Get(registry.AuthHeader))
	if err != nil || a == nil {
		return engine.Auth{}, nil // as Docker: a header that cannot be read is none
	}
	return engine.Auth{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}, nil
}

// pullImage answers POST /images/create.
func (d *Daemon) pullImage(c *call) error {
	if c.query.Get("fromSrc") != "" {
		return d.importImage(c)
	}
	name, tag := c.query.Get("fromImage"), c.query.Get("tag")
	switch {
	case name == "":
		return badRequest("fromImage is missing")
	case strings.HasPrefix(tag, "sha256:"):
		name += "@" + tag
	case tag != "":
		name += ":" + tag
	case c.minor >= 24 && withTag(name) != name:
		name = withTag(name)
	}
	auth, err := c.credentials()
	if err != nil {
		return err
	}
	platform, err := parsePlatform(c.query.Get("platform"))
	if err != nil {
		return err
	}
	p := &progress{c: c}
	_, err = d.engine.Images().Pull(c.Context(), name, engine.PullOptions{Auth: auth, Platform: platform, Progress: p.report})
	if err != nil {
		return p.end(pullFault(err))
	}
	d.tellThing(events.ImageEventType, events.ActionPull, name, map[string]string{"name": name})
	return nil
}

// pullFault is the fault of an image that the registry does not have.
func pullFault(err error) error {
	if errors.Is(err, engine.ErrNotFound) {
		return notFound("%v", err) // in Docker's words already
	}
	return err
}

// pushImage answers POST /images/{name}/push.
func (d *Daemon) pushImage(c *call) error {
	auth, err := c.credentials()
	if err != nil {
		return err
	}
	names, err := d.toPush(c.Context(), c.vars["name"], c.query.Get("tag"))
	if err != nil {
		return err
	}
	p := &progress{c: c}
	p.status("The push refers to repository [%s]", c.vars["name"])
	for _, n := range names {
		digest, err := d.engine.Images().Push(c.Context(), n, engine.PushOptions{Auth: auth, Progress: p.report})
		if err != nil {
			return p.end(err)
		}
		label := n[strings.LastIndex(n, ":")+1:]
		p.line(progressLine{Aux: map[string]any{"Tag": label, "Digest": digest}})
		d.tellThing(events.ImageEventType, events.ActionPush, n, map[string]string{"name": n})
	}
	return nil
}

// toPush are the names to push: the one of a tag, or without one all of the
// repository.
func (d *Daemon) toPush(ctx context.Context, repository, tag string) (names []string, err error) {
	if tag != "" {
		name := repository + ":" + tag
		_, err = d.engine.Images().Get(ctx, name)
		names = []string{name}
	} else {
		var all []engine.Image
		all, err = d.engine.Images().List(ctx)
		for _, i := range all {
			for _, n := range i.Names {
				if tag, ok := strings.CutPrefix(n, repository+":"); ok && !strings.Contains(tag, "/") {
					names = append(names, n)
				}
			}
		}
	}
	if errors.Is(err, engine.ErrNotFound) || err == nil && len(names) == 0 {
		err = notFound("An image does not exist locally with the tag: %s", repository)
	}
	return names, err
}

// loadImages answers POST /images/load.
func (d *Daemon) loadImages(c *call) error {
	// it answers while it reads: otherwise the first line would end the body
	_ = http.NewResponseController(c.w).EnableFullDuplex()
	p := &progress{c: c}
	report := p.report
	if c.flag("quiet") {
		report = func(engine.Progress) {}
	}
	all, err := d.engine.Images().Load(c.Context(), c.Body, report)
	if err != nil {
		return p.end(archiveFault(err))
	}
	for _, i := range all {
		for _, n := range i.Names {
			p.line(progressLine{Stream: "Loaded image: " + n + "\n"})
		}
		if len(i.Names) == 0 {
			p.line(progressLine{Stream: "Loaded image ID: " + i.ID + "\n"})
		}
		d.tellThing(events.ImageEventType, events.ActionLoad, i.ID, map[string]string{"name": i.ID})
	}
	if len(all) == 0 {
		return badRequest("the archive has no image")
	}
	return nil
}

// saveImages answers GET /images/get and /images/{name}/get.
func (d *Daemon) saveImages(c *call) error {
	names := c.query["names"]
	if n := c.vars["name"]; n != "" {
		names = []string{n}
	}
	if len(names) == 0 {
		return badRequest("no image is named")
	}
	if c.query.Get("platform") != "" {
		return unsupported("docker save --platform")
	}
	for _, n := range names {
		if _, err := d.getImage(c.Context(), n); err != nil {
			return err
		}
	}
	c.w.Header().Set("Content-Type", "application/x-tar")
	if err := d.engine.Images().Save(c.Context(), names, c.w); err != nil {
		return cut(c, err)
	}
	return nil
}

// cut ends an answer that has begun in such a way that the client sees that it
// is not whole.
func cut(c *call, err error) error {
	if t, ok := c.w.(*tracker); ok && t.begun && !errors.Is(err, context.Canceled) {
		panic(http.ErrAbortHandler)
	}
	return err
}
