package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"sync"
)

// Signature version 4A signs with an ECDSA key that both sides derive from the
// secret. Page: "AWS Signature Version 4A"; the derivation is NIST SP 800-108 in
// counter mode.

// ecdsaKeys remembers derived keys: making one costs a scalar multiplication.
type ecdsaKeys struct {
	mu struct {
		sync.Mutex
		keys map[string]ecdsaKey
	}
}

type ecdsaKey struct {
	secret string
	public *ecdsa.PublicKey
}

func (k *ecdsaKeys) get(access, secret string) *ecdsa.PublicKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	if entry, ok := k.mu.keys[access]; ok && entry.secret == secret {
		return entry.public
	}
	if k.mu.keys == nil || len(k.mu.keys) >= keysKept {
		k.mu.keys = make(map[string]ecdsaKey)
	}
	var public *ecdsa.PublicKey
	if private := deriveECDSA(access, secret); private != nil {
		public = &private.PublicKey
	}
	k.mu.keys[access] = ecdsaKey{secret, public}
	return public
}

// deriveECDSA returns nil in the practically impossible case that no counter
// gives a key.
func deriveECDSA(access, secret string) *ecdsa.PrivateKey {
	curve := elliptic.P256()
	limit := new(big.Int).Sub(curve.Params().N, big.NewInt(2))
	for counter := 1; counter < 255; counter++ {
		h := hmac.New(sha256.New, []byte("AWS4A"+secret))
		h.Write([]byte{0, 0, 0, 1})
		h.Write([]byte(algorithm4A))
		h.Write([]byte{0})
		h.Write([]byte(access))
		h.Write([]byte{byte(counter)})
		h.Write(binary.BigEndian.AppendUint32(nil, 256))
		candidate := new(big.Int).SetBytes(h.Sum(nil))
		if candidate.Cmp(limit) > 0 {
			continue
		}
		d := candidate.Add(candidate, big.NewInt(1)).FillBytes(make([]byte, 32))
		private, err := ecdsa.ParseRawPrivateKey(curve, d)
		if err != nil {
			continue
		}
		return private
	}
	return nil
}

// verifyECDSA tells whether signature, in hexadecimal DER, is over text.
func verifyECDSA(key *ecdsa.PublicKey, text, signature string) bool {
	der, err := hex.DecodeString(signature)
	if err != nil || key == nil {
		return false
	}
	sum := sha256.Sum256([]byte(text))
	return ecdsa.VerifyASN1(key, sum[:], der)
}
