package blob

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/zeebo/xxh3"
)

const (
	magic      = "skblob1"
	saltSize   = 32
	headerSize = len(magic) + 1 + saltSize
	frameSize  = 64 << 10 // content
	tagSize    = 16
	sealedSize = frameSize + tagSize
)

const (
	plainMode     = 'p'
	encryptedMode = 'e'
)

// frames makes and checks the frames of one file.
type frames struct {
	aead cipher.AEAD // nil for a plain blob
}

// newFrames returns the frames of a file with this salt under the caller's key.
func newFrames(key, salt []byte) (frames, error) {
	if key == nil {
		return frames{}, nil
	}
	if len(key) != KeySize {
		return frames{}, ErrKey
	}
	own, err := hkdf.Key(sha256.New, key, salt, "skerry blob", KeySize)
	if err != nil {
		return frames{}, fmt.Errorf("blob: derive key: %w", err)
	}
	block, err := aes.NewCipher(own)
	if err != nil {
		return frames{}, fmt.Errorf("blob: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	return frames{aead}, err
}

func nonce(n int64, last bool) (b [12]byte) {
	binary.BigEndian.PutUint64(b[:8], uint64(n))
	if last {
		b[8] = 1
	}
	return b
}

func sum(n int64, last bool, content []byte) [16]byte {
	seed := uint64(n) << 1
	if last {
		seed |= 1
	}
	return xxh3.Hash128Seed(content, seed).Bytes()
}

// seal turns buf's content into a frame in place; buf has room for the tag.
func (f frames) seal(buf []byte, n int64, last bool) []byte {
	if f.aead == nil {
		tag := sum(n, last, buf)
		return append(buf, tag[:]...)
	}
	iv := nonce(n, last)
	return f.aead.Seal(buf[:0], iv[:], buf, nil)
}

// open checks a frame and appends its content to dst, which may be frame[:0].
func (f frames) open(dst, frame []byte, n int64, last bool) ([]byte, error) {
	if len(frame) < tagSize {
		return nil, ErrDamaged
	}
	if f.aead != nil {
		iv := nonce(n, last)
		out, err := f.aead.Open(dst, iv[:], frame, nil)
		if err != nil {
			return nil, ErrDamaged
		}
		return out, nil
	}
	content := frame[:len(frame)-tagSize]
	if sum(n, last, content) != [16]byte(frame[len(content):]) {
		return nil, ErrDamaged
	}
	return append(dst, content...), nil
}

// buffers hold the frames of one write or read of the disk.
const burst = 4 // frames

var buffers = sync.Pool{New: func() any { return new([burst * sealedSize]byte) }}

// Seal encrypts a small content to be kept inline in a row: random salt, then the
// sealed content. Errors: ErrKey.
func Seal(key, content []byte) ([]byte, error) {
	salt := make([]byte, saltSize, saltSize+len(content)+tagSize)
	_, _ = rand.Read(salt) // never fails, by its contract
	f, err := newFrames(key, salt)
	if err != nil || f.aead == nil {
		return nil, ErrKey
	}
	iv := nonce(0, true)
	return f.aead.Seal(salt, iv[:], content, nil), nil
}

// Unseal returns the content that Seal was given. Errors: ErrKey, ErrDamaged.
func Unseal(key, sealed []byte) ([]byte, error) {
	if len(sealed) < saltSize+tagSize {
		return nil, ErrDamaged
	}
	f, err := newFrames(key, sealed[:saltSize])
	if err != nil || f.aead == nil {
		return nil, ErrKey
	}
	return f.open(nil, sealed[saltSize:], 0, true)
}
