package filter

import (
	"errors"
	"maps"
	"strings"
	"testing"
)

const (
	access = `127.0.0.1 Prod frank [10/Oct/2000:13:25:15 -0700] "GET /index.html HTTP/1.0" 404 1534`
	event  = `{"eventType":"UpdateTrail","sourceIPAddress":"111.111.111.111","arrayKey":["value","another value"],` +
		`"objectList":[{"name":"a","id":1},{"name":"b","id":2}],"SomeObject":null,"cluster.name":"c","flag":true,` +
		`"off":false,"latency":5e-3,"code":400,"text":"400","user":{"id":1,"email":"John.Stiles@example.com"},` +
		`"users":[{"id":2,"email":"John.Doe@example.com"}],"big":9007199254740993,"detail-type":"x"}`
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, message string
		want             bool
	}{
		// Terms, from the page's examples.
		{"", "anything", true},
		{" ", "anything", true},
		{"ERROR", "[ERROR 400] BAD REQUEST", true},
		{"ERROR", "Exiting with ERRORCODE: -1", true},
		{"ERROR", "[error 400]", false},
		{"ERROR ARGUMENTS", "[ERROR 419] MISSING ARGUMENTS", true},
		{"ERROR ARGUMENTS", "[ERROR 401] UNAUTHORIZED REQUEST", false},
		{"?ERROR ?ARGUMENTS", "[ERROR 401] UNAUTHORIZED REQUEST", true},
		{"?ERROR ?ARGUMENTS", "[INFO] INVALID ARGUMENTS", true},
		{"?ERROR ?ARGUMENTS", "[INFO] REQUEST", false},
		{"?ERROR ?ARGUMENTS REQUEST", "[INFO] REQUEST FAILED", true},
		{`"INTERNAL SERVER ERROR"`, "[ERROR 500] INTERNAL SERVER ERROR", true},
		{`"INTERNAL SERVER ERROR"`, "INTERNAL ERROR, SERVER", false},
		{"ERROR -ARGUMENTS", "[ERROR 400] BAD REQUEST", true},
		{"ERROR -ARGUMENTS", "[ERROR 419] MISSING ARGUMENTS", false},
		{`-"exit 0"`, "exit 1", true},
		{`-"exit 0"`, "exit 0", false},
		{`"say \"hi\""`, `they say "hi"`, true},
		{"Fehler_ü", "ein Fehler_ü", true},

		// Regular expressions.
		{"%AUTHORIZED%", "[ERROR 401] UNAUTHORIZED REQUEST", true},
		{"%^[hc]at%", "hat", true},
		{"%^[hc]at%", "a hat", false},
		{"%[hc]at$%", "a cat", true},
		{"%colou?r%", "color", true},
		{`%10\.10\.0\.1%`, "10.10.0.1", true},
		{`%10\.10\.0\.1%`, "10x10.0.1", false},
		{`%\d{3}\sms%`, "took 123 ms", true},
		{"%gra[ae]y% -%green%", "gray green", false},

		// JSON.
		{`{ $.eventType = "UpdateTrail" }`, event, true},
		{`{ $.eventType = UpdateTrail }`, event, true},
		{`{$.eventType="Update*"}`, event, true},
		{`{ $.eventType = *Trail }`, event, true},
		{`{ $.eventType = "*date*ail" }`, event, true},
		{`{ $.eventType = "*ail*date" }`, event, false},
		{`{ $.sourceIPAddress != 123.123.* }`, event, true},
		{`{ $.sourceIPAddress = 111.111.* }`, event, true},
		{`{ $.arrayKey[0] = "value" }`, event, true},
		{`{ $.arrayKey[1] = "value" }`, event, false},
		{`{ $.arrayKey[9] = "value" }`, event, false},
		{`{ $.arrayKey[*] = "another*" }`, event, true},
		{`{ $.objectList[1].id = 2 }`, event, true},
		{`{ $.objectList[*].id > 2 }`, event, false},
		{`{ $.user.* = "John*" }`, event, true},
		{`{ $.eventType = %Trail% }`, event, true},
		{`{ $.eventType != %Trail% }`, event, false},
		{`{ $.['cluster.name'] = "c" }`, event, true},
		{`{ $['cluster.name'] = "c" }`, event, true},
		{`{ $.detail-type = x }`, event, true},
		{`{ $.SomeObject IS NULL }`, event, true},
		{`{ $.SomeObject IS NOT NULL }`, event, false},
		{`{ $.user IS NULL }`, event, false},
		{`{ $.SomeOtherObject NOT EXISTS }`, event, true},
		{`{ $.SomeObject NOT EXISTS }`, event, false},
		{`{ $.flag IS TRUE }`, event, true},
		{`{ $.flag IS FALSE }`, event, false},
		{`{ $.off IS FALSE }`, event, true},
		{`{ $.latency = 0.005 }`, event, true},
		{`{ $.latency < 1e-2 }`, event, true},
		{`{ $.code >= 400 && $.code < 500 }`, event, true},
		{`{ $.code = 4* }`, event, true},
		{`{ $.code != 400 }`, event, false},
		{`{ $.code = "400" }`, event, true},
		{`{ $.text = 400 }`, event, true},
		{`{ $.text > 300 }`, event, false},
		{`{ $.missing != "x" }`, event, false},
		{`{ $.user = "*" }`, event, true},
		{`{ ($.user.id = 1) && ($.users[0].email = "John.Doe@example.com") }`, event, true},
		{`{ ($.user.id = 2 && $.users[0].email = "nonmatch") || $.eventType = "UpdateTrail" }`, event, true},
		{`{ $.user.id = 1 || $.user.id = 2 && $.eventType = "x" }`, event, true},
		{`{ ($.user.id = 1 || $.user.id = 2) && $.eventType = "x" }`, event, false},
		{`{ $.eventType = "UpdateTrail" }`, `text before {"eventType":"UpdateTrail"}`, false},
		{`{ $.eventType = "UpdateTrail" }`, `{"eventType":"UpdateTrail"`, false},
		{`{ $.eventType = "UpdateTrail" }`, `{"eventType":"UpdateTrail"} more`, false},
		{`{ $[0].a = 1 }`, ` [{"a":1}]`, true},

		{`{ $.a = "x" }`, `{"\u0061":"x"}`, true},
		{`{ $.a = "xyz" }`, `{"a":"x\u0079z"}`, true},
		{`{ $.a = "x/y" }`, `{"a":"x\/y"}`, true},
		{`{ $.a NOT EXISTS }`, `{"b":1}`, true},
		{`{ $.a = 1e3 }`, `{"a":1000}`, true},
		{`{ $.a = x* || $.b = 1 }`, `{"b":1}`, true},

		// Columns.
		{"[ip, user, username, timestamp, request, status_code, bytes]", access, true},
		{"[ip, user, username, timestamp, request, status_code]", access, false},
		{"[ip, user, username, timestamp, request =*.html*, status_code = 4*, bytes > 1000]", access, true},
		{"[ip, user, username, timestamp, request =*.html*, status_code = 4*, bytes > 2000]", access, false},
		{"[..., request =*.html*, status_code = 4*,]", access, true},
		{"[ip, ..., bytes >= 1534]", access, true},
		{"[ip=127.0.0.1, ...]", access, true},
		{"[ip!=127.0.0.1, ...]", access, false},
		{"[..., status_code = 404 || status_code = 410, size]", access, true},
		{"[..., (status_code = 4* && status_code != 403), size]", access, true},
		{"[..., status_code = 403 || status_code = 410, size]", access, false},
		{"[w1=ERROR || w1=%WARN%, w2]", "WARNING disk", true},
		{"[w1=ERROR || w1=%WARN%, w2]", "INFO disk", false},
		{`[w1, w2 = "two words"]`, `x "two words"`, true},
		{"[...]", "", true},
		{"[a, ..., b]", "only", false},
		{"[a, ..., b]", "x y", true},
	} {
		f, err := Compile(c.pattern)
		if err != nil {
			t.Errorf("Compile(%q): %v", c.pattern, err)
			continue
		}
		if got := f.Match(c.message); got != c.want {
			t.Errorf("%q matches %q: %v, want %v", c.pattern, c.message, got, c.want)
		}
	}
}

