package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"skerry/internal/engine"
)

// Events tells what happened. Docker forgets its events; what a container's
// state says of its last start and end is told instead, and Docker's stream only
// says when to look.
func (d *Driver) Events(ctx context.Context, after engine.Cursor, fn func(engine.Event) error) error {
	filters := `{"type":["container"],"label":["` + labelID + `"],"event":["start","die"]}`
	a, err := d.send(ctx, request{method: http.MethodGet, path: "/events", query: url.Values{"filters": {filters}}})
	if err != nil {
		return err
	}
	defer a.Body.Close()
	told := map[engine.ID]map[engine.Cursor]bool{}
	tell := func(events []engine.Event) error {
		slices.SortStableFunc(events, func(a, b engine.Event) int { return a.Time.Compare(b.Time) })
		for _, e := range events {
			if e.Cursor <= after || told[e.ID][e.Cursor] {
				continue
			}
			if told[e.ID] == nil {
				told[e.ID] = map[engine.Cursor]bool{}
			}
			told[e.ID][e.Cursor] = true
			if err := fn(e); err != nil {
				return err
			}
		}
		return nil
	}
	all, err := d.all(ctx)
	if err != nil {
		return err
	}
	var past []engine.Event
	for _, c := range all {
		past = append(past, c.events()...)
	}
	if err := tell(past); err != nil {
		return err
	}
	for messages := json.NewDecoder(a.Body); ; {
		var m struct {
			Actor struct{ Attributes map[string]string }
		}
		if err := messages.Decode(&m); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("docker: events: %w", err)
		}
		c, err := d.inspect(ctx, engine.ID(m.Actor.Attributes[labelID]))
		if errors.Is(err, engine.ErrNotFound) {
			continue // removed: nobody is told
		}
		if err != nil {
			return err
		}
		if err := tell(c.events()); err != nil {
			return err
		}
	}
}

// events are what a container's state tells.
func (c *container) events() (out []engine.Event) {
	add := func(at time.Time, kind engine.EventKind, exit *engine.Exit) {
		out = append(out, engine.Event{Cursor: engine.Cursor(at.UnixNano()), Time: at, Kind: kind, ID: c.id(), Labels: c.labels(), Exit: exit})
	}
	if c.State.StartedAt.Year() > 1 {
		add(c.State.StartedAt, engine.EventStarted, nil)
	}
	if c.state() == engine.Exited && c.State.FinishedAt.Year() > 1 {
		e := c.exit()
		add(c.State.FinishedAt, engine.EventExited, &e)
	}
	return out
}
