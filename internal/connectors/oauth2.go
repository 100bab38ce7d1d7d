package connectors

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// standard speaks OAuth 2.0 (RFC 6749) with PKCE (RFC 7636) to a provider of CONNECTORS_FILE, and OpenID Connect to one
// with an issuer. What the provider is like is in its profile; each step is one method that takes it.
type standard struct {
	client *Client
	info   Info
	entry  Entry
	secret string

	discovering chan struct{} // a semaphore of one: callers wait for one discovery, and can stop waiting
	mu          sync.Mutex    // guards what follows
	known       *profile
	freshUntil  time.Time
}

// standardRevoker is a standard provider that has, or may turn out to have, a revocation endpoint (RFC 7009).
type standardRevoker struct{ *standard }

var (
	_ Redirector = (*standard)(nil)
	_ Checker    = (*standard)(nil)
	_ Revoker    = standardRevoker{}
)

// profile says what a standard provider is like: its entry of CONNECTORS_FILE first, then what discovery found (RFC 8414,
// OpenID Connect Discovery), then the defaults of the RFCs. It does not change after it is made.
type profile struct {
	clientID, clientSecret string
	secretInBody           bool     // client_secret_post in place of client_secret_basic (RFC 6749 section 2.3.1)
	scopes                 []string // what is asked for, with openid where the provider knows it

	authorizeURL, tokenURL string
	revokeURL, userinfoURL string   // "" if there is none
	pushURL                string   // where authorization requests must be pushed to (RFC 9126); "" where they need not
	discovered             []string // those of the addresses that only the issuer's metadata names

	issuer     string             // "" without discovery
	openid     bool               // it speaks OpenID Connect
	selects    bool               // it lets the person select an account (OpenID Connect Core section 3.1.2.1)
	requireIss bool               // each callback carries iss (RFC 9207)
	keys       *oidc.RemoteKeySet // nil if ID tokens cannot be verified
	algorithms []string           // of ID tokens; none means RS256
}

// tokenResponse is what the token endpoint answered (RFC 6749 section 5.1, OpenID Connect Core section 3.1.3.3).
type tokenResponse struct {
	Token
	idToken string
	beside  object    // what the answer holds besides
	at      time.Time // when it was made, by the provider's clock if it said
}

// source says whose an address of the profile is.
func (p *profile) source(address string) source {
	if slices.Contains(p.discovered, address) {
		return fromProvider
	}
	return fromOperator
}

func (s *standard) Info() Info { return s.info }

// AuthorizationURL makes the authorization request (RFC 6749 section 4.1.1).
func (s *standard) AuthorizationURL(ctx context.Context, f Flow) (string, error) {
	p, err := s.profile(ctx)
	if err != nil {
		return "", err
	}
	q := url.Values{
		"response_type": {"code"}, "client_id": {p.clientID}, "redirect_uri": {f.CallbackURL}, "state": {f.State},
		"code_challenge": {s256(f.Verifier)}, "code_challenge_method": {"S256"},
	}
	if len(p.scopes) > 0 {
		q.Set("scope", strings.Join(p.scopes, " "))
	}
	if p.issuer != "" {
		q.Set("nonce", nonce(f))
	}
	if prompt := p.prompt(f); prompt != "" {
		q.Set("prompt", prompt)
	}
	if p.pushURL != "" {
		return s.push(ctx, p, q)
	}
	return withQuery(p.authorizeURL, q), nil
}

// prompt says what the provider shall ask the person (OpenID Connect Core section 3.1.2.1); "" leaves it to the provider, or to the
// entry, whose authorize_url may hold a prompt of its own.
func (p *profile) prompt(f Flow) string {
	var prompts []string
	if f.Another && p.selects {
		prompts = append(prompts, "select_account") // a session there would answer at once with the account that is connected already
	}
	if p.openid && slices.Contains(p.scopes, "offline_access") && !strings.Contains(p.authorizeURL, "prompt=") {
		prompts = append(prompts, "consent") // section 11: without it there may be no refresh token
	}
	return strings.Join(prompts, " ")
}

