// Package storetest is the contract of a store: every driver passes Run.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"skerry/internal/store"
)

type pet struct {
	Name, Owner string
	Tags        []string
	Age         int
	Born        time.Time
}

var (
	byOwner = store.NewIndex("owner", func(p *pet) []store.Key {
		if p.Owner == "" {
			return nil
		}
		return []store.Key{store.K(p.Owner)}
	})
	byTag = store.NewIndex("tag", func(p *pet) []store.Key {
		var keys []store.Key
		for _, t := range p.Tags {
			keys = append(keys, store.K(t))
		}
		return keys
	})
	pets  = store.NewTable("storetest/pets", func(p *pet) store.Key { return store.K(p.Name) }, byOwner, byTag)
	plain = store.NewRaw("storetest/raw")
)

// Run tests the stores that open makes, each of them empty.
func Run(t *testing.T, open func(t *testing.T) *store.DB) {
	tests := []struct {
		name string
		test func(*testing.T, *store.DB)
	}{
		{"rows", testRows},
		{"ranges", testRanges},
		{"own writes", testOwnWrites},
		{"counter", testCounter},
		{"write skew", testWriteSkew},
		{"phantom", testPhantom},
		{"failure", testFailure},
		{"watch", testWatch},
		{"clear", testClear},
		{"raw", testRaw},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, open(t)) })
	}
}

