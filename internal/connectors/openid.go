package connectors

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"hash"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// verifyIDToken verifies signature, issuer, audience and expiry, the last by the provider's own clock, and that the
// token belongs to this flow and this access token (OpenID Connect Core section 3.1.3.7).
func (p *profile) verifyIDToken(ctx context.Context, f Flow, t tokenResponse) (object, error) {
	keys := &keySet{keys: p.keys, secret: p.own.secret}
	algorithms := append(slices.Clone(symmetricAlgorithms), p.algorithms...)
	if len(p.algorithms) == 0 {
		algorithms = append(algorithms, oidc.RS256)
	}
	claims := unverifiedClaims(t.idToken) // verified when there is no fault
	verifier := oidc.NewVerifier(p.issuerFor(claims), keys, &oidc.Config{
		ClientID: p.own.id, SupportedSigningAlgs: algorithms, Now: func() time.Time { return t.at },
	})
	token, err := verifier.Verify(ctx, t.idToken)
	if keys.err != nil {
		return nil, keys.err
	}
	fault := ""
	switch azp := claims.str("azp"); {
	case claims == nil:
		fault = "is no JWT"
	case err != nil:
		fault = p.idTokenFault(claims, t.at)
	case token.Nonce != nonce(f) && (token.Nonce != "" || slices.Contains(p.scopes, "openid")):
		fault = "nonce is not this attempt's"
	case azp != "" && azp != p.own.id:
		fault = "azp is not our client"
	case token.AccessTokenHash != "" && token.VerifyAccessToken(t.Access) != nil:
		fault = "at_hash is not the access token's"
	}
	if fault != "" {
		return nil, &UnreadableError{Reason: ReasonIDToken, Detail: "id_token: " + fault}
	}
	return claims, nil
}

// tenantID stands in the issuer that Microsoft publishes for the tenant of whoever signs in, which the claim tid names.
const tenantID = "{tenantid}"

var tenantShape = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// issuerFor returns the issuer that a token with these claims must name.
func (p *profile) issuerFor(claims object) string {
	if tid := claims.str("tid"); tenantShape.MatchString(tid) {
		return strings.Replace(p.issuer, tenantID, tid, 1)
	}
	return p.issuer
}

// isIssuer says whether iss is the provider's: any tenant's where it has tenants.
func (p *profile) isIssuer(iss string) bool {
	tenant, ok := tenantOf(p.issuer, iss)
	return iss == p.issuer || ok && tenantShape.MatchString(tenant)
}

// tenantOf returns what is in the place of tenantID in an issuer. ok is false if the issuers differ otherwise.
func tenantOf(published, issuer string) (tenant string, ok bool) {
	before, after, ok := strings.Cut(published, tenantID)
	if !ok || len(issuer) <= len(before)+len(after) || !strings.HasPrefix(issuer, before) || !strings.HasSuffix(issuer, after) {
		return "", false
	}
	tenant = issuer[len(before) : len(issuer)-len(after)]
	return tenant, !strings.Contains(tenant, "/")
}

// isIssuerOf says whether the issuer that metadata names is the one that was asked (RFC 8414 section 3.3), but for a final slash and for
// tenantID.
func isIssuerOf(published, asked string) bool {
	published, asked = strings.TrimSuffix(published, "/"), strings.TrimSuffix(asked, "/")
	_, ok := tenantOf(published, asked)
	return ok || published == asked
}

// idTokenFault says why an ID token with these claims was not accepted.
func (p *profile) idTokenFault(claims object, at time.Time) string {
	expires, _ := parseTime(claims["exp"])
	aud := claims.strings("aud")
	if one, ok := claims["aud"].(string); ok {
		aud = []string{one}
	}
	switch {
	case claims.str("iss") != p.issuerFor(claims):
		return "iss is another issuer"
	case !slices.Contains(aud, p.own.id):
		return "aud is not our client"
	case expires.Before(at):
		return "exp has passed"
	}
	return "its signature does not verify, or is made with an algorithm that is not expected"
}

// symmetricAlgorithms sign with the client secret (OpenID Connect Core section 10.1). They count whatever discovery says:
// LINE signs so and does not list it. Who can sign so is the provider or us.
var symmetricAlgorithms = []string{"HS256", "HS384", "HS512"}