// push sends the authorization request to the provider and returns the address that stands for it (RFC 9126 sections 2 and 4).
func (s *standard) push(ctx context.Context, p *profile, q url.Values) (location string, err error) {
	form := maps.Clone(q)
	own, _ := url.Parse(p.authorizeURL) // it was checked, like any address
	for name := range own.Query() {
		if !form.Has(name) {
			form.Set(name, own.Query().Get(name))
		}
	}
	err = s.client.do(ctx, p.authenticated("push", p.pushURL, form), func(r response) error {
		uri := r.object().str("request_uri")
		if !r.ok() || uri == "" {
			if err := standardError(r, true); !r.ok() {
				return err
			}
			return r.unexpected("request_uri")
		}
		location = withQuery(p.authorizeURL, url.Values{"client_id": {p.clientID}, "request_uri": {uri}})
		return nil
	})
	return location, err
}

// s256 is a code challenge of RFC 7636 section 4.2.
func s256(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// nonce binds an ID token to a flow (OpenID Connect Core section 3.1.2.1).
func nonce(f Flow) string { return s256("nonce:" + f.Verifier) }

// Code returns the authorization code.
func (s *standard) Code(callback url.Values) string { return callback.Get("code") }

// Exchange makes the token request (RFC 6749 section 4.1.3) and finds out whose account it is.
func (s *standard) Exchange(ctx context.Context, f Flow, callback url.Values) (Grant, error) {
	p, err := s.profile(ctx)
	if err != nil {
		return Grant{}, err
	}
	// RFC 9207: another server's answer must not reach our token endpoint, nor count as this one's rejection.
	iss := callback.Get("iss")
	if p.issuer != "" && (iss != "" && iss != p.issuer || iss == "" && p.requireIss) {
		return Grant{}, &TemporaryError{Reason: ReasonWrongIssuer, Detail: "iss of the callback"}
	}
	if err := callbackError(callback); err != nil {
		return Grant{}, err
	}
	code := s.Code(callback)
	if code == "" {
		return Grant{}, &UnreadableError{Reason: ReasonNoCode, Detail: "callback: code is missing"}
	}
	t, err := s.requestToken(ctx, p, "exchange", url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {f.CallbackURL}, "code_verifier": {f.Verifier},
	})
	if err != nil {
		return Grant{}, err
	}
	missing := missingScopes(p.scopes, t.Scope)
	if len(t.Scope) == 0 {
		t.Scope = p.scopes // RFC 6749 section 5.1: a missing scope means as asked
	}
	account, err := s.identify(ctx, p, f, t)
	if err != nil {
		return Grant{}, err
	}
	return Grant{Token: t.Token, Account: account.named(besideToken(callback, t.beside, t.Access)), Missing: missing}, nil
}

// Refresh makes the request of RFC 6749 section 6.
func (s *standard) Refresh(ctx context.Context, g Grant) (Token, error) {
	if g.Refresh == "" {
		return Token{}, &RejectedError{Reason: "no-refresh-token", Unsent: true}
	}
	p, err := s.profile(ctx)
	if err != nil {
		return Token{}, err
	}
	t, err := s.requestToken(ctx, p, "refresh", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {g.Refresh}})
	return t.Token, err
}

// Revoke ends the refresh token, which ends its access tokens too (RFC 7009 section 2.1), then the access token for
// servers that leave it alive. If the second fails, that is no failure.
func (s standardRevoker) Revoke(ctx context.Context, g Grant) error {
	p, err := s.profile(ctx)
	if err != nil {
		return err
	}
	if p.revokeURL == "" {
		return ErrNotOffered
	}
	if g.Refresh == "" {
		return s.revokeToken(ctx, p, "access_token", g.Access)
	}
	if err := s.revokeToken(ctx, p, "refresh_token", g.Refresh); err != nil {
		return err
	}
	_ = s.revokeToken(ctx, p, "access_token", g.Access)
	return nil
}

