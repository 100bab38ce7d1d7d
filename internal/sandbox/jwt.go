package sandbox

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
	"sync"
)

// signHS makes an HS256 JWT (RFC 7519) out of a header and claims in JSON.
func (s *Sandbox) signHS(header, claims any) string {
	input := joined(header, claims)
	mac := hmac.New(sha256.New, s.state.Key)
	mac.Write([]byte(input))
	return input + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// openHS reads the claims of an HS256 JWT of the sandbox's own into claims. It does not look at times.
func (s *Sandbox) openHS(jwt string, claims any) bool {
	dot := strings.LastIndexByte(jwt, '.')
	if dot < 0 {
		return false
	}
	input, signature := jwt[:dot], jwt[dot+1:]
	mac := hmac.New(sha256.New, s.state.Key)
	mac.Write([]byte(input))
	given, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil || !hmac.Equal(given, mac.Sum(nil)) {
		return false
	}
	_, payload, _ := strings.Cut(input, ".")
	raw, err := base64.RawURLEncoding.DecodeString(payload)
	return err == nil && json.Unmarshal(raw, claims) == nil
}

func joined(header, claims any) string {
	h, _ := json.Marshal(header)
	c, _ := json.Marshal(claims)
	return base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString(c)
}

// rsaKeys are made when first needed: making one takes longer than starting everything else.
type rsaKeys struct {
	mu   sync.Mutex
	keys map[string]*rsa.PrivateKey
}

func (k *rsaKeys) get(name string, bits int) (*rsa.PrivateKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if key := k.keys[name]; key != nil {
		return key, nil
	}
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, err
	}
	if k.keys == nil {
		k.keys = map[string]*rsa.PrivateKey{}
	}
	k.keys[name] = key
	return key, nil
}

// signRS makes an RS256 JWT.
func signRS(key *rsa.PrivateKey, header, claims any) (string, error) {
	input := joined(header, claims)
	sum := sha256.Sum256([]byte(input))
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	if err != nil {
		return "", err
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// keyID names a public key by its hash, so that a new key after a restart has a new name.
func keyID(key *rsa.PublicKey) string {
	sum := sha256.Sum256(key.N.Bytes())
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}

func jwk(key *rsa.PublicKey) map[string]string {
	return map[string]string{
		"kty": "RSA", "use": "sig", "alg": "RS256", "kid": keyID(key),
		"n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()), "e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(key.E)).Bytes()),
	}
}
