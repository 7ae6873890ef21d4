package store

import (
	"bytes"
	"cmp"
	"math"
	"strings"
	"testing"
	"time"
)

type named string

func TestKeyOrder(t *testing.T) {
	day := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	// Each list is in order; its keys must be, and no prefix of another.
	for _, list := range [][]any{
		{"", "\x00", "\x00\x00", "\x00a", "\x01", "\x01\x00", "\x02", "a", "a\x00", "a\x00b", "a\x01", "a/", "aa", "b", "é", "\xff", "\xff\xff"},
		{math.MinInt64, math.MinInt64 + 1, -1 << 32, -65537, -65536, -257, -256, -255, -2, -1, 0, 1, 2, 255, 256, 65535, 65536, 1 << 32, math.MaxInt64, uint64(math.MaxInt64) + 1, uint64(math.MaxUint64)},
		{time.Time{}, time.Unix(-1, 0), time.Unix(0, 0), day, day.Add(1), day.Add(time.Second)},
		{false, true},
	} {
		for i, a := range list {
			for j, b := range list {
				ka, kb := K(a), K(b)
				if cmp.Compare(ka, kb) != cmp.Compare(i, j) {
					t.Errorf("%v and %v: %q and %q", a, b, ka, kb)
				}
				if i != j && strings.HasPrefix(string(ka), string(kb)) {
					t.Errorf("%v begins with %v", a, b)
				}
				if k2 := K("x", a, b); k2 != K("x")+ka+kb {
					t.Errorf("%v, %v do not concatenate", a, b)
				}
			}
		}
	}
	if K(named("a"), int8(1), uint16(2)) != K("a", 1, 2) || K([]byte("a")) == K("a") {
		t.Error("named types and small integers encode as their kinds")
	}
}

func TestKeyEnd(t *testing.T) {
	end := KPrefix("b", "img/").End()
	for name, inside := range map[string]bool{"img/": true, "img/\x00": true, "img/\xff\xff": true, "img": false, "img0": false, "imh": false} {
		k := K("b", name)
		if got := strings.HasPrefix(string(k), string(KPrefix("b", "img/"))); got != inside {
			t.Errorf("%q has the prefix: %v", name, got)
		}
		if (k < end) != (inside || name == "img") {
			t.Errorf("%q < end: %v", name, k < end)
		}
	}
}

// FuzzKey checks that tuples come back, and that keys order as tuples do.
func FuzzKey(f *testing.F) {
	f.Add("a", int64(1), []byte{0}, "a\x00", int64(-1), []byte{})
	f.Fuzz(func(t *testing.T, s1 string, n1 int64, b1 []byte, s2 string, n2 int64, b2 []byte) {
		k1, k2 := K(s1, n1, b1), K(s2, n2, b2)
		parts, err := k1.Parts()
		if err != nil || len(parts) != 3 || parts[0] != s1 || parts[1] != n1 || !bytes.Equal(parts[2].([]byte), b1) {
			t.Fatalf("%q: %v, %v", k1, parts, err)
		}
		want := cmp.Or(cmp.Compare(s1, s2), cmp.Compare(n1, n2), bytes.Compare(b1, b2))
		if got := cmp.Compare(k1, k2); got != want {
			t.Fatalf("(%q, %d, %q) and (%q, %d, %q) compare %d, want %d", s1, n1, b1, s2, n2, b2, got, want)
		}
	})
}

// FuzzKeyParts checks that no bytes upset the decoder, and that what it accepts
// encodes to the same bytes.
func FuzzKeyParts(f *testing.F) {
	f.Add(string(K("a", 1, true, time.Unix(1, 2), []byte("b"))))
	f.Fuzz(func(t *testing.T, s string) {
		parts, err := Key(s).Parts()
		if err == nil && string(K(parts...)) != s {
			t.Fatalf("%q decodes to %v, which encodes to %q", s, parts, K(parts...))
		}
		_ = Key(s).String()
	})
}