// Check sends the token endpoint an empty request.
func (s *standard) Check(ctx context.Context) (CheckResult, error) {
	p, err := s.profile(ctx)
	if err != nil {
		return CheckResult{Address: s.entry.Issuer}, err
	}
	return s.client.check(ctx, request{name: "check", method: http.MethodPost, address: p.tokenURL, source: p.source(p.tokenURL), form: url.Values{}})
}

func (s *standard) requestToken(ctx context.Context, p *profile, name string, form url.Values) (t tokenResponse, err error) {
	err = s.client.do(ctx, p.authenticated(name, p.tokenURL, form), func(r response) (err error) {
		t.Token, err = standardToken(r, name == "exchange")
		t.beside = r.object().aroundToken()
		t.idToken, t.at = t.beside.str("id_token", "idToken"), r.receivedAt
		if !r.date.IsZero() {
			t.at = r.date
		}
		return err
	})
	return t, err
}

func (s *standard) revokeToken(ctx context.Context, p *profile, hint, token string) error {
	q := p.authenticated("revoke", p.revokeURL, url.Values{"token": {token}, "token_type_hint": {hint}})
	return s.client.do(ctx, q, func(r response) error {
		if r.ok() {
			return nil // the body means nothing (RFC 7009 section 2.2)
		}
		return standardError(r, false)
	})
}

// authenticated returns a request with our client's credentials (RFC 6749 section 2.3.1): in the body, or as HTTP Basic
// with both halves form-encoded.
func (p *profile) authenticated(name, address string, form url.Values) request {
	q := request{name: name, method: http.MethodPost, address: address, source: p.source(address), form: form}
	if p.secretInBody {
		form.Set("client_id", p.clientID)
		form.Set("client_secret", p.clientSecret)
	} else {
		q.user, q.password = url.QueryEscape(p.clientID), url.QueryEscape(p.clientSecret)
	}
	return q
}

// standardToken reads the token endpoint's response. Without a lifetime in it none is known.
func standardToken(r response, exchange bool) (Token, error) {
	o := r.object().aroundToken()
	access := o.accessToken("access_token", "accessToken")
	if !r.ok() || access == "" || o.str("error") != "" {
		return Token{}, standardError(r, exchange)
	}
	t := Token{
		Access: access, Type: o.tokenType("token_type", "tokenType"), Refresh: o.str("refresh_token", "refreshToken"), Scope: o.scopes("scope"),
		Lifetime: r.lifetime(o, access, 0, "expires_in", "expiresIn", "expires_at", "expiresAt", "expires"),
	}
	if t.Refresh != "" {
		t.RefreshLifetime = r.lifetime(o, t.Refresh, 0,
			"refresh_expires_in", "refresh_token_expires_in", "x_refresh_token_expires_in", "refreshTokenExpiresIn", "refresh_token_expires_at")
	}
	return usable(t)
}

// standardError judges by RFC 6749 section 5.2, also inside a 200, as some providers send it. A 401 that says nothing is
// a proxy's as often as the provider's. At an exchange invalid_request is about our own request, which is the same for
// every merchant.
func standardError(r response, exchange bool) error {
	if r.status >= 500 || r.status >= 300 && r.status < 400 {
		return r.unexpected()
	}
	switch faultOf(r) {
	case passing:
		return r.passing()
	case grantFault:
		return &RejectedError{Reason: "invalid_grant"}
	case clientFault:
		return &RejectedError{Reason: "invalid_client", ClientFault: true}
	}
	said := r.object().refusal()
	if code := said.has(requestCodes...); code != "" {
		return &RejectedError{Reason: code, ClientFault: true}
	}
	if code := said.has("access_denied"); code != "" {
		return &RejectedError{Reason: code}
	}
	if code := said.has("invalid_request"); exchange && code != "" {
		return &RejectedError{Reason: code, ClientFault: true}
	}
	return r.unexpected("access_token", "accessToken")
}
