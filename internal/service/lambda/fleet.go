package lambda

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"skerry/internal/base/ids"
	"skerry/internal/engine"
)

// fleet is the sandboxes that there are. It can be lost at any time: they are then
// started anew.
type fleet struct {
	mu      sync.Mutex
	idle    map[fleetKey][]*sandbox // the last is the one used last
	ahead   map[aheadKey][]*sandbox // interpreters that were started ahead
	wanted  map[aheadKey]time.Time  // when such a one was last of use
	all     map[engine.ID]*sandbox
	running map[functionName]int // invocations
	account map[string]int

	starting int           // sandboxes that initialise
	changed  chan struct{} // closed when one is done, or given back
}

type functionName struct{ Account, Region, Name string }

// aheadKey is what interpreters have in common that can stand in for each other.
// They belong to an account, because namespaces do.
type aheadKey struct{ Account, Runtime string }

func newFleet() *fleet {
	return &fleet{
		idle: map[fleetKey][]*sandbox{}, ahead: map[aheadKey][]*sandbox{}, wanted: map[aheadKey]time.Time{},
		all: map[engine.ID]*sandbox{}, running: map[functionName]int{}, account: map[string]int{},
		changed: make(chan struct{}),
	}
}

// admit counts an invocation, or refuses it because of a concurrency limit.
func (f *fleet) admit(t *target) error {
	name := functionName{t.ref.Account, t.ref.Region, t.ref.Name}
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := t.function.Reserved; r != nil {
		if f.running[name] >= int(*r) {
			return throttled("ReservedFunctionConcurrentInvocationLimitExceeded")
		}
	} else if f.account[t.ref.Account] >= accountConcurrency {
		return throttled("ConcurrentInvocationLimitExceeded")
	}
	f.running[name]++
	f.account[t.ref.Account]++
	return nil
}

// leave is the end of an invocation that was admitted.
func (f *fleet) leave(t *target) {
	name := functionName{t.ref.Account, t.ref.Region, t.ref.Name}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.running[name]--; f.running[name] == 0 {
		delete(f.running, name)
	}
	if f.account[t.ref.Account]--; f.account[t.ref.Account] == 0 {
		delete(f.account, t.ref.Account)
	}
}

// take returns a warm sandbox, if there is one whose key lasts.
func (f *fleet) take(k fleetKey, now time.Time) *sandbox {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := f.idle[k]
	pick := -1
	for i := len(list) - 1; i >= 0; i-- {
		sb := list[i]
		if sb.expires.Sub(now) < keyMargin || isClosed(sb.exited) {
			continue // the idle loop ends it
		}
		if pick < 0 {
			pick = i
		}
		if isClosed(sb.settled) {
			pick = i
			break
		}
	}
	if pick < 0 {
		return nil
	}
	sb := list[pick]
	sb.busy.Store(true)
	f.idle[k] = slices.Delete(list, pick, pick+1)
	return sb
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// give puts a sandbox back after an invocation.
func (f *fleet) give(sb *sandbox, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	sb.used = now
	sb.busy.Store(false)
	f.idle[sb.key] = append(f.idle[sb.key], sb)
	f.tell()
}

func (f *fleet) add(sb *sandbox) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all[sb.id] = sb
}

// drop forgets a sandbox that is about to be removed.
func (f *fleet) drop(sb *sandbox) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.all, sb.id)
	without := func(list []*sandbox) []*sandbox {
		return slices.DeleteFunc(list, func(o *sandbox) bool { return o == sb })
	}
	if list := without(f.idle[sb.key]); len(list) > 0 {
		f.idle[sb.key] = list
	} else {
		delete(f.idle, sb.key)
	}
	k := aheadKey{sb.account, sb.runtime}
	if list := without(f.ahead[k]); len(list) > 0 {
		f.ahead[k] = list
	} else {
		delete(f.ahead, k)
	}
}

// takeAhead returns an interpreter that was started ahead, if there is one, and
// notes that one was wanted.
func (f *fleet) takeAhead(k aheadKey, now time.Time) *sandbox {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wanted[k] = now
	list := f.ahead[k]
	for len(list) > 0 {
		sb := list[len(list)-1]
		list = list[:len(list)-1]
		f.ahead[k] = list
		if !isClosed(sb.exited) {
			sb.busy.Store(true)
			return sb
		}
	}
	return nil
}

// obtain returns a sandbox for an invocation: a warm one, one started ahead that
// now gets its function, or a fresh one. cold tells that it has to initialise, and
// that the caller calls turnOver when it has.
func (s *Service) obtain(ctx context.Context, t *target) (sb *sandbox, cold bool, err error) {
	now := s.Clock.Now()
	k := t.fleetKey()
	for {
		if sb, err = s.warmOrTurn(ctx, k); err != nil {
			return nil, false, err
		}
		if sb == nil {
			break
		}
		<-sb.settled
		if err := s.freeze(ctx, sb, false); err == nil {
			return sb, false, nil
		}
		s.fleet.drop(sb) // it died while frozen: another takes its place
		s.remove(ctx, sb)
	}
	defer func() {
		if err != nil {
			s.fleet.turnOver()
		}
	}()
	key, err := s.roleKey(ctx, t.ref, t.version.Config.Role)
	if err != nil {
		return nil, false, s.roleFault(err)
	}
	i, err := s.interpreter(ctx, t.version.Config.Runtime)
	if err != nil {
		return nil, false, err
	}
	stream := s.logs.stream(t, streamName(now, versionName(t.version.Number), ids.Hex(32)), key)
	sb, err = s.assignAhead(ctx, t, i, stream, key)
	if sb == nil && err == nil {
		sb, err = s.startFresh(ctx, t, i, stream, key)
	}
	if err != nil {
		return nil, false, err
	}
	sb.key, sb.stream, sb.expires = k, stream, key.Expires
	s.fleet.add(sb)
	return sb, true, nil
}