func update(t *testing.T, db *store.DB, fn func(tx *store.Tx) error) {
	t.Helper()
	if err := db.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func view(t *testing.T, db *store.DB, fn func(tx *store.Tx) error) {
	t.Helper()
	if err := db.View(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, seq func(func(*pet, error) bool)) []string {
	t.Helper()
	var out []string
	for p, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p.Name)
	}
	return out
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func testRows(t *testing.T, db *store.DB) {
	born := time.Date(2026, 2, 3, 4, 5, 6, 789, time.UTC)
	update(t, db, func(tx *store.Tx) error {
		if err := pets.Insert(tx, &pet{Name: "rex", Owner: "ann", Tags: []string{"big", "dog"}, Age: 3, Born: born}); err != nil {
			return err
		}
		return pets.Put(tx, &pet{Name: "tom", Owner: "bob", Tags: []string{"cat"}})
	})
	view(t, db, func(tx *store.Tx) error {
		rex, err := pets.Get(tx, store.K("rex"))
		if err != nil {
			return err
		}
		if rex.Age != 3 || !rex.Born.Equal(born) || !slices.Equal(rex.Tags, []string{"big", "dog"}) {
			t.Errorf("read %+v", rex)
		}
		if _, err := pets.Get(tx, store.K("re")); err != store.ErrNotFound {
			t.Errorf("missing row: %v", err)
		}
		if err := pets.Put(tx, rex); !errors.Is(err, store.ErrReadOnly) {
			t.Errorf("put in a view: %v", err)
		}
		expect(t, names(t, byOwner.Scan(tx, store.Range{Prefix: store.K("ann")})), "rex")
		expect(t, names(t, byTag.Scan(tx, store.Range{})), "rex", "tom", "rex")
		return nil
	})
	err := db.Update(t.Context(), func(tx *store.Tx) error { return pets.Insert(tx, &pet{Name: "rex"}) })
	if !errors.Is(err, store.ErrExists) {
		t.Errorf("insert again: %v", err)
	}
	update(t, db, func(tx *store.Tx) error {
		if err := pets.Put(tx, &pet{Name: "rex", Tags: []string{"dog", "old"}}); err != nil {
			return err
		}
		return pets.Delete(tx, store.K("tom"))
	})
	view(t, db, func(tx *store.Tx) error {
		expect(t, names(t, byOwner.Scan(tx, store.Range{})))
		expect(t, names(t, byTag.Scan(tx, store.Range{})), "rex", "rex")
		expect(t, names(t, byTag.Scan(tx, store.Range{Prefix: store.K("big")})))
		expect(t, names(t, pets.Scan(tx, store.Range{})), "rex")
		return nil
	})
}

func testRanges(t *testing.T, db *store.DB) {
	all := []string{"a", "a\x00b", "a/1", "a/2", "ab", "b", "c"}
	update(t, db, func(tx *store.Tx) error {
		for _, n := range all {
			if err := pets.Insert(tx, &pet{Name: n, Owner: "o"}); err != nil {
				return err
			}
		}
		return nil
	})
	k := func(s string) store.Key { return store.K(s) }
	for name, tt := range map[string]struct {
		r    store.Range
		want []string
	}{
		"all":           {store.Range{}, all},
		"exact prefix":  {store.Range{Prefix: k("a")}, all[:1]},
		"open prefix":   {store.Range{Prefix: store.KPrefix("a/")}, all[2:4]},
		"after":         {store.Range{After: k("a/1")}, all[3:]},
		"after missing": {store.Range{After: k("a/11")}, all[3:]},
		"from":          {store.Range{From: k("a/2")}, all[3:]},
		"to":            {store.Range{To: k("a/2")}, all[:3]},
		"from to":       {store.Range{From: k("a/2"), To: k("c")}, all[3:6]},
		"skip":          {store.Range{From: store.KPrefix("a").End()}, all[5:]},
		"empty":         {store.Range{From: k("b"), To: k("a")}, nil},
	} {
		check := func(t *testing.T) {
			view(t, db, func(tx *store.Tx) error {
				expect(t, names(t, pets.Scan(tx, tt.r)), tt.want...)
				return nil
			})
			back := slices.Clone(tt.want)
			slices.Reverse(back)
			r := tt.r
			if r.Reverse = true; r.After != "" {
				return
			}
			view(t, db, func(tx *store.Tx) error {
				expect(t, names(t, pets.Scan(tx, r)), back...)
				return nil
			})
		}
		t.Run(name, check)
	}
	view(t, db, func(tx *store.Tx) error {
		expect(t, names(t, pets.Scan(tx, store.Range{After: k("a/1"), Reverse: true})), "a\x00b", "a")
		expect(t, names(t, byOwner.Scan(tx, store.Range{Prefix: k("o"), After: k("o") + k("ab")})), "b", "c")
		return nil
	})
}

func testOwnWrites(t *testing.T, db *store.DB) {
	put := func(tx *store.Tx, names ...string) {
		for _, n := range names {
			if err := pets.Put(tx, &pet{Name: n}); err != nil {
				t.Fatal(err)
			}
		}
	}
	update(t, db, func(tx *store.Tx) error { put(tx, "b", "d", "f"); return nil })
	update(t, db, func(tx *store.Tx) error {
		put(tx, "a", "c", "g", "d")
		if err := pets.Delete(tx, store.K("f")); err != nil {
			return err
		}
		expect(t, names(t, pets.Scan(tx, store.Range{})), "a", "b", "c", "d", "g")
		expect(t, names(t, pets.Scan(tx, store.Range{Reverse: true})), "g", "d", "c", "b", "a")
		expect(t, names(t, pets.Scan(tx, store.Range{From: store.K("b"), To: store.K("d")})), "b", "c")
		for range pets.Scan(tx, store.Range{}) {
			break
		}
		// Delete what is met, write ahead and behind.
		var met []string
		for p, err := range pets.Scan(tx, store.Range{}) {
			if err != nil {
				return err
			}
			met = append(met, p.Name)
			if p.Name == "c" {
				put(tx, "aa", "cc", "z")
				if err := pets.Delete(tx, store.K("d")); err != nil {
					return err
				}
			}
			if err := pets.Delete(tx, store.K(p.Name)); err != nil {
				return err
			}
		}
		expect(t, met, "a", "b", "c", "cc", "g", "z")
		return nil
	})
	view(t, db, func(tx *store.Tx) error {
		expect(t, names(t, pets.Scan(tx, store.Range{})), "aa")
		return nil
	})
}

// together runs n copies of fn at the same time.
func together(t *testing.T, n int, fn func(i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() { errs[i] = fn(i) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func testCounter(t *testing.T, db *store.DB) {
	update(t, db, func(tx *store.Tx) error { return pets.Insert(tx, &pet{Name: "n"}) })
	const workers, rounds = 16, 25
	var mu sync.Mutex
	seen := map[int]bool{}
	together(t, workers, func(int) error {
		for range rounds {
			var got int
			err := db.Update(context.Background(), func(tx *store.Tx) error {
				p, err := pets.Get(tx, store.K("n"))
				if err != nil {
					return err
				}
				p.Age++
				got = p.Age
				return pets.Put(tx, p)
			})
			if err != nil {
				return err
			}
			mu.Lock()
			if seen[got] {
				err = fmt.Errorf("%d was handed out twice", got)
			}
			seen[got] = true
			mu.Unlock()
			if err != nil {
				return err
			}
			// What was acknowledged is in every later View.
			err = db.View(context.Background(), func(tx *store.Tx) error {
				p, err := pets.Get(tx, store.K("n"))
				if err == nil && p.Age < got {
					err = fmt.Errorf("a View reads %d after %d was committed", p.Age, got)
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if len(seen) != workers*rounds {
		t.Errorf("%d numbers, want %d", len(seen), workers*rounds)
	}
}

// testWriteSkew: two doctors on call, each goes off only if the other is on.
func testWriteSkew(t *testing.T, db *store.DB) {
	for range 30 {
		update(t, db, func(tx *store.Tx) error {
			for _, n := range []string{"x", "y"} {
				if err := pets.Put(tx, &pet{Name: n, Age: 1}); err != nil {
					return err
				}
			}
			return nil
		})
		together(t, 2, func(i int) error {
			return db.Update(context.Background(), func(tx *store.Tx) error {
				other, err := pets.Get(tx, store.K([]string{"y", "x"}[i]))
				if err != nil || other.Age == 0 {
					return err
				}
				return pets.Put(tx, &pet{Name: []string{"x", "y"}[i]})
			})
		})
		view(t, db, func(tx *store.Tx) error {
			x, _ := pets.Get(tx, store.K("x"))
			y, _ := pets.Get(tx, store.K("y"))
			if x.Age+y.Age != 1 {
				t.Fatalf("%d are on call, want 1", x.Age+y.Age)
			}
			return nil
		})
	}
}

// testPhantom: at most three rows of an owner, counted by a scan.
func testPhantom(t *testing.T, db *store.DB) {
	const most = 3
	for round := range 10 {
		owner := fmt.Sprint("owner", round)
		together(t, 8, func(i int) error {
			return db.Update(context.Background(), func(tx *store.Tx) error {
				n := 0
				for _, err := range byOwner.Scan(tx, store.Range{Prefix: store.K(owner)}) {
					if err != nil {
						return err
					}
					n++
				}
				if n >= most {
					return nil
				}
				return pets.Insert(tx, &pet{Name: fmt.Sprint(owner, "/", i), Owner: owner})
			})
		})
		view(t, db, func(tx *store.Tx) error {
			if got := names(t, byOwner.Scan(tx, store.Range{Prefix: store.K(owner)})); len(got) != most {
				t.Fatalf("%d rows, want %d", len(got), most)
			}
			return nil
		})
	}
}

func testFailure(t *testing.T, db *store.DB) {
	boom := errors.New("boom")
	called := false
	err := db.Update(t.Context(), func(tx *store.Tx) error {
		tx.OnCommit(func() { called = true })
		if err := pets.Insert(tx, &pet{Name: "rex"}); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) || called {
		t.Errorf("err %v, OnCommit called %v", err, called)
	}
	func() {
		defer func() { _ = recover() }()
		_ = db.Update(t.Context(), func(tx *store.Tx) error {
			_ = pets.Insert(tx, &pet{Name: "rex"})
			panic(boom)
		})
		t.Error("the panic was swallowed")
	}()
	update(t, db, func(tx *store.Tx) error {
		tx.OnCommit(func() {
			called = true
			view(t, db, func(tx *store.Tx) error { // in OnCommit, it can be read
				expect(t, names(t, pets.Scan(tx, store.Range{})), "tom")
				return nil
			})
		})
		return pets.Insert(tx, &pet{Name: "tom"})
	})
	if !called {
		t.Error("OnCommit was not called")
	}
}

func woken(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

func testWatch(t *testing.T, db *store.DB) {
	all, stopAll := db.Watch(pets)
	rex, stopRex := db.Watch(pets, store.K("rex"))
	defer stopRex()
	put := func(name string) {
		update(t, db, func(tx *store.Tx) error { return pets.Put(tx, &pet{Name: name}) })
	}
	put("rex")
	put("rex")
	if !woken(all) || woken(all) || !woken(rex) {
		t.Error("two writes must wake once")
	}
	put("tom")
	if woken(rex) || !woken(all) {
		t.Error("a write of another row wakes the table only")
	}
	stopAll()
	put("rex")
	if woken(all) || !woken(rex) {
		t.Error("a stopped watch is not woken")
	}
}

func testClear(t *testing.T, db *store.DB) {
	put := func(tx *store.Tx) error { return pets.Put(tx, &pet{Name: "rex", Owner: "ann"}) }
	update(t, db, put)
	if err := db.Clear(t.Context()); err != nil {
		t.Fatal(err)
	}
	none := func(tx *store.Tx) error {
		expect(t, names(t, pets.Scan(tx, store.Range{})))
		expect(t, names(t, byOwner.Scan(tx, store.Range{})))
		return nil
	}
	view(t, db, none)
	update(t, db, none)
	update(t, db, put)
	view(t, db, func(tx *store.Tx) error {
		expect(t, names(t, byOwner.Scan(tx, store.Range{})), "rex")
		return nil
	})
}

func testRaw(t *testing.T, db *store.DB) {
	update(t, db, func(tx *store.Tx) error {
		for i := range 300 {
			if err := plain.Put(tx, store.K("s", i), fmt.Append(nil, i)); err != nil {
				return err
			}
		}
		return nil
	})
	view(t, db, func(tx *store.Tx) error {
		next := 100
		for e, err := range plain.Scan(tx, store.Range{Prefix: store.K("s"), From: store.K("s", 100)}) {
			if err != nil {
				return err
			}
			if string(e.Value) != fmt.Sprint(next) || e.Key != store.K("s", next) {
				t.Fatalf("entry %s = %q", e.Key, e.Value)
			}
			next++
		}
		if next != 300 {
			t.Errorf("the scan ended at %d", next)
		}
		return nil
	})
	update(t, db, func(tx *store.Tx) error { return plain.Delete(tx, store.K("s", 7)) })
	view(t, db, func(tx *store.Tx) error {
		if _, err := plain.Get(tx, store.K("s", 7)); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("deleted entry: %v", err)
		}
		return nil
	})
}
