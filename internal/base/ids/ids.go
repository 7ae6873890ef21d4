// Package ids makes the random names that AWS gives to things: request ids,
// access keys, unique ids of IAM, resource ids.
package ids

import (
	"crypto/rand"
	"encoding/hex"
)

const (
	upper32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567" // as in access keys
	alnum   = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	secret  = alnum + "+/"
)

// UUID returns a random (version 4) UUID, the form of most AWS request ids.
func UUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, by its contract
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	var s [36]byte
	hex.Encode(s[0:8], b[0:4])
	s[8] = '-'
	hex.Encode(s[9:13], b[4:6])
	s[13] = '-'
	hex.Encode(s[14:18], b[6:8])
	s[18] = '-'
	hex.Encode(s[19:23], b[8:10])
	s[23] = '-'
	hex.Encode(s[24:36], b[10:16])
	return string(s[:])
}

// Unique returns a prefix such as AKIA, ASIA, AIDA or AROA followed by random
// characters of AWS's alphabet, n characters in all.
func Unique(prefix string, n int) string { return prefix + text(upper32, n-len(prefix)) }

// Hex returns n random hexadecimal digits.
func Hex(n int) string { return text("0123456789abcdef", n) }

// Alnum returns n random letters and digits.
func Alnum(n int) string { return text(alnum, n) }

// Secret returns a secret access key: 40 characters.
func Secret() string { return text(secret, 40) }

// text draws n characters of an alphabet without bias.
func text(alphabet string, n int) string {
	out := make([]byte, 0, n)
	limit := 256 - 256%len(alphabet)
	buf := make([]byte, n+n/2+8)
	for len(out) < n {
		_, _ = rand.Read(buf)
		for _, c := range buf {
			if int(c) < limit && len(out) < n {
				out = append(out, alphabet[int(c)%len(alphabet)])
			}
		}
	}
	return string(out)
}
