// Package ids makes the random names that AWS gives to things: request ids,
// access keys, unique ids of IAM, resource ids.
package ids

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
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

// AccessKey returns an access key id of 20 characters that carries its account,
// as AWS's do: of the 80 bits behind the prefix (AKIA, ASIA), the first is set and
// the account's number ends seven bits before the end of the sixth byte.
func AccessKey(prefix, account string) string {
	var b [10]byte
	_, _ = rand.Read(b[:]) // never fails, by its contract
	n, err := strconv.ParseUint(account, 10, 40)
	if err != nil {
		return Unique(prefix, 20)
	}
	var head [8]byte
	binary.BigEndian.PutUint64(head[:], 1<<47|n<<7|uint64(b[5]&0x7f))
	copy(b[:6], head[2:])
	return prefix + base32.StdEncoding.EncodeToString(b[:])
}

// AccessKeyAccount returns the account that an access key id carries; false if
// the text cannot be one.
func AccessKeyAccount(id string) (string, bool) {
	if len(id) != 20 {
		return "", false
	}
	b, err := base32.StdEncoding.DecodeString(id[4:])
	if err != nil {
		return "", false
	}
	n := binary.BigEndian.Uint64(append([]byte{0, 0}, b[:6]...)) & (1<<47 - 1) >> 7
	return fmt.Sprintf("%012d", n), n < 1e12
}
