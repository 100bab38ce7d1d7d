package connectors

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// ErrNotOffered means that the provider has no address for what was asked, as its discovery shows only when asked.
var ErrNotOffered = errors.New("not offered by the provider")

// standard speaks OAuth 2.0 (RFC 6749) with PKCE (RFC 7636) to any provider of CONNECTORS_FILE, and OpenID Connect
// to those with an issuer.
type standard struct {
	wire   *Client
	info   Info
	entry  entry
	secret string
	gate   chan struct{} // held while discovering, so that callers wait for one answer and can stop waiting
	mu     sync.Mutex
	known  *metadata
}

// standardRevoker is a standard provider that has, or may turn out to have, a revocation address (RFC 7009).
type standardRevoker struct{ *standard }

var (
	_ Redirector = (*standard)(nil)
	_ Checker    = (*standard)(nil)
	_ Revoker    = standardRevoker{}
)

// metadata is what RFC 8414 and OpenID Connect Discovery call it, with the entry's own addresses put first.
type metadata struct {
	issuer, authorize, token, revoke, userinfo, jwks string
	algorithms                                       []string
	postOnly                                         bool // client_secret_post without client_secret_basic
	sendsIssuer                                      bool // RFC 9207
	connect                                          bool // OpenID Connect: knows the scope openid
	keys                                             *oidc.RemoteKeySet
	found                                            time.Time
}

func (s *standard) Info() Info { return s.info }

func (s *standard) AuthorizationURL(ctx context.Context, f Flow) (string, error) {
	m, err := s.metadata(ctx)
	if err != nil {
		return "", err
	}
	q := url.Values{
		"response_type": {"code"}, "client_id": {s.entry.ClientID}, "redirect_uri": {f.CallbackURL}, "state": {f.State},
		"code_challenge": {derived("", f.Verifier)}, "code_challenge_method": {"S256"},
	}
	if scopes := s.scopes(m); len(scopes) > 0 {
		q.Set("scope", strings.Join(scopes, " "))
	}
	if m.issuer != "" {
		q.Set("nonce", derived("nonce:", f.Verifier))
	}
	return withQuery(m.authorize, q), nil
}

// scopes are the entry's, with openid where the provider speaks OpenID Connect: without it nobody is named.
func (s *standard) scopes(m *metadata) []string {
	if !m.connect || slices.Contains(s.entry.Scopes, "openid") {
		return s.entry.Scopes
	}
	return append([]string{"openid"}, s.entry.Scopes...)
}

