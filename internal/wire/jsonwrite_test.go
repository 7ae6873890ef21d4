package wire

import (
	"encoding/json"
	"strings"
	"testing"
)

// Every byte, at every place of a string longer than a step of plainLen, reads back
// as encoding/json reads it.
func TestAppendJSONString(t *testing.T) {
	for c := range 256 {
		for at := range 20 {
			in := strings.Repeat("a", at) + string([]byte{byte(c)}) + strings.Repeat("~", 19-at)
			var got string
			if err := json.Unmarshal(AppendJSONString(nil, in), &got); err != nil {
				t.Fatalf("%q: %v", in, err)
			}
			if want := strings.ToValidUTF8(in, "\ufffd"); got != want {
				t.Fatalf("%q reads back as %q", in, got)
			}
		}
	}
}
