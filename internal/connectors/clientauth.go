package connectors

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// ownClient is our registration with a provider, and how it proves itself at the token endpoint.
type ownClient struct {
	id, secret string
	method     string // basic, post, none or private_key_jwt; "" is basic
	key        *clientKey
	algorithms []string // those of assertions that discovery lists; none if it does not say
	now        func() time.Time
}

// authenticate adds our credentials to a request's parameters, or returns them as user and password of HTTP Basic, each
// form-encoded (RFC 6749 section 2.3.1). audience is the token endpoint's address.
func (c ownClient) authenticate(params url.Values, audience string) (user, password string, err error) {
	switch c.method {
	case "post":
		params.Set("client_id", c.id)
		params.Set("client_secret", c.secret)
	case "none":
		params.Set("client_id", c.id)
	case "private_key_jwt": // RFC 7523 section 2.2
		assertion, err := c.assertion(audience)
		if err != nil {
			return "", "", err
		}
		params.Set("client_id", c.id)
		params.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		params.Set("client_assertion", assertion)
	default:
		return url.QueryEscape(c.id), url.QueryEscape(c.secret), nil
	}
	return "", "", nil
}

// assertionLife is how long an assertion is good: a provider's clock may be behind ours.
const assertionLife = 5 * time.Minute

// assertion makes a JWT that only our key can have signed, for one use (RFC 7523 section 3).
func (c ownClient) assertion(audience string) (string, error) {
	now := c.now()
	claims, err := json.Marshal(map[string]any{
		"iss": c.id, "sub": c.id, "aud": audience, "jti": rand.Text(), "iat": now.Unix(), "exp": now.Add(assertionLife).Unix(),
	})
	if err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: c.key.algorithm(c.algorithms), Key: c.key.jwk}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", errClientKey
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		return "", errClientKey
	}
	return signed.CompactSerialize()
}

// errClientKey hides what go-jose says, which may quote the key.
var errClientKey = errors.New("the client's key cannot sign")

// clientKey is the private key of private_key_jwt.
type clientKey struct{ jwk jose.JSONWebKey }

// assertionAlgorithms are those that a client key may sign with, the likeliest first.
var assertionAlgorithms = map[string][]string{"RSA": {"RS256", "PS256"}, "EC": {"ES256"}}

// parseClientKey reads a private key, RSA of 2,048 bits or more or P-256, as PEM (PKCS #8, PKCS #1 or SEC 1) or as a JWK, which may
// name its kid and alg.
func parseClientKey(s string) (*clientKey, error) {
	var jwk jose.JSONWebKey
	if strings.HasPrefix(s, "{") {
		if jwk.UnmarshalJSON([]byte(s)) != nil || jwk.IsPublic() {
			return nil, errors.New("holds no private key as a JWK")
		}
	} else if jwk.Key = parsePEM(s); jwk.Key == nil {
		return nil, errors.New("holds no private key as PEM or JWK")
	}
	k := &clientKey{jwk}
	switch key := jwk.Key.(type) {
	case *rsa.PrivateKey:
		if key.N.BitLen() < 2048 {
			return nil, errors.New("holds an RSA key of less than 2,048 bits")
		}
	case *ecdsa.PrivateKey:
		if key.Curve != elliptic.P256() {
			return nil, errors.New("holds a key of another curve than P-256")
		}
	default:
		return nil, errors.New("holds a key that is neither RSA nor P-256")
	}
	if jwk.Algorithm != "" && !slices.Contains(assertionAlgorithms[k.kind()], jwk.Algorithm) {
		return nil, errors.New("holds a key for another algorithm than RS256, PS256 or ES256")
	}
	return k, nil
}

func parsePEM(s string) any {
	block, _ := pem.Decode([]byte(s))
	if block == nil {
		return nil
	}
	if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		return key
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key
	}
	if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return key
	}
	return nil
}

func (k *clientKey) kind() string {
	if _, ok := k.jwk.Key.(*rsa.PrivateKey); ok {
		return "RSA"
	}
	return "EC"
}

// algorithm returns the one that the key is for, else the first of its kind that the provider lists.
func (k *clientKey) algorithm(listed []string) jose.SignatureAlgorithm {
	possible := assertionAlgorithms[k.kind()]
	if k.jwk.Algorithm != "" {
		return jose.SignatureAlgorithm(k.jwk.Algorithm)
	}
	for _, one := range possible {
		if slices.Contains(listed, one) {
			return jose.SignatureAlgorithm(one)
		}
	}
	return jose.SignatureAlgorithm(possible[0])
}