// algorithmOf returns the algorithm that a JWT names, or "".
func algorithmOf(jwt string) string {
	head, _, _ := strings.Cut(jwt, ".")
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(head, "="))
	if err != nil {
		return ""
	}
	return parseObject(raw).str("alg")
}

func symmetric(jwt string) bool { return slices.Contains(symmetricAlgorithms, algorithmOf(jwt)) }

// keySet verifies by the provider's keys, or by our client secret where the JWT says so, and keeps a failure to fetch
// the keys apart from a wrong signature: go-oidc reports both alike.
type keySet struct {
	keys   *oidc.RemoteKeySet // nil if there are none
	secret string
	err    error // why the keys could not be fetched
}

func (k *keySet) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	if symmetric(jwt) {
		return verifyMAC(jwt, k.secret)
	}
	if k.keys == nil {
		return nil, errSignature
	}
	payload, err := k.keys.VerifySignature(ctx, jwt)
	var temporary *TemporaryError
	var unreadable *UnreadableError
	var limited *RateLimitedError
	switch {
	case ctx.Err() != nil:
		k.err = &TemporaryError{Reason: "cancelled", cause: ctx.Err()}
	case errors.As(err, &limited):
		k.err = limited
	case errors.As(err, &temporary):
		k.err = temporary
	case errors.As(err, &unreadable):
		k.err = unreadable
	}
	return payload, err
}

var errSignature = errors.New("the signature does not verify")

// verifyMAC returns the payload of a JWT that is signed with a secret (RFC 7518 section 3.2).
func verifyMAC(jwt, secret string) ([]byte, error) {
	hashes := map[string]func() hash.Hash{"HS256": sha256.New, "HS384": sha512.New384, "HS512": sha512.New}
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 || secret == "" {
		return nil, errSignature
	}
	sum := hmac.New(hashes[algorithmOf(jwt)], []byte(secret))
	sum.Write([]byte(parts[0] + "." + parts[1]))
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || !hmac.Equal(signature, sum.Sum(nil)) {
		return nil, errSignature
	}
	return base64.RawURLEncoding.DecodeString(parts[1])
}

// remoteKeys returns the key set at an address. It fetches the keys when they are first needed.
func remoteKeys(client *Client, address string, from source) *oidc.RemoteKeySet {
	// go-oidc keeps the context and fetches with it later, for any caller.
	ctx := oidc.ClientContext(context.Background(), &http.Client{Transport: keyTransport{client, from}, Timeout: callTimeout})
	return oidc.NewRemoteKeySet(ctx, address)
}

// keyTransport lets go-oidc fetch keys within the Client's limits.
type keyTransport struct {
	client *Client
	source source
}

const (
	maxKeys    = 128 << 10 // bytes of a key set
	maxModulus = 8192      // bits of an RSA key: verifying with a greater one takes a minute and more
)

// RoundTrip returns an error for any response but a 200 that was read to its end and holds keys of ordinary size.
func (t keyTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	res, _, err := t.client.send(r.Context(), request{name: "keys", method: r.Method, address: r.URL.String(), source: t.source})
	if err == nil {
		err = res.rateLimited()
	}
	if err == nil && (res.status != http.StatusOK || res.object() == nil) {
		err = res.unexpected()
	}
	if err == nil {
		err = res.keyFault()
	}
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: res.status, Status: "200 OK", Header: res.header, Request: r, Body: io.NopCloser(bytes.NewReader(res.body)),
	}, nil
}

// keyFault returns an error for a key set, or a key in it, that is too large to work with.
func (r response) keyFault() error {
	if len(r.body) > maxKeys {
		return &UnreadableError{Reason: "too-large", Detail: "jwks_uri: more than 128 kB"}
	}
	keys, _ := r.object()["keys"].([]any)
	for _, key := range keys {
		members, _ := key.(map[string]any)
		if n := object(members).str("n"); base64.RawURLEncoding.DecodedLen(len(n)) > maxModulus/8+1 { // a leading zero is no bit
			return &UnreadableError{Reason: "too-large", Detail: "jwks_uri: an RSA key of more than 8,192 bits"}
		}
	}
	return nil
}
