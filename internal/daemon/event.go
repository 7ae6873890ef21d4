package daemon

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/events"

	"skerry/internal/base/clock"
	"skerry/internal/store"
)

// Bounds of what is kept of events, which are told and forgotten.
const (
	keptEvents  = 256    // for --since, as many as Docker keeps
	keptBehind  = 10_000 // for one slow reader, which then is dropped
	scopeOfHere = "local"
)

// happening is an event as it goes to those who wait for it.
type happening struct {
	events.Message
	code  int  // of a die: the exit code
	final bool // of a die: the container is not started again
}

// bus hands events to all who listen.
type bus struct {
	clock  clock.Clock
	mu     sync.Mutex
	recent []happening
	subs   map[*subscription]struct{}
	closed bool
}

// subscription is one listener's queue.
type subscription struct {
	bus   *bus
	queue []happening
	more  chan struct{} // has room for one
	lost  bool          // it was too slow, or the bus is closed
}

// publish tells an event.
func (b *bus) publish(h happening) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock.Now()
	h.Time, h.TimeNano, h.Scope = now.Unix(), now.UnixNano(), scopeOfHere
	if b.recent = append(b.recent, h); len(b.recent) > keptEvents {
		b.recent = b.recent[1:]
	}
	for s := range b.subs {
		if s.queue = append(s.queue, h); len(s.queue) > keptBehind {
			s.lost = true
			delete(b.subs, s)
		}
		s.wake()
	}
}

func (s *subscription) wake() {
	select {
	case s.more <- struct{}{}:
	default:
	}
}

// subscribe begins to listen, with what is still known since a time.
func (b *bus) subscribe(since time.Time) *subscription {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := &subscription{bus: b, more: make(chan struct{}, 1), lost: b.closed}
	if !since.IsZero() {
		for _, h := range b.recent {
			if h.TimeNano >= since.UnixNano() {
				s.queue = append(s.queue, h)
			}
		}
	}
	if b.subs == nil {
		b.subs = map[*subscription]struct{}{}
	}
	b.subs[s] = struct{}{}
	s.wake()
	return s
}

// end stops listening.
func (s *subscription) end() {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	delete(s.bus.subs, s)
}

// take returns what has come without waiting.
func (s *subscription) take() (all []happening, lost bool) {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	all, s.queue = s.queue, nil
	return all, s.lost
}

// next waits for events. Errors: the context's; a fault when the server stops.
func (s *subscription) next(ctx context.Context) ([]happening, error) {
	for {
		all, lost := s.take()
		if len(all) > 0 {
			return all, nil
		}
		if lost {
			return nil, &fault{500, "the server stops"}
		}
		select {
		case <-s.more:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// close lets all listeners go.
func (b *bus) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for s := range b.subs {
		s.lost = true
		s.wake()
	}
}

// tell publishes an event of a container.
func (d *Daemon) tell(row *containerRow, action events.Action, more map[string]string) {
	d.bus.publish(happening{Message: containerMessage(row, action, more)})
}

func containerMessage(row *containerRow, action events.Action, more map[string]string) events.Message {
	attributes := map[string]string{}
	if c, _, err := row.config(); err == nil {
		maps.Copy(attributes, c.Labels)
		attributes["image"] = c.Image
	}
	attributes["name"] = row.Name
	maps.Copy(attributes, more)
	return events.Message{Type: events.ContainerEventType, Action: action, Actor: events.Actor{ID: row.ID, Attributes: attributes}}
}

// tellExit publishes the end of a run. final says that the container is not
// started again by its policy.
func (d *Daemon) tellExit(row *containerRow, final bool) {
	if row.OOM {
		d.tell(row, events.ActionOOM, nil)
	}
	took := strconv.Itoa(int(row.Finished.Sub(row.Started).Seconds()))
	m := containerMessage(row, events.ActionDie, map[string]string{"exitCode": strconv.Itoa(row.ExitCode), "execDuration": took})
	d.bus.publish(happening{Message: m, code: row.ExitCode, final: final})
	d.tellNets(row, events.ActionDisconnect)
}

// tellThing publishes an event of something else than a container.
func (d *Daemon) tellThing(kind events.Type, action events.Action, id string, attributes map[string]string) {
	if attributes == nil {
		attributes = map[string]string{}
	}
	d.bus.publish(happening{Message: events.Message{Type: kind, Action: action, Actor: events.Actor{ID: id, Attributes: attributes}}})
}

// message is an event with the fields of older clients.
type message struct {
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"`
	events.Message
}

// events streams what happens.
func (d *Daemon) events(c *call) error {
	f, err := c.filters("container", "daemon", "event", "image", "label", "network", "scope", "type", "volume")
	if err != nil {
		return err
	}
	now := d.clock.Now()
	var since time.Time
	if text := c.query.Get("since"); text != "" {
		if since, err = moment(text, now); err != nil {
			return err
		}
	}
	ctx := c.Context()
	if text := c.query.Get("until"); text != "" {
		until, err := moment(text, now)
		if err != nil {
			return err
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, until.Sub(now))
		defer cancel()
	}
	sub := d.bus.subscribe(since)
	defer sub.end()
	out := json.NewEncoder(c.stream("application/json"))
	for {
		all, err := sub.next(ctx)
		if err != nil {
			if all, _ = sub.take(); len(all) == 0 {
				return nil // the end of the stream
			}
		}
		for _, h := range all {
			if !f.event(&h.Message) {
				continue
			}
			m := message{Message: h.Message}
			switch h.Type {
			case events.ContainerEventType:
				m.Status, m.ID, m.From = string(h.Action), h.Actor.ID, h.Actor.Attributes["image"]
			case events.ImageEventType:
				m.Status, m.ID = string(h.Action), h.Actor.ID
			}
			if err := out.Encode(m); err != nil {
				return nil // the client is gone
			}
		}
	}
}

// event tells whether the filters let an event through.
func (f filters) event(m *events.Message) bool {
	is := func(word string, kind events.Type) bool {
		return f.any(word, func(v string) bool { // the beginning will do, as with Docker
			return m.Type == kind && (strings.HasPrefix(m.Actor.ID, v) || strings.HasPrefix(m.Actor.Attributes["name"], v))
		})
	}
	images := []string{m.Actor.ID, m.Actor.Attributes["image"]} // of a container, the one that it was made of
	if m.Type == events.ImageEventType {
		images[1] = m.Actor.Attributes["name"]
	}
	return f.any("type", func(v string) bool { return string(m.Type) == v }) &&
		f.any("event", func(v string) bool {
			return string(m.Action) == v || len(m.Action) > len(v) && string(m.Action[:len(v)+1]) == v+":"
		}) &&
		f.any("scope", func(v string) bool { return m.Scope == v }) &&
		is("container", events.ContainerEventType) && f.any("image", func(v string) bool {
		return slices.ContainsFunc(images, func(i string) bool { return i == v || withoutTag(i) == v })
	}) &&
		is("network", events.NetworkEventType) && is("volume", events.VolumeEventType) && is("daemon", events.DaemonEventType) &&
		f.labels(m.Actor.Attributes)
}

// withoutTag is an image's name without its tag.
func withoutTag(name string) string {
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[:i]
	}
	return name
}

// exists tells whether there is still such a container.
func (d *Daemon) exists(ctx context.Context, id string) (ok bool, err error) {
	err = d.db.View(ctx, func(tx *store.Tx) error { ok, err = containers.Has(tx, store.K(id)); return err })
	return ok, err
}
