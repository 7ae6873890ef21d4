//go:build linux && amd64

package network

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"skerry/internal/engine"
)

// Mode is what a slot's network has.
type Mode string

// The modes.
const (
	None  Mode = "none"  // loopback only
	NAT   Mode = "nat"   // an address and the outside
	Named Mode = "named" // an address on a network with others, see Pool.Join
)

// Slot is the namespaces of one sandbox.
type Slot struct {
	User, Net int    // descriptors of the namespaces
	Base      uint32 // the machine's user id that is the container's 0
	kind      kind
	number    int
	account   string
	diversions

	mu    sync.Mutex
	links []*link // none in mode None, unless Relink says otherwise
	made  int     // links made so far
	own   bool    // Relink has changed them: nobody else can have it
}

// kind is what a slot has been made for.
type kind struct {
	mode    Mode
	network string // in mode Named
}

// Pool keeps slots: new ones made ahead, and used ones for their account.
type Pool struct {
	name  string
	local []netip.Addr

	routing sync.Mutex // before mu
	machine *machine   // made at the first need, as are the routers
	router  *Router    // of mode NAT
	named   map[string]*Router
	groups  map[string][]engine.SecurityGroup // by network, there or not

	mu     sync.Mutex
	next   int   // the lowest number never used
	freed  []int // used numbers, longest unused first
	fresh  map[kind][]*Slot
	used   map[key][]*Slot
	idle   []*Slot // used ones, oldest first, for the count
	making map[kind]bool
	closed bool
	held   bool // nothing is made ahead, see Hold
	wait   sync.WaitGroup
}

type key struct {
	account string
	kind    kind
}

// How many slots are kept.
const (
	ahead   = 4   // made ahead, per mode once that mode was asked for
	spare   = 2   // made ahead, per named network
	maxIdle = 128 // used ones, of all accounts
)

// The machine's user ids from which containers' ranges are cut: above what
// people and /etc/subuid use.
const (
	firstID = 1 << 30
	ranges  = 1 << 14
)

// NewPool returns a pool for the engine of that name. Every namespace has the
// local addresses on its loopback.
func NewPool(name string, local []netip.Addr) *Pool {
	return &Pool{name: name, local: local, named: map[string]*Router{}, groups: map[string][]engine.SecurityGroup{},
		fresh: map[kind][]*Slot{}, used: map[key][]*Slot{}, making: map[kind]bool{}}
}

// Take returns a slot of mode None or NAT for that account.
func (p *Pool) Take(account string, mode Mode) (*Slot, error) {
	return p.take(account, kind{mode: mode})
}

func (p *Pool) take(account string, kind kind) (*Slot, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, errors.New("network: the pool is closed")
	}
	k := key{account, kind}
	if list := p.used[k]; len(list) > 0 {
		s := list[len(list)-1]
		p.used[k] = list[:len(list)-1]
		p.forget(s)
		p.mu.Unlock()
		return s, nil
	}
	p.mu.Unlock()
	s, err := p.fetch(kind)
	if err != nil {
		return nil, err
	}
	s.account = account
	return s, nil
}

// fetch returns a slot that nobody has had.
func (p *Pool) fetch(kind kind) (s *Slot, err error) {
	p.mu.Lock()
	if list := p.fresh[kind]; len(list) > 0 {
		s, p.fresh[kind] = list[0], list[1:]
	}
	p.refill(kind)
	p.mu.Unlock()
	if s == nil {
		s, err = p.make(kind)
	}
	return s, err
}

// refill starts making slots ahead; p.mu is held.
func (p *Pool) refill(kind kind) {
	enough := ahead
	if kind.mode == Named {
		enough = spare
	}
	if p.making[kind] || p.closed || p.held || len(p.fresh[kind]) >= enough {
		return
	}
	p.making[kind] = true
	p.wait.Go(func() {
		for {
			s, err := p.make(kind)
			p.routing.Lock()
			p.mu.Lock()
			if err == nil && kind.mode == Named && p.named[kind.network] != s.links[0].router {
				p.end(s) // the network has gone
				err = errGone
			}
			if err == nil {
				p.fresh[kind] = append(p.fresh[kind], s)
			}
			done := err != nil || p.closed || p.held || len(p.fresh[kind]) >= enough
			if done {
				delete(p.making, kind) // after an error the next Take sees it, or tries again
			}
			p.mu.Unlock()
			p.routing.Unlock()
			if done {
				return
			}
		}
	})
}

