package auth

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Sign signs a client's request by version 4, in its headers, over the body that
// is given: for tests and for tools that come with Skerry.
func Sign(r *http.Request, c Credential, region, service string, body []byte, now time.Time) {
	sum := sha256.Sum256(body)
	payload := hex.EncodeToString(sum[:])
	s := signature{algorithm: algorithm4, key: c.AccessKey, region: region, service: service, at: now}
	s.stamp = now.UTC().Format(isoBasic)
	s.date = s.stamp[:8]
	if r.Host == "" {
		r.Host = r.URL.Host
	}
	r.Header.Set("X-Amz-Date", s.stamp)
	if service == "s3" {
		if given := r.Header.Get("X-Amz-Content-Sha256"); given != "" {
			payload = given
		}
		r.Header.Set("X-Amz-Content-Sha256", payload)
	}
	if c.Token != "" {
		r.Header.Set("X-Amz-Security-Token", c.Token)
	}
	for name, values := range maps.Clone(r.Header) {
		delete(r.Header, name)
		r.Header[http.CanonicalHeaderKey(name)] = values
	}
	s.signed = []string{"host"}
	for name := range r.Header {
		if l := strings.ToLower(name); strings.HasPrefix(l, "x-amz-") || l == "content-type" {
			s.signed = append(s.signed, l)
		}
	}
	slices.Sort(s.signed)
	t, _ := readTarget(r) // what can't be read is signed as it is
	text := s.stringToSign(canonical(r, &t, t.paths(service == "s3")[0], s.signed, payload))
	s.value = hex.EncodeToString(sum256(derive(c.Secret, &s), text))
	r.Header.Set("Authorization", algorithm4+" Credential="+s.key+"/"+s.scope()+", SignedHeaders="+strings.Join(s.signed, ";")+", Signature="+s.value)
}
