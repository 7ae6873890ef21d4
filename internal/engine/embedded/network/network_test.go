//go:build linux && amd64

package network

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func pool(t testing.TB) *Pool {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	p := NewPool(fmt.Sprintf("test-%d", os.Getpid()), nil)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func take(t testing.TB, p *Pool, account string, m Mode) *Slot {
	t.Helper()
	s, err := p.Take(account, m)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// dial connects from inside a slot.
func dial(s *Slot, address string) error { return dialFor(s, address, 300*time.Millisecond) }

func dialFor(s *Slot, address string, limit time.Duration) error {
	return In(s.Net, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		tv := unix.NsecToTimeval(limit.Nanoseconds())
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv); err != nil {
			return err
		}
		a, err := net.ResolveTCPAddr("tcp4", address)
		if err != nil {
			return err
		}
		return unix.Connect(fd, &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(a.IP.To4())})
	})
}

// outside makes a stand-in for the world: a namespace behind a veth of the
// machine, with a server that tells who connects.
func outside(t *testing.T) (address string, peers <-chan string) {
	t.Helper()
	ns, err := newNet()
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("skw%d", os.Getpid()%100000)
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns)}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = netlink.LinkDel(veth)
		unix.Close(ns)
	})
	run := func(lines ...func() error) {
		for i, f := range lines {
			if err := f(); err != nil {
				t.Fatalf("step %d: %v", i, err)
			}
		}
	}
	near, _ := netlink.ParseAddr("203.0.113.1/30")
	far, _ := netlink.ParseAddr("203.0.113.2/30")
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	run(func() error { return netlink.AddrAdd(link, near) }, func() error { return netlink.LinkSetUp(link) })
	var l net.Listener
	run(func() error {
		return In(ns, func() error {
			eth, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			run(func() error { return netlink.AddrAdd(eth, far) }, func() error { return netlink.LinkSetUp(eth) })
			l, err = net.Listen("tcp", "203.0.113.2:0")
			return err
		})
	})
	t.Cleanup(func() { _ = l.Close() })
	ch := make(chan string, 8)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			ch <- c.RemoteAddr().(*net.TCPAddr).IP.String()
			_ = c.Close()
		}
	}()
	return l.Addr().String(), ch
}

func TestOutsideAndWalls(t *testing.T) {
	p := pool(t)
	world, peers := outside(t)
	a, b := take(t, p, "one", NAT), take(t, p, "two", NAT)
	defer p.Give(a, false)
	defer p.Give(b, false)
	if err := dialFor(a, world, 10*time.Second); err != nil {
		t.Fatalf("to the outside: %v", err)
	}
	select {
	case peer := <-peers:
		if peer != "203.0.113.1" {
			t.Errorf("the world sees %s, not the machine", peer)
		}
	case <-time.After(5 * time.Second):
		t.Error("the world has seen nobody")
	}

	// the machine's services, at every address that it has
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	addrs, err := addresses()
	if err != nil {
		t.Fatal(err)
	}
	for _, ip := range addrs {
		if err := dial(a, fmt.Sprintf("%s:%d", ip.IP, port)); err == nil {
			t.Errorf("reached the machine at %s", ip.IP)
		}
	}

	// another sandbox, and the router
	var inB net.Listener
	if err := In(b.Net, func() (err error) { inB, err = net.Listen("tcp", "0.0.0.0:0"); return err }); err != nil {
		t.Fatal(err)
	}
	defer inB.Close()
	port = inB.Addr().(*net.TCPAddr).Port
	if err := dial(b, fmt.Sprintf("%s:%d", b.Address(), port)); err != nil {
		t.Errorf("its own address: %v", err)
	}
	if err := dial(a, fmt.Sprintf("%s:%d", b.Address(), port)); err == nil {
		t.Error("reached another sandbox")
	}
	for _, to := range []string{gateway.String(), "169.254.169.254"} {
		if err := dial(a, to+":80"); err == nil || err == unix.ECONNREFUSED {
			t.Errorf("%s: %v", to, err)
		}
	}
}

func TestNone(t *testing.T) {
	p := pool(t)
	s := take(t, p, "one", None)
	defer p.Give(s, true)
	if err := dial(s, "203.0.113.2:80"); err != unix.ENETUNREACH {
		t.Errorf("dial: %v", err)
	}
}

func TestRecycledInOneAccount(t *testing.T) {
	p := pool(t)
	first := take(t, p, "one", NAT)
	p.Give(first, true)
	if other := take(t, p, "two", NAT); other == first {
		t.Error("another account got the slot")
	} else {
		p.Give(other, true)
	}
	if same := take(t, p, "one", NAT); same != first {
		t.Error("the account did not get its slot again")
	}
	p.Give(first, false)
	if fresh := take(t, p, "one", NAT); fresh == first {
		t.Error("a changed slot was used again")
	} else {
		p.Give(fresh, false)
	}
}

func TestIdMap(t *testing.T) {
	p := pool(t)
	a, b := take(t, p, "one", None), take(t, p, "one", None)
	if a.Base == b.Base || a.Base%IDs != 0 {
		t.Errorf("bases %d, %d", a.Base, b.Base)
	}
	uid, err := unix.IoctlGetInt(a.User, unix.NS_GET_OWNER_UID)
	_ = uid
	if err != nil && err != unix.EFAULT {
		t.Errorf("not a user namespace: %v", err)
	}
	p.Give(a, false)
	p.Give(b, false)
}

func TestNothingLeft(t *testing.T) {
	var name string
	count := func() (n int) {
		links, err := dump(netlink.LinkList)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range links {
			if strings.HasPrefix(l.Attrs().Name, LinkName(name)) {
				n++
			}
		}
		return n
	}
	t.Run("use", func(t *testing.T) {
		p := pool(t)
		name = p.name
		for i := range 5 {
			p.Give(take(t, p, fmt.Sprint(i), NAT), i%2 == 0)
		}
		if count() == 0 {
			t.Error("the pool has no interface")
		}
	})
	for deadline := time.Now().Add(time.Minute); count() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("an interface is left")
		}
	}
}

func BenchmarkMake(b *testing.B) {
	for _, m := range []Mode{None, NAT} {
		b.Run(string(m), func(b *testing.B) {
			p := pool(b)
			for range b.N {
				s, err := p.make(kind{mode: m})
				if err != nil {
					b.Fatal(err)
				}
				p.mu.Lock()
				p.end(s)
				p.mu.Unlock()
			}
		})
	}
}
