package auth

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
)

// Sign2ForTest signs a text by version 2.
func Sign2ForTest(secret, text string) string { return sign2(secret, text) }

// SignForTest signs a text by version 4 or, without a region, 4A.
func SignForTest(c Credential, date, region, service, text string) string {
	if region == "" {
		sum := sha256.Sum256([]byte(text))
		der, err := ecdsa.SignASN1(rand.Reader, deriveECDSA(c.AccessKey, c.Secret), sum[:])
		if err != nil {
			panic(err)
		}
		return hex.EncodeToString(der)
	}
	s := signature{date: date, region: region, service: service}
	return hex.EncodeToString(sum256(derive(c.Secret, &s), text))
}

// CachedForTest returns the bytes of text that the cache of policies holds.
func CachedForTest() int {
	n := 0
	parsed.mu.Lock()
	defer parsed.mu.Unlock()
	for _, m := range []map[string]*Policy{parsed.mu.young, parsed.mu.old} {
		for doc := range m {
			n += len(doc)
		}
	}
	return n
}
