package ids

import (
	"regexp"
	"testing"
)

func TestForms(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		for s, re := range map[string]string{
			UUID():             `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`,
			Unique("AKIA", 20): `^AKIA[A-Z2-7]{16}$`,
			Hex(17):            `^[0-9a-f]{17}$`,
			Secret():           `^[A-Za-z0-9+/]{40}$`,
		} {
			if !regexp.MustCompile(re).MatchString(s) {
				t.Fatalf("%q does not match %s", s, re)
			}
			if seen[s] {
				t.Fatalf("%q came twice", s)
			}
			seen[s] = true
		}
	}
}