// make makes a slot.
func (p *Pool) make(kind kind) (*Slot, error) {
	if kind.mode == Named {
		return p.makeNamed(kind)
	}
	n, err := p.number()
	if err != nil {
		return nil, err
	}
	base := firstID + (hash(p.name)+uint32(n))%ranges*IDs // two engines on a machine begin at different places
	s := &Slot{kind: kind, number: n, Base: base}
	if s.User, s.Net, err = newUser(base); err != nil {
		return nil, err
	}
	if err := p.fill(s); err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.end(s)
		return nil, err
	}
	return s, nil
}

// number draws a number for a slot. Used ones come last, as the kernel takes
// its time to remove what bears their name.
func (p *Pool) number() (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.next < ranges:
		n = p.next
		p.next++
	case len(p.freed) > 0:
		n, p.freed = p.freed[0], p.freed[1:]
	default:
		return 0, fmt.Errorf("network: all %d ranges of user ids are in use", ranges)
	}
	return n, nil
}

// end closes a slot for good; p.mu is held.
func (p *Pool) end(s *Slot) {
	unix.Close(s.User)
	unix.Close(s.Net)
	p.freed = append(p.freed, s.number)
}

// fill sets a slot's network up.
func (p *Pool) fill(s *Slot) error {
	h, err := netlink.NewHandleAt(netns.NsHandle(s.Net), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	defer h.Close()
	local := make([]netip.Prefix, len(p.local))
	for i, a := range p.local {
		local[i] = netip.PrefixFrom(a, a.BitLen())
	}
	if _, err := address(h, "lo", local...); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	if s.kind.mode != NAT {
		return nil
	}
	r, err := p.Router()
	if err != nil {
		return err
	}
	l, err := r.wire(s, h, 0)
	if err != nil {
		return err
	}
	l.address = netip.AddrFrom4([4]byte{10, 254, byte((s.number + 1) >> 8), byte(s.number + 1)})
	s.links = []*link{l}
	return l.place(h)
}

// Give returns a slot whose processes have all ended. clean says that nothing
// in its network can have been changed, so that it may serve its account again.
//
// What the router remembers of its connections is left to time out: it is the
// account's own, a new connection takes an old one's place, and to look for it
// the kernel goes through the machine's whole table, 10 ms each time.
func (p *Pool) Give(s *Slot, clean bool) {
	switch {
	case s.own:
		p.leaveAll(s)
	case s.kind.mode == Named:
		p.leave(s, clean)
	default:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.give(s, clean)
	}
}

// give keeps a slot or ends it; p.mu is held.
func (p *Pool) give(s *Slot, clean bool) {
	if !clean || p.closed {
		p.end(s)
		return
	}
	k := key{s.account, s.kind}
	p.used[k] = append(p.used[k], s)
	p.idle = append(p.idle, s)
	if len(p.idle) > maxIdle {
		p.unuse(p.idle[0])
	}
}

// unuse ends a slot that was kept; p.mu is held.
func (p *Pool) unuse(old *Slot) {
	p.forget(old)
	k := key{old.account, old.kind}
	for i, u := range p.used[k] {
		if u == old {
			p.used[k] = append(p.used[k][:i:i], p.used[k][i+1:]...)
			break
		}
	}
	if len(p.used[k]) == 0 {
		delete(p.used, k)
	}
	p.end(old)
}

// forget takes a slot off the idle list; p.mu is held.
func (p *Pool) forget(s *Slot) {
	for i, u := range p.idle {
		if u == s {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			return
		}
	}
}

// Router returns the router of mode NAT, which it makes at the first call that
// succeeds.
func (p *Pool) Router() (*Router, error) {
	p.routing.Lock()
	defer p.routing.Unlock()
	if p.router == nil {
		m, err := p.outside()
		if err != nil {
			return nil, err
		}
		if p.router, err = newRouter(m, true, false); err != nil {
			return nil, err
		}
	}
	return p.router, nil
}

// outside returns what the engine has on the machine; p.routing is held.
func (p *Pool) outside() (m *machine, err error) {
	if p.machine == nil {
		p.machine, err = newMachine(p.name)
	}
	return p.machine, err
}

// Close gives all up. Slots still taken are closed by the end of the process.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.wait.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, list := range p.fresh {
		for _, s := range list {
			p.end(s)
		}
	}
	for _, s := range p.idle {
		p.end(s)
	}
	p.fresh, p.used, p.idle = map[kind][]*Slot{}, map[key][]*Slot{}, nil
	p.routing.Lock()
	defer p.routing.Unlock()
	for _, r := range p.named {
		r.close()
	}
	if p.router != nil {
		p.router.close()
	}
	if p.machine != nil {
		p.machine.close()
	}
	return nil
}
