package connectors

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

func TestClientKeys(t *testing.T) {
	large, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	curve := func(c elliptic.Curve) *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	p256, p384 := curve(elliptic.P256()), curve(elliptic.P384())
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8 := func(key any) string {
		raw, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
	}
	jwk := func(k jose.JSONWebKey) string {
		raw, err := json.Marshal(k)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	pkcs1 := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(large)}))
	for _, one := range []struct {
		name, key        string
		listed           []string
		algorithm, fault string
	}{
		{"PKCS #8", pkcs8(large), nil, "RS256", ""},
		{"PKCS #1", pkcs1, nil, "RS256", ""},
		{"P-256", pkcs8(p256), nil, "ES256", ""},
		{"a provider that lists PS256 alone", pkcs8(large), []string{"PS256", "ES256"}, "PS256", ""},
		{"a provider that lists both", pkcs8(large), []string{"PS256", "RS256"}, "RS256", ""},
		{"a provider that lists others", pkcs8(large), []string{"RS512"}, "RS256", ""},
		{"a JWK's own algorithm goes first", jwk(jose.JSONWebKey{Key: large, Algorithm: "PS256"}), []string{"RS256"}, "PS256", ""},
		{"a JWK without one", jwk(jose.JSONWebKey{Key: p256}), nil, "ES256", ""},
		{"a JWK for encryption", jwk(jose.JSONWebKey{Key: large, Algorithm: "RSA-OAEP"}), nil, "", "another algorithm"},
		{"a public JWK", jwk(jose.JSONWebKey{Key: large.Public()}), nil, "", "no private key as a JWK"},
		{"1,024 bits", pkcs8(small), nil, "", "less than 2,048 bits"},
		{"P-384", pkcs8(p384), nil, "", "another curve"},
		{"Ed25519", pkcs8(edwards), nil, "", "neither RSA nor P-256"},
		{"a secret", "hunter2hunter2", nil, "", "no private key as PEM or JWK"},
		{"nothing", "", nil, "", "no private key as PEM or JWK"},
		{"JSON that is no key", `{"a":1}`, nil, "", "no private key as a JWK"},
	} {
		key, err := parseClientKey(one.key)
		switch {
		case one.fault != "":
			if err == nil || !strings.Contains(err.Error(), one.fault) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: %v, want %q", one.name, err, one.fault)
			}
		case err != nil:
			t.Errorf("%s: %v", one.name, err)
		case string(key.algorithm(one.listed)) != one.algorithm:
			t.Errorf("%s: %s, want %s", one.name, key.algorithm(one.listed), one.algorithm)
		}
	}
}