func TestRefused(t *testing.T) {
	for pattern, want := range map[string]string{
		"foo:bar":                 "Invalid character(s) in term ':'",
		"(x":                      "Invalid character(s) in term '('",
		`a "open`:                 "Invalid filter pattern",
		"%a!b%":                   "Invalid character(s) in term '!'",
		"%(a)%":                   "Invalid character(s) in term '('",
		"%a":                      "Invalid filter pattern",
		"%[%":                     "Invalid filter pattern",
		"?":                       "Invalid filter pattern",
		`{ $."sc-status" = 5* }`:  `Invalid character(s) in term '$."'`,
		`{ $.a }`:                 "Invalid filter pattern",
		`{ $.a = }`:               "Invalid filter pattern",
		`{ $.a = 1`:               "Invalid filter pattern",
		`{ $.a = 1 } x`:           "Invalid character(s) in term 'x'",
		`{ $.a > "x" }`:           "Invalid filter pattern",
		`{ a = 1 }`:               "Invalid character(s) in term 'a'",
		`{ $ = 1 }`:               "Invalid filter pattern",
		`{ ($.a = 1 }`:            "Invalid filter pattern",
		`{ $.a IS MAYBE }`:        "Invalid filter pattern",
		`{ $.a[x] = 1 }`:          "Invalid filter pattern",
		"[a, b":                   "Invalid filter pattern",
		"[..., ...]":              "Invalid filter pattern",
		"[a = 1 || b = 2]":        "Invalid filter pattern",
		"[a > x]":                 "Invalid filter pattern",
		"[a=%x%,b=%y%,c=%z%]":     "Invalid filter pattern",
		strings.Repeat("{(", 200): "Invalid character(s) in term '{'",
	} {
		_, err := Compile(pattern)
		if err == nil {
			t.Errorf("Compile(%q) succeeds", pattern)
		} else if err.Error() != want {
			t.Errorf("Compile(%q): %q, want %q", pattern, err, want)
		}
	}
	if _, err := Compile("{" + strings.Repeat("(", 10000)); !errors.Is(err, ErrSyntax) {
		t.Errorf("deep nesting: %v", err)
	}
}

