package arn

import "testing"

func TestParse(t *testing.T) {
	for _, s := range []string{
		"arn:aws:s3:::bucket/key:with:colons",
		"arn:aws:lambda:us-east-1:123456789012:function:f:PROD",
		"arn:aws:iam::123456789012:role/path/name",
	} {
		a, err := Parse(s)
		if err != nil || a.String() != s {
			t.Errorf("Parse(%q) = %v, %v", s, a, err)
		}
	}
	for _, s := range []string{"", "arn", "arn:aws:s3", "arn::s3:::b", "arn:aws:s3:::", "urn:aws:s3:::b", "arn:aws::::b"} {
		if a, err := Parse(s); err == nil {
			t.Errorf("Parse(%q) = %v, want an error", s, a)
		}
	}
}

func TestResourceType(t *testing.T) {
	for s, want := range map[string][2]string{
		"arn:aws:lambda:r:a:function:f:1": {"function", "f:1"},
		"arn:aws:iam::a:role/p/n":         {"role", "p/n"},
		"arn:aws:s3:::bucket":             {"", "bucket"},
	} {
		a, err := Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		if k, id := a.ResourceType(); k != want[0] || id != want[1] {
			t.Errorf("%s: got %q %q", s, k, id)
		}
	}
}
