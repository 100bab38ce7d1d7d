package pg

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
)

// Secret is a random token that is shown once and stored only as its hash.
type Secret string

// NewSecret returns 32 random bytes in base64url, which fits an address and a cookie.
func NewSecret() Secret {
	b := make([]byte, 32)
	rand.Read(b) // never fails: it ends the program instead
	return Secret(base64.RawURLEncoding.EncodeToString(b))
}

// Hash is the SHA-256 under which a secret is stored.
func (s Secret) Hash() []byte {
	sum := sha256.Sum256([]byte(s))
	return sum[:]
}

// String keeps a secret out of prints; convert it to string on purpose.
func (Secret) String() string { return hidden }

// GoString keeps %#v from printing a secret.
func (Secret) GoString() string { return hidden }

const hidden = "•••"