func TestExtract(t *testing.T) {
	for _, c := range []struct {
		pattern, message string
		want             map[string]string
	}{
		{"[..., size]", access, map[string]string{"$1": "127.0.0.1", "$2": "Prod", "$3": "frank",
			"$4": "10/Oct/2000:13:25:15 -0700", "$5": "GET /index.html HTTP/1.0", "$6": "404", "$size": "1534"}},
		{`{ $.code = 400 && $.user.id = 1 && $.flag IS TRUE }`, event,
			map[string]string{"$.code": "400", "$.user.id": "1", "$.flag": "true"}},
		{"frank", access, map[string]string{}},
	} {
		f, err := Compile(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := f.Extract(c.message); !ok || !maps.Equal(got, c.want) {
			t.Errorf("%q: %v %v", c.pattern, got, ok)
		}
	}
}

func FuzzCompile(f *testing.F) {
	for _, s := range []string{"a ?b -c", `"x \" y" %r+%`, `{ $.a[0].*['x'] = "b*" && ($.c > 1 || $.d IS NULL) }`,
		"[a, b=1||b=2, ..., c!=%x%]", "{", "[", "%", `"`} {
		f.Add(s, event)
		f.Add(s, access)
	}
	f.Fuzz(func(t *testing.T, pattern, message string) {
		c, err := Compile(pattern)
		if err != nil {
			return
		}
		if _, ok := c.Extract(message); ok != c.Match(message) {
			t.Fatal("Extract and Match differ")
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	line := strings.Repeat("x", 200) + " ERROR at the end of a longer line"
	for name, c := range map[string][2]string{
		"term":        {"ERROR -DEBUG", line},
		"regex":       {"%ERR.R%", line},
		"json":        {`{ $.eventType = "Update*" && $.user.id > 0 }`, event},
		"json, other": {`{ $.level = "ERROR" && $.user.id > 0 }`, event},
		"columns":     {"[ip, ..., status = 4*, bytes > 99]", access},
	} {
		f, err := Compile(c[0])
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(c[1])))
			b.ReportAllocs()
			for b.Loop() {
				if f.Match(c[1]) == strings.Contains(name, "other") {
					b.Fatal("matches the wrong events")
				}
			}
		})
	}
}
