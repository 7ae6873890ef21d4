package storetest

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"skerry/internal/store/kv"
)

// RunDriver tests that a driver's transactions are serialisable: random ones, a
// few of them open at the same time, step by step from a seed. When one commits,
// everything it has read must read the same in a map to which the committed ones
// were applied in the order of their commits.
func RunDriver(t *testing.T, open func(t *testing.T) kv.Driver) {
	d := open(t)
	for seed := range uint64(40) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			if err := d.Clear(t.Context()); err != nil {
				t.Fatal(err)
			}
			m := &model{T: t, driver: d, rand: rand.New(rand.NewPCG(seed, 1)), state: map[string]string{}}
			for range 300 {
				m.step()
			}
			for _, x := range m.open {
				m.check(x.txn.Close())
			}
			m.compareView()
			if m.commits < 8 || m.conflicts < 2 {
				t.Errorf("only %d commits and %d conflicts", m.commits, m.conflicts)
			}
		})
	}
}

type model struct {
	*testing.T
	driver             kv.Driver
	rand               *rand.Rand
	state              map[string]string
	open               []*transaction
	commits, conflicts int
}

// transaction is an open transaction, with what it has read and will write.
type transaction struct {
	txn    kv.Txn
	reads  []read
	writes map[string]string // empty: deleted
}

// read is a scan and its result; a get is a scan of one key.
type read struct {
	lo, hi  string
	reverse bool
	limit   int
	result  string
}

func (m *model) check(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

func (m *model) key() string { return fmt.Sprint("k", m.rand.IntN(12)) }

func (m *model) step() {
	if len(m.open) == 0 || len(m.open) < 4 && m.rand.IntN(5) == 0 {
		txn, err := m.driver.Begin(m.Context())
		m.check(err)
		m.open = append(m.open, &transaction{txn: txn, writes: map[string]string{}})
		return
	}
	i := m.rand.IntN(len(m.open))
	x := m.open[i]
	switch m.rand.IntN(8) {
	case 0, 1:
		k := m.key()
		v, ok, err := x.txn.Get([]byte(k))
		m.check(err)
		r := read{lo: k, hi: k + "\x00", limit: 1}
		if ok {
			r.result = k + "=" + string(v) + " "
		}
		x.reads = append(x.reads, r)
	case 2:
		x.reads = append(x.reads, m.scan(x))
	case 3, 4, 5:
		x.writes[m.key()] = fmt.Sprint(m.rand.IntN(1000))
	case 6:
		x.writes[m.key()] = ""
	case 7:
		m.open = slices.Delete(m.open, i, i+1)
		m.commit(x)
	}
}

func (m *model) scan(x *transaction) read {
	a, b := m.key(), m.key()
	r := read{lo: min(a, b), hi: max(a, b), reverse: m.rand.IntN(2) == 0, limit: 1 + m.rand.IntN(5)}
	n := 0
	m.check(x.txn.Scan([]byte(r.lo), []byte(r.hi), r.reverse, func(k, v []byte) bool {
		r.result += string(k) + "=" + string(v) + " "
		n++
		return n < r.limit
	}))
	return r
}

// expected is the result of a read in the map.
func (m *model) expected(r read) string {
	keys := slices.Sorted(maps.Keys(m.state))
	if r.reverse {
		slices.Reverse(keys)
	}
	out, n := "", 0
	for _, k := range keys {
		if k >= r.lo && k < r.hi && n < r.limit {
			out += k + "=" + m.state[k] + " "
			n++
		}
	}
	return out
}

func (m *model) commit(x *transaction) {
	var writes []kv.Write
	for _, k := range slices.Sorted(maps.Keys(x.writes)) {
		writes = append(writes, kv.Write{Key: []byte(k), Value: []byte(x.writes[k]), Delete: x.writes[k] == ""})
	}
	err := x.txn.Commit(m.Context(), writes)
	m.check(x.txn.Close())
	if errors.Is(err, kv.ErrConflict) {
		m.conflicts++
		return
	}
	m.check(err)
	m.commits++
	for _, r := range x.reads {
		if want := m.expected(r); r.result != want {
			m.Fatalf("committed, though it read %q in %+v, where a serial order has %q", r.result, r, want)
		}
	}
	for k, v := range x.writes {
		if m.state[k] = v; v == "" {
			delete(m.state, k)
		}
	}
	m.compareView()
}

// compareView checks that a View sees exactly what was committed.
func (m *model) compareView() {
	v, err := m.driver.View(m.Context())
	m.check(err)
	got := ""
	m.check(v.Scan([]byte("k"), []byte("l"), false, func(k, v []byte) bool {
		got += string(k) + "=" + string(v) + " "
		return true
	}))
	m.check(v.Close())
	if want := m.expected(read{lo: "k", hi: "l", limit: 1 << 30}); got != want {
		m.Fatalf("a View reads %q, want %q", got, want)
	}
}
