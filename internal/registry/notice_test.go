package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"skerry/internal/store"
)

func TestEveryImageIsTold(t *testing.T) {
	w := newWorld(t)
	r := w.repo("a")
	var told []string
	fault := errors.New("not now")
	woken := 0
	hooks := Hooks{
		Told: func(_ context.Context, n Notice) error {
			told = append(told, fmt.Sprint(n.Repo.Name, " ", n.Digest, " ", n.Gone))
			return fault
		},
		Wake: func() { woken++ },
	}
	w.Use(hooks)
	one := w.image(r, "one")
	_, err := w.put(r, one, "v1")
	w.must(err)
	_, err = w.put(r, one, "v1") // nothing new
	w.must(err)
	if woken != 1 {
		t.Fatal(woken)
	}
	tell := func(want string) {
		t.Helper()
		told = nil
		report, err := w.Tell(t.Context())
		w.must(err)
		if report != want {
			t.Fatal(report)
		}
	}
	tell("0 told, 1 failed")
	tell("0 told, 0 failed") // it waits
	w.restart()
	w.Use(hooks)
	w.clock.Advance(noticePause)
	fault = nil
	tell("1 told, 0 failed")
	if want := []string{"a " + Digest(one) + " false"}; !slices.Equal(told, want) {
		t.Fatal(told)
	}
	w.must(w.update(func(tx *store.Tx) error { _, err := w.DeleteManifest(tx, r, Digest(one)); return err }))
	tell("1 told, 0 failed")
	if want := []string{"a " + Digest(one) + " true"}; !slices.Equal(told, want) {
		t.Fatal(told)
	}
	w.clock.Advance(noticePause << noticeTries)
	tell("0 told, 0 failed")
}

func TestWhatThePushHookRefusesIsNotPushed(t *testing.T) {
	w := newWorld(t)
	r := w.repo("a")
	no := errors.New("no")
	w.Use(Hooks{Pushed: func(*store.Tx, Push) error { return no }})
	if _, err := w.put(r, w.image(r, "one"), "v1"); !errors.Is(err, no) {
		t.Fatal(err)
	}
	w.must(w.Store.View(t.Context(), func(tx *store.Tx) error {
		for range w.Manifests(tx, r, "") {
			t.Fatal("it is there")
		}
		return nil
	}))
}
