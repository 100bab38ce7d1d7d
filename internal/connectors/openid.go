package connectors

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// identify finds out whose account it is: from the ID token, verified, and what that does not say from userinfo.
func (s *standard) identify(ctx context.Context, p *profile, f Flow, t tokenResponse) (Account, error) {
	var claims object
	if p.keys != nil && t.idToken != "" {
		var err error
		if claims, err = p.verifyIDToken(ctx, f, t); err != nil {
			return Account{}, err
		}
	}
	account := standardAccount(claims)
	if p.userinfoURL == "" || account.ID != "" && account.Name != account.ID {
		return account, nil
	}
	info, reached, err := s.userinfo(ctx, p, t.Access)
	switch {
	case !reached:
		return account, nil
	case account.ID == "":
		return info, err
	case err == nil && info.ID == account.ID: // OpenID Connect Core section 5.3.2: another account's userinfo is not used
		return info, nil
	}
	return account, nil
}

// userinfo asks the userinfo endpoint (OpenID Connect Core section 5.3). reached is false if the token's scopes do not
// cover it (RFC 6750 section 3.1).
func (s *standard) userinfo(ctx context.Context, p *profile, access string) (account Account, reached bool, err error) {
	reached = true
	q := request{name: "userinfo", method: http.MethodGet, address: p.userinfoURL, bearer: access}
	err = s.client.do(ctx, q, func(r response) error {
		reached = r.status != http.StatusForbidden ||
			r.errorCode() != "insufficient_scope" && !strings.Contains(r.header.Get("WWW-Authenticate"), "insufficient_scope")
		if !r.ok() || r.object() == nil {
			return r.unexpected()
		}
		account = standardAccount(r.object())
		if account.ID == "" {
			return &TemporaryError{Reason: ReasonNoAccount}
		}
		return nil
	})
	return account, reached, err
}

// standardAccount reads the claims of OpenID Connect Core section 5.1, or the id of a userinfo that does not know them.
func standardAccount(o object) Account {
	account := Account{ID: accountID(o.displayString("sub", "id", "user_id"))}
	account.Name = accountName(o.displayString("name", "preferred_username", "nickname", "login", "email"))
	if account.Name == "" {
		account.Name = account.ID
	}
	for _, key := range []string{"name", "preferred_username", "login", "email", "organization", "company"} {
		if value := o.displayString(key); value != "" {
			account.Details = append(account.Details, Detail{key, value})
		}
	}
	return account
}

// verifyIDToken verifies signature, issuer, audience and expiry, the last by the provider's own clock, and that the
// token belongs to this flow and this access token (OpenID Connect Core section 3.1.3.7).
func (p *profile) verifyIDToken(ctx context.Context, f Flow, t tokenResponse) (object, error) {
	keys := &keySet{keys: p.keys}
	verifier := oidc.NewVerifier(p.issuer, keys, &oidc.Config{
		ClientID: p.clientID, SupportedSigningAlgs: p.algorithms, Now: func() time.Time { return t.at },
	})
	token, err := verifier.Verify(ctx, t.idToken)
	if keys.err != nil {
		return nil, keys.err
	}
	if err != nil {
		return nil, &TemporaryError{Reason: "id-token"}
	}
	claims := unverifiedClaims(t.idToken) // verified above
	azp := claims.str("azp")
	ofFlow := token.Nonce == nonce(f) || token.Nonce == "" && !slices.Contains(p.scopes, "openid")
	if !ofFlow || azp != "" && azp != p.clientID || token.AccessTokenHash != "" && token.VerifyAccessToken(t.Access) != nil {
		return nil, &TemporaryError{Reason: "id-token"}
	}
	return claims, nil
}

// keySet keeps a failure to fetch the keys apart from a wrong signature: go-oidc reports both alike.
type keySet struct {
	keys *oidc.RemoteKeySet
	err  error // why the keys could not be fetched
}

func (k *keySet) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	payload, err := k.keys.VerifySignature(ctx, jwt)
	var temporary *TemporaryError
	var limited *RateLimitedError
	switch {
	case ctx.Err() != nil:
		k.err = &TemporaryError{Reason: "cancelled", cause: ctx.Err()}
	case errors.As(err, &limited):
		k.err = limited
	case errors.As(err, &temporary):
		k.err = temporary
	}
	return payload, err
}

// remoteKeys returns the key set at an address. It fetches the keys when they are first needed.
func remoteKeys(client *Client, address string) *oidc.RemoteKeySet {
	// go-oidc keeps the context and fetches with it later, for any caller.
	ctx := oidc.ClientContext(context.Background(), &http.Client{Transport: keyTransport{client}, Timeout: callTimeout})
	return oidc.NewRemoteKeySet(ctx, address)
}

// keyTransport lets go-oidc fetch keys within the Client's limits.
type keyTransport struct{ client *Client }

// RoundTrip returns an error for any response but a 200 that was read to its end.
func (t keyTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	res, _, err := t.client.send(r.Context(), request{name: "keys", method: r.Method, address: r.URL.String()})
	if err == nil {
		err = res.rateLimited()
	}
	if err == nil && (res.status != http.StatusOK || res.object() == nil) {
		err = res.unexpected()
	}
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: res.status, Status: "200 OK", Header: res.header, Request: r, Body: io.NopCloser(bytes.NewReader(res.body)),
	}, nil
}
