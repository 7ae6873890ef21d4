package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	algorithm4  = "AWS4-HMAC-SHA256"
	algorithm4A = "AWS4-ECDSA-P256-SHA256"
	emptySHA    = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// signature is what a request says of its signature, of version 4 or 4A.
type signature struct {
	algorithm string
	key       string // access key
	date      string // of the scope, YYYYMMDD
	region    string // of the scope, or of the region set for 4A; "*" for all
	service   string
	signed    []string // names of the signed headers, lower case
	value     string
	stamp     string // X-Amz-Date, or made of Date
	at        time.Time
	expires   time.Duration // of a link
	query     bool          // a signed link
}

// scope returns the credential scope as strings to sign hold it.
func (s *signature) scope() string {
	if s.algorithm == algorithm4A {
		return s.date + "/" + s.service + "/aws4_request"
	}
	return s.date + "/" + s.region + "/" + s.service + "/aws4_request"
}

// SigningScope tells which region and service a request was signed for, without
// verifying anything; both are empty if it doesn't say.
func SigningScope(r *http.Request) (region, service string) {
	s := signature{}
	credential := ""
	if h := r.Header.Get("Authorization"); h != "" {
		algorithm, rest, _ := strings.Cut(h, " ")
		s.algorithm = algorithm
		for rest != "" && credential == "" {
			var item string
			item, rest, _ = strings.Cut(rest, ",")
			if v, ok := strings.CutPrefix(strings.TrimSpace(item), "Credential="); ok {
				credential = v
			}
		}
	} else if _, query := RawTarget(r); strings.Contains(query, "X-Amz-Credential=") {
		t, _ := readTarget(r)
		s.algorithm, credential = t.get("X-Amz-Algorithm"), t.get("X-Amz-Credential")
	}
	if !s.setCredential(credential) {
		return "", ""
	}
	if s.algorithm == algorithm4A {
		s.region = ""
	}
	return s.region, s.service
}

// setCredential reads keyid/date/region/service/aws4_request; of 4A there is no
// region. Access keys may hold slashes.
func (s *signature) setCredential(text string) bool {
	parts := strings.Split(text, "/")
	want := 5
	if s.algorithm == algorithm4A {
		want = 4
	}
	n := len(parts)
	if n < want || parts[n-1] != "aws4_request" || len(parts[n-want+1]) != 8 {
		return false
	}
	s.key = strings.Join(parts[:n-want+1], "/")
	s.date, s.service = parts[n-want+1], parts[n-2]
	if want == 5 {
		s.region = parts[n-3]
	}
	return s.key != "" && s.service != ""
}

// setSigned reads the list of signed headers.
func (s *signature) setSigned(text string) {
	s.signed = strings.Split(lower(text), ";")
}

// parseAuthorization reads an Authorization header of version 4 or 4A.
func parseAuthorization(f Family, header string) (signature, error) {
	algorithm, rest, _ := strings.Cut(header, " ")
	s := signature{algorithm: algorithm}
	credential, signed := "", ""
	for _, item := range strings.Split(rest, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		name, value, ok := strings.Cut(item, "=")
		if !ok {
			return s, f.malformed(header, "'"+item+"' not a valid key=value pair (missing equal-sign) in Authorization header.",
				"it must be a comma-separated list of key=value pairs.")
		}
		switch name {
		case "Credential":
			credential = value
		case "SignedHeaders":
			signed = value
		case "Signature":
			s.value = value
		}
	}
	missing, first := "", ""
	for _, part := range []struct{ name, value string }{{"Credential", credential}, {"Signature", s.value}, {"SignedHeaders", signed}} {
		if part.value == "" {
			missing += "Authorization header requires '" + part.name + "' parameter. "
			if first == "" {
				first = part.name
			}
		}
	}
	if missing != "" {
		return s, f.malformed(header, strings.TrimSpace(missing), "missing "+first+".")
	}
	if !s.setCredential(credential) {
		return s, f.malformed(header, "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '"+credential+"'",
			`the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".`)
	}
	s.setSigned(signed)
	return s, nil
}

// setDate finds when the request was signed, in X-Amz-Date or Date.
func (s *signature) setDate(f Family, r *http.Request, header string) error {
	text := r.Header.Get("X-Amz-Date")
	if text == "" {
		text = r.Header.Get("Date")
	}
	if text == "" {
		if f == S3 {
			return accessDenied("AWS authentication requires a valid Date or x-amz-date header")
		}
		return f.malformed(header, "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.", "")
	}
	at, err := time.Parse(isoBasic, text)
	s.stamp = text
	if err != nil {
		at, err = http.ParseTime(text)
		s.stamp = at.UTC().Format(isoBasic)
	}
	if err != nil {
		if f == S3 {
			return accessDenied("AWS authentication requires a valid Date or x-amz-date header")
		}
		return f.malformed(header, "Date must be in ISO-8601 'basic format'. Got '"+text+"'. See http://en.wikipedia.org/wiki/ISO_8601", "")
	}
	s.at = at
	return nil
}

// stringToSign returns the text that the signature is over.
func (s *signature) stringToSign(canonical []byte) string {
	sum := sha256.Sum256(canonical)
	b := make([]byte, 0, 192)
	b = append(b, s.algorithm...)
	b = append(b, '\n')
	b = append(b, s.stamp...)
	b = append(b, '\n')
	b = append(b, s.scope()...)
	b = append(b, '\n')
	return string(appendHex(b, sum[:]))
}

func appendHex(to, b []byte) []byte {
	const digits = "0123456789abcdef"
	for _, c := range b {
		to = append(to, digits[c>>4], digits[c&15])
	}
	return to
}

// signingKeys remembers derived keys, which cost four HMACs each and are good
// for a day, a region and a service.
type signingKeys struct {
	mu struct {
		sync.Mutex
		young, old map[keyName]signingKey
	}
}

type keyName struct{ access, date, region, service string }

type signingKey struct {
	secret string
	key    []byte
}

const keysKept = 1024

// get returns the key to sign with. A changed secret makes a new one.
func (k *signingKeys) get(s *signature, secret string) []byte {
	name := keyName{s.key, s.date, s.region, s.service}
	k.mu.Lock()
	entry, ok := k.mu.young[name]
	if !ok {
		entry, ok = k.mu.old[name]
	}
	k.mu.Unlock()
	if ok && entry.secret == secret {
		return entry.key
	}
	entry = signingKey{secret, derive(secret, s)}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.mu.young == nil || len(k.mu.young) >= keysKept {
		k.mu.old, k.mu.young = k.mu.young, make(map[keyName]signingKey)
	}
	k.mu.young[name] = entry
	return entry.key
}

func derive(secret string, s *signature) []byte {
	key := sum256([]byte("AWS4"+secret), s.date)
	key = sum256(key, s.region)
	key = sum256(key, s.service)
	return sum256(key, "aws4_request")
}

func sum256(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
