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

func TestAccessKeyCarriesItsAccount(t *testing.T) {
	for _, account := range []string{"000000000000", "123456789012", "999999999999"} {
		id := AccessKey("ASIA", account)
		if got, ok := AccessKeyAccount(id); !ok || got != account || len(id) != 20 {
			t.Errorf("%s of %s: %s, %v", id, account, got, ok)
		}
	}
	// A key id whose account is public knowledge among those who study them.
	if got, ok := AccessKeyAccount("ASIAQNZGKIQY56JQ7WML"); !ok || got != "029608264753" {
		t.Errorf("got %s, %v", got, ok)
	}
	for _, bad := range []string{"", "test", "AKIA0000000000000000"} {
		if got, ok := AccessKeyAccount(bad); ok {
			t.Errorf("%q carries %s", bad, got)
		}
	}
}