// derived is the S256 challenge of the verifier, or with a prefix another value bound to the same flow.
func derived(prefix, verifier string) string {
	sum := sha256.Sum256([]byte(prefix + verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (s *standard) Code(callback url.Values) string { return callback.Get("code") }

func (s *standard) Exchange(ctx context.Context, f Flow, callback url.Values) (Grant, error) {
	m, err := s.metadata(ctx)
	if err != nil {
		return Grant{}, err
	}
	// RFC 9207: another server's answer must not reach our token address, nor be taken for this one's refusal.
	iss := callback.Get("iss")
	if m.issuer != "" && (iss != "" && iss != m.issuer || iss == "" && m.sendsIssuer) {
		return Grant{}, &TemporaryError{Reason: ReasonWrongIssuer}
	}
	if err := callbackError(callback); err != nil {
		return Grant{}, err
	}
	code := s.Code(callback)
	if code == "" {
		return Grant{}, &TemporaryError{Reason: "no-answer"}
	}
	var g Grant
	var idToken string
	var answered time.Time
	q := s.post(m, "exchange", m.token, url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {f.CallbackURL}, "code_verifier": {f.Verifier},
	})
	err = s.wire.do(ctx, q, func(a answer) (err error) {
		g.Token, err = standardToken(a, s.scopes(m))
		idToken, answered = a.object().text("id_token"), a.now
		if !a.at.IsZero() {
			answered = a.at
		}
		return err
	})
	if err != nil {
		return Grant{}, err
	}
	g.Account, err = s.account(ctx, m, f, g.Access, idToken, answered)
	if err != nil {
		return Grant{}, err
	}
	return g, nil
}

func (s *standard) Refresh(ctx context.Context, g Grant) (t Token, err error) {
	if g.Refresh == "" {
		return Token{}, &RejectedError{Reason: "no-refresh-token", Unsent: true}
	}
	m, err := s.metadata(ctx)
	if err != nil {
		return Token{}, err
	}
	q := s.post(m, "refresh", m.token, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {g.Refresh}})
	err = s.wire.do(ctx, q, func(a answer) (err error) {
		t, err = standardToken(a, nil)
		return err
	})
	return t, err
}

// Revoke ends the refresh token, which ends its access tokens too (RFC 7009 section 2.1), then the access token by
// itself for servers that do not: failing at that is no failure.
func (r standardRevoker) Revoke(ctx context.Context, g Grant) error {
	m, err := r.metadata(ctx)
	if err != nil {
		return err
	}
	if m.revoke == "" {
		return ErrNotOffered
	}
	if g.Refresh == "" {
		return r.end(ctx, m, "access_token", g.Access)
	}
	if err := r.end(ctx, m, "refresh_token", g.Refresh); err != nil {
		return err
	}
	_ = r.end(ctx, m, "access_token", g.Access)
	return nil
}

func (s *standard) end(ctx context.Context, m *metadata, kind, token string) error {
	q := s.post(m, "revoke", m.revoke, url.Values{"token": {token}, "token_type_hint": {kind}})
	return s.wire.do(ctx, q, func(a answer) error {
		if a.ok() {
			return nil // the body means nothing
		}
		return standardRefusal(a)
	})
}

func (s *standard) Check(ctx context.Context) (CheckResult, error) {
	m, err := s.metadata(ctx)
	if err != nil {
		return CheckResult{Address: s.entry.Issuer}, err
	}
	return s.wire.check(ctx, request{name: "check", method: http.MethodPost, address: m.token, form: url.Values{}})
}

// post authenticates as RFC 6749 section 2.3.1 has it: Basic with both halves form-encoded, or in the body.
func (s *standard) post(m *metadata, name, address string, form url.Values) request {
	q := request{name: name, method: http.MethodPost, address: address, form: form}
	if s.entry.ClientAuth == "post" || s.entry.ClientAuth == "" && m.postOnly {
		form.Set("client_id", s.entry.ClientID)
		form.Set("client_secret", s.secret)
	} else {
		q.user, q.password = url.QueryEscape(s.entry.ClientID), url.QueryEscape(s.secret)
	}
	return q
}

func standardToken(a answer, asked []string) (Token, error) {
	o := a.object()
	access := o.accessToken("access_token")
	if !a.ok() || access == "" || o.text("error") != "" {
		return Token{}, standardRefusal(a)
	}
	t := Token{
		Access: access, Type: o.tokenType("token_type"), Refresh: o.text("refresh_token"), Scope: o.words("scope"),
		Lifetime: a.lifetime(o, access, time.Hour, "expires_in", "expires_at"),
	}
	if len(t.Scope) == 0 {
		t.Scope = asked // RFC 6749 section 5.1: left out means as asked
	}
	if t.Refresh != "" {
		t.RefreshLifetime = a.lifetime(o, t.Refresh, 0, "refresh_expires_in", "refresh_token_expires_in")
	}
	return t, nil
}

// standardRefusal judges by RFC 6749 section 5.2, also inside a 200 as some providers send it. A 401 without a code
// is what a refused client gets.
func standardRefusal(a answer) error {
	if a.status >= 500 || a.status >= 300 && a.status < 400 {
		return a.unusable()
	}
	code := a.object().text("error")
	switch blameOf(code, "") {
	case grant:
		return &RejectedError{Reason: "invalid_grant"}
	case client:
		return &RejectedError{Reason: "invalid_client", ClientFault: true}
	}
	switch code {
	case "access_denied":
		return &RejectedError{Reason: code}
	case "invalid_scope", "unsupported_grant_type", "invalid_target":
		return &RejectedError{Reason: code, ClientFault: true}
	}
	if a.status == http.StatusUnauthorized {
		return &RejectedError{Reason: "unauthorized", ClientFault: true}
	}
	return a.unusable()
}

// account learns whose access it is: from the ID token, proved; what that does not tell, from userinfo.
func (s *standard) account(ctx context.Context, m *metadata, f Flow, access, idToken string, at time.Time) (Account, error) {
	var said object
	if m.keys != nil && idToken != "" {
		var err error
		if said, err = s.verify(ctx, m, f, access, idToken, at); err != nil {
			return Account{}, err
		}
	}
	account := standardAccount(said)
	if m.userinfo == "" || account.ID != "" && account.Name != account.ID {
		return account, nil
	}
	var more Account
	q := request{name: "userinfo", method: http.MethodGet, address: m.userinfo, bearer: access}
	unnamed := false
	err := s.wire.do(ctx, q, func(a answer) error {
		unnamed = a.status == http.StatusForbidden && (a.code() == "insufficient_scope" || strings.Contains(a.header.Get("WWW-Authenticate"), "insufficient_scope"))
		if !a.ok() || a.object() == nil {
			return a.unusable()
		}
		more = standardAccount(a.object())
		if more.ID == "" {
			return &TemporaryError{Reason: ReasonNoAccount}
		}
		return nil
	})
	switch {
	case unnamed: // the scopes asked for do not reach it (RFC 6750 section 3.1)
		return account, nil
	case account.ID == "":
		return more, err
	case err == nil && more.ID == account.ID: // OpenID Connect Core section 5.3.2: another's userinfo is not used
		return more, nil
	}
	return account, nil
}

// standardAccount reads the claims of OpenID Connect Core section 5.1, or the id of a userinfo that knows none.
func standardAccount(o object) Account {
	account := Account{ID: accountID(o.label("sub", "id", "user_id"))}
	account.Name = accountName(o.label("name", "preferred_username", "nickname", "login", "email"))
	if account.Name == "" {
		account.Name = account.ID
	}
	for _, key := range []string{"name", "preferred_username", "login", "email", "organization", "company"} {
		if value := o.label(key); value != "" {
			account.Details = append(account.Details, Detail{key, value})
		}
	}
	return account
}

// verify proves an ID token: signature, issuer, audience, expiry by the provider's own clock, and that it belongs to
// this flow and this access token.
func (s *standard) verify(ctx context.Context, m *metadata, f Flow, access, raw string, at time.Time) (object, error) {
	keys := &noted{set: m.keys}
	verifier := oidc.NewVerifier(m.issuer, keys, &oidc.Config{
		ClientID: s.entry.ClientID, SupportedSigningAlgs: m.algorithms, Now: func() time.Time { return at },
	})
	token, err := verifier.Verify(ctx, raw)
	if keys.err != nil {
		return nil, keys.err
	}
	if err != nil {
		return nil, &TemporaryError{Reason: "id-token"}
	}
	said := claims(raw)
	party := said.text("azp")
	ours := token.Nonce == derived("nonce:", f.Verifier) || token.Nonce == "" && !slices.Contains(s.scopes(m), "openid")
	if !ours || party != "" && party != s.entry.ClientID || token.AccessTokenHash != "" && token.VerifyAccessToken(access) != nil {
		return nil, &TemporaryError{Reason: "id-token"}
	}
	return said, nil
}

// noted keeps the trouble of fetching keys apart from a signature that is wrong, which go-oidc reports alike.
type noted struct {
	set *oidc.RemoteKeySet
	err error
}

func (n *noted) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	payload, err := n.set.VerifySignature(ctx, jwt)
	var trouble *TemporaryError
	var later *RateLimitedError
	switch {
	case ctx.Err() != nil:
		n.err = &TemporaryError{Reason: "cancelled", cause: ctx.Err()}
	case errors.As(err, &later):
		n.err = later
	case errors.As(err, &trouble):
		n.err = trouble
	}
	return payload, err
}

// RoundTrip lets go-oidc fetch keys under the wire's own limits. Anything but a 200 that was read whole is an error.
func (w *Client) RoundTrip(r *http.Request) (*http.Response, error) {
	a, _, err := w.send(r.Context(), request{name: "keys", method: r.Method, address: r.URL.String()})
	if err == nil {
		err = a.wait()
	}
	if err == nil && (a.status != http.StatusOK || a.object() == nil) {
		err = a.unusable()
	}
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: a.status, Status: "200 OK", Header: a.header, Request: r,
		Body: io.NopCloser(strings.NewReader(string(a.body))),
	}, nil
}