// startFresh makes a sandbox for a function.
func (s *Service) startFresh(ctx context.Context, t *target, i *interpreter, stream *logStream, k key) (*sandbox, error) {
	c := &t.version.Config
	mounts, refs, err := s.codeMounts(ctx, t.version)
	if err != nil {
		return nil, err
	}
	spec := s.spec(i, t.ref.Account, c.Memory, c.Storage)
	spec.Mounts = append(spec.Mounts, mounts...)
	env := s.environment(t, stream.name, k)
	for name, value := range i.env {
		if _, own := c.Environment[name]; !own {
			env[name] = value
		}
	}
	spec.Env = environ(env)
	if spec.Command == nil {
		program := bootstrapOf(mounts)
		if program == "" {
			return nil, errNoEntry
		}
		spec.Command = []string{program}
	}
	if w := c.Environment["AWS_LAMBDA_EXEC_WRAPPER"]; w != "" {
		spec.Command = append([]string{w}, spec.Command...)
	}
	spec.Labels["function"] = t.ref.functionARN()
	sb, err := s.create(ctx, spec)
	if err != nil {
		return nil, err
	}
	sb.runtime, sb.attached = c.Runtime, refs
	sb.busy.Store(true)
	return sb, nil
}

// aheadMemory is the limit in MB of an interpreter that waits for a function.
const aheadMemory = 128

// assignAhead makes an interpreter that was started ahead the function's. It
// returns nil if there is none, or if the function needs one of its own.
func (s *Service) assignAhead(ctx context.Context, t *target, i *interpreter, stream *logStream, k key) (*sandbox, error) {
	c := &t.version.Config
	if i.command == nil || i.image != "" || c.early() || c.Storage != defaultStorage || s.Ahead == 0 {
		return nil, nil
	}
	sb := s.fleet.takeAhead(aheadKey{t.ref.Account, c.Runtime}, s.Clock.Now())
	s.wake(loopAhead)
	if sb == nil {
		return nil, nil
	}
	fail := func(err error) (*sandbox, error) {
		s.Log.Warn("an interpreter that was started ahead cannot be used", "sandbox", sb.id, "err", err)
		s.fleet.drop(sb)
		s.remove(ctx, sb)
		return nil, nil // a fresh one will do
	}
	mounts, refs, err := s.codeMounts(ctx, t.version)
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		if err := s.Engine.Attach(ctx, sb.id, m); err != nil {
			return fail(err)
		}
	}
	if err := s.Engine.Update(ctx, sb.id, limits(c.Memory, true)); err != nil {
		return fail(err)
	}
	env, err := json.Marshal(s.environment(t, stream.name, k))
	if err != nil {
		return nil, err
	}
	if err := s.freeze(ctx, sb, false); err != nil {
		return fail(err)
	}
	sb.attached, sb.started = refs, s.Clock.Now()
	sb.api.Assign(env)
	return sb, nil
}

// startAhead starts an interpreter that waits for a function.
func (s *Service) startAhead(ctx context.Context, k aheadKey) error {
	i, err := s.interpreter(ctx, k.Runtime)
	if err != nil || i.command == nil || i.image != "" {
		return err
	}
	spec := s.spec(i, k.Account, aheadMemory, defaultStorage)
	env := map[string]string{"SKERRY_PRESTART": "1", "AWS_LAMBDA_RUNTIME_API": runtimeAPI, "LANG": "en_US.UTF-8",
		"PATH": "/usr/local/bin:/usr/bin:/bin:/opt/bin", "SSL_CERT_FILE": caBundle, "TZ": ":UTC", "PYTHONPATH": "/var/runtime",
		"LD_LIBRARY_PATH": "/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib"}
	spec.Env = environ(env)
	spec.Dir = "/"
	sb, err := s.create(ctx, spec)
	if err != nil {
		return err
	}
	sb.runtime = k.Runtime
	select {
	case <-sb.api.Waiting():
	case <-sb.exited:
		s.remove(ctx, sb)
		return &startFailure{sb.exit}
	case <-ctx.Done():
		s.remove(context.WithoutCancel(ctx), sb)
		return ctx.Err()
	}
	if err := s.freeze(ctx, sb, true); err != nil {
		s.remove(ctx, sb)
		return err
	}
	s.fleet.mu.Lock()
	defer s.fleet.mu.Unlock()
	s.fleet.all[sb.id] = sb
	s.fleet.ahead[k] = append(s.fleet.ahead[k], sb)
	return nil
}

type startFailure struct{ exit engine.Exit }

func (e *startFailure) Error() string {
	return "lambda: an interpreter ended before it had a function: " + describeExit(e.exit)
}

// forget has the sandboxes of a function ended that have no work: it has changed
// or is gone. Those that have some are not given work again.
func (s *Service) forget(r ref) {
	s.fleet.mu.Lock()
	for k, list := range s.fleet.idle {
		if k.Account == r.Account && k.Region == r.Region && k.Name == r.Name {
			for _, sb := range list {
				sb.used = time.Time{}
			}
		}
	}
	s.fleet.mu.Unlock()
	s.wake(loopFleet)
}
