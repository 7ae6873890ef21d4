package s3

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"

	"skerry/internal/base/awserr"
	"skerry/internal/base/ids"
	"skerry/internal/store"
)

// Every object has a data key of its own (AES-256). The object's row keeps it
// encrypted: with a master key of the server (SSE-S3), or with the customer's
// key (SSE-C), which is nowhere stored: that a key is the right one shows in that
// it opens the data key. Each part is encrypted with a key made of the data key
// and the part's salt, so that no key is used for two texts.

const keySize = 32

// vault holds the master key that seals new objects. It is a cache of a row.
type vault struct {
	store *store.DB
	mu    struct {
		sync.Mutex
		current string
		keys    map[string][]byte
	}
}

// master returns the master key of an id, and the current one for an empty id,
// which is made and stored when there is none.
func (v *vault) master(ctx context.Context, id string) (string, []byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if id == "" {
		id = v.mu.current
	}
	if key := v.mu.keys[id]; key != nil {
		return id, key, nil
	}
	var row *masterRow
	err := v.store.Update(ctx, func(tx *store.Tx) (err error) {
		row, err = findMaster(tx, id)
		return err
	})
	if err != nil {
		return "", nil, fmt.Errorf("s3: master key %q: %w", id, err)
	}
	if v.mu.keys == nil {
		v.mu.keys = map[string][]byte{}
	}
	v.mu.keys[row.ID] = row.Key
	if id == "" {
		v.mu.current = row.ID
	}
	return row.ID, row.Key, nil
}

func findMaster(tx *store.Tx, id string) (*masterRow, error) {
	if id != "" {
		return masters.Get(tx, store.K(id))
	}
	for row, err := range masters.Scan(tx, store.Range{}) {
		return row, err
	}
	row := &masterRow{ID: ids.Hex(16), Key: random(keySize)}
	return row, masters.Insert(tx, row)
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, by its contract
	return b
}

// customerKey is what the SSE-C headers of a request say; nil means none.
type customerKey struct {
	key []byte
	md5 string
}

// parseCustomerKey checks the three SSE-C headers.
func parseCustomerKey(algorithm, key, sum *string) (*customerKey, error) {
	if algorithm == nil && key == nil && sum == nil {
		return nil, nil
	}
	if algorithm == nil {
		return nil, invalidArgument("x-amz-server-side-encryption", "null", "Requests specifying Server Side Encryption with Customer provided keys must provide a valid encryption algorithm.")
	}
	if *algorithm != "AES256" {
		return nil, awserr.New(400, "InvalidEncryptionAlgorithmError", "The encryption request that you specified is not valid. The valid value is AES256.").
			With("ArgumentName", "x-amz-server-side-encryption-customer-algorithm").With("ArgumentValue", *algorithm)
	}
	raw, err := base64.StdEncoding.DecodeString(value(key))
	if err != nil || len(raw) != keySize {
		return nil, invalidArgument("x-amz-server-side-encryption", "null", "Requests specifying Server Side Encryption with Customer provided keys must provide an appropriate secret key.")
	}
	if sum == nil {
		return nil, invalidArgument("x-amz-server-side-encryption", "null", "Requests specifying Server Side Encryption with Customer provided keys must provide the client calculated MD5 of the secret key.")
	}
	got := md5.Sum(raw)
	if base64.StdEncoding.EncodeToString(got[:]) != *sum {
		return nil, invalidArgument("x-amz-server-side-encryption", "null", "The calculated MD5 hash of the key did not match the hash that was provided.")
	}
	return &customerKey{raw, *sum}, nil
}

// newSeal makes a data key and seals it.
func (s *Service) newSeal(ctx context.Context, c *customerKey) (sealRow, []byte, error) {
	key := random(keySize)
	if c != nil {
		return sealRow{Key: wrap(c.key, key), MD5: c.md5}, key, nil
	}
	id, master, err := s.vault.master(ctx, "")
	if err != nil {
		return sealRow{}, nil, err
	}
	return sealRow{Key: wrap(master, key), Master: id}, key, nil
}

// open returns the data key of a stored seal. A customer's key that is missing,
// unwanted or wrong answers as S3 does.
func (s *Service) open(ctx context.Context, seal sealRow, c *customerKey) ([]byte, error) {
	if !seal.customer() {
		if c != nil {
			return nil, invalidRequest("The encryption parameters are not applicable to this object.")
		}
		_, master, err := s.vault.master(ctx, seal.Master)
		if err != nil {
			return nil, err
		}
		return unwrap(master, seal.Key)
	}
	if c == nil {
		return nil, invalidRequest("The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object.")
	}
	key, err := unwrap(c.key, seal.Key)
	if err != nil {
		return nil, awserr.New(403, "AccessDenied", "Requests specifying Server Side Encryption with Customer provided keys must provide the correct secret key.")
	}
	return key, nil
}

// partKey makes a part's key of the data key and the part's salt.
func partKey(dataKey, salt []byte) []byte {
	h := hmac.New(sha256.New, dataKey)
	h.Write(salt)
	return h.Sum(nil)
}

// keyedETag is the ETag of an object under a customer's key: as on S3 it is not
// the MD5 digest, which would tell of the content.
func keyedETag(dataKey, sum []byte) string {
	h := hmac.New(sha256.New, dataKey)
	h.Write(sum)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

var errSeal = errors.New("s3: the key does not open this")

// wrap encrypts a text with AES-256-GCM; the random nonce stands in front.
func wrap(key, text []byte) []byte {
	aead := gcm(key)
	nonce := random(aead.NonceSize())
	return aead.Seal(nonce, nonce, text, nil)
}

func unwrap(key, sealed []byte) ([]byte, error) {
	aead := gcm(key)
	if len(sealed) < aead.NonceSize() {
		return nil, errSeal
	}
	n := aead.NonceSize()
	text, err := aead.Open(nil, sealed[:n], sealed[n:], nil)
	if err != nil {
		return nil, errSeal
	}
	return text, nil
}

// gcm panics on keys that are not 32 bytes long: they are all ours or checked.
func gcm(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err == nil {
		var aead cipher.AEAD
		if aead, err = cipher.NewGCM(block); err == nil {
			return aead
		}
	}
	panic("s3: " + err.Error())
}
